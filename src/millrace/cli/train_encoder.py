"""`millrace train encoder`: from a folder of examples to a model that serves."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

import click
import msgspec
from msgspec.structs import FieldInfo

from millrace.cli.frame import json_option, print_json, say
from millrace.feed.recipe import EncoderRecipe
from millrace.kernel.clock import SystemClock

if TYPE_CHECKING:
    from millrace.feed.encoder.learner import Progress, Trained

TELL_EVERY_SECONDS = 10.0

HELP = {
    "loss": "What is made small.",
    "temperature": "Cosines are divided by it.",
    "hard": "Posts per pair that were shown and left.",
    "random": "Posts per batch that are drawn from all that could have been shown.",
    "log_q": "Correct for posts that are in batches often.",
    "history": "What of a member's past counts.",
    "history_in": "Vectors of posts beside the profile's, or words in the prompt.",
    "profile_weight": "Engagements of this moment that a profile weighs like, to begin with.",
    "half_life_days": "After which an engagement counts half, to begin with.",
    "history_posts_max": "Posts of a pooled history: the newest ones.",
    "learn_pooling": "Learn these weights too.",
    "pooling_rate": "How quickly; of their logarithms.",
    "memory_negatives": "Posts per batch that stood at a moment, from the memory of vectors.",
    "later_positives": "What a member engaged with afterwards, and stood already, is one as well.",
    "memory_posts_max": "Posts whose vectors are remembered while training.",
    "refresh_every": "Steps after which all that is remembered is computed anew; 0: never.",
    "gradient_through": "Texts that are learned from where histories are pooled.",
    "empty_history_share": "Of the pairs; they teach what to do with a profile alone.",
    "matryoshka": "Nested lengths of a vector, each of which is to be good by itself.",
    "matryoshka_weights": "One for each length. Default: all the same.",
    "pooling": "How the states of a text become one vector.",
    "numbers": "How a post's prompt says how popular it is.",
    "same_community": "The posts of a batch come from one community.",
    "batch": "Pairs per step; of any size.",
    "learning_rate": "The highest one.",
    "warm_up": "Share of the steps over which the rate rises; then it falls.",
    "weight_decay": "Of matrices.",
    "clip": "The longest gradient.",
    "dropout": "Of all layers that have it.",
    "steps": "At most so many.",
    "seed": "Of the order and of all that is drawn.",
    "post_tokens_max": "Of a post's prompt while training.",
    "memory_tokens_max": "Tokens whose graph is held at once; a larger batch goes in chunks. "
    "0: what is quick on the device.",
    "precision": "Numbers that are computed in; weights stay in fp32.",
    "held_back": "Share of the moments, the last ones, that is asked about and not learned from.",
    "evaluate_every": "Steps from one look at recall to the next.",
    "patience": "Looks without a better one before it ends; 0: never early.",
}
"""What the option of each field of a recipe says."""

Command = Callable[..., None]


def recipe_options(command: Command) -> Command:
    """Give a command an option for each field of a recipe; what is not given is None."""
    for field in reversed(msgspec.structs.fields(EncoderRecipe)):
        command = _option(field)(command)
    return command


def _option(field: FieldInfo) -> Callable[[Command], Command]:
    """Return the option of one field."""
    flag = "--" + field.name.replace("_", "-")
    text = f"{HELP[field.name]}  [default: {_shown(field.default)}]"
    if field.type is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=text)
    if get_origin(field.type) is Literal:
        kind: Any = click.Choice(get_args(field.type))
    elif get_origin(field.type) is tuple:
        return click.option(flag, field.name, metavar="NUMBERS", help=text)
    else:
        kind = field.type
    return click.option(flag, field.name, type=kind, help=text)


def _shown(value: object) -> str:
    """Return how a default is written."""
    if isinstance(value, tuple):
        return ",".join(str(part) for part in cast("tuple[object, ...]", value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


@click.command(
    "encoder",
    epilog="\b\nExamples:\n  millrace train encoder ./examples --to ./encoder\n"
    "  millrace train encoder ./examples --to ./encoder --resume\n"
    "  torchrun --nproc-per-node 8 -m millrace train encoder ./examples --to ./encoder\n",
)
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--to", required=True, type=click.Path(path_type=Path, file_okay=False), help="What is written."
)
@click.option(
    "--model",
    "start",
    type=click.Path(path_type=Path, file_okay=False),
    help="The model that training begins with. Default: the packaged MiniLM.",
)
@click.option("--resume", is_flag=True, help="Go on with the training in --to, by its own recipe.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What computes; auto takes a GPU where there is one.",
)
@click.option("--threads", default=1, show_default=True, help="Of this process, on a processor.")
@click.option(
    "--judges",
    default=0,
    show_default=True,
    help="Processes that measure checkpoints while training goes on; 0: this one does.",
)
@recipe_options
@json_option
def encoder(
    data: Path, to: Path, start: Path | None, resume: bool, as_json: bool, **options: Any
) -> None:
    """Train the encoder on a folder of examples; DATA is what `millrace train export` wrote.

    Pairs of a member and a post that they engaged with are brought together, and posts that they
    left are kept away. The last part of the time is held back: training ends when it finds no more
    of what members did then. TO/best is a model directory that `millrace models add` takes;
    TO/last is what --resume goes on from, after a kill at any moment, to the same weights.

    Under torchrun every process takes a share of each batch; the model is the same as from one.
    """
    from millrace.feed.encoder.learner import Running
    from millrace.feed.encoder.teaching import Place, teach  # late: they bring torch

    clock = SystemClock()
    began = clock.monotonic()
    place = Place(device=options.pop("device"), threads=options.pop("threads"))
    running = Running(to=to, resume=resume, judges=options.pop("judges"), tell=_teller(clock))
    chosen = _recipe(to, resume, options)
    trained = teach(data, start, chosen, running, place)
    seconds = round(clock.monotonic() - began, 1)
    if as_json:
        print_json(_report(trained, chosen, seconds))
        return
    click.echo(f"{trained.folder}: the model after {trained.best} of {trained.steps} steps")
    for look in trained.looks:
        click.echo(f"  step {look.step}: {_figures(look.metrics)}")


def _recipe(to: Path, resume: bool, given: dict[str, object]) -> EncoderRecipe:
    """Return the recipe: what was given, over the one of the training that is gone on with."""
    from millrace.feed.encoder.checkpoints import standing_of

    known = {name: _parsed(value) for name, value in given.items() if value is not None}
    standing = standing_of(to) if resume else None
    before = msgspec.structs.asdict(standing.recipe) if standing is not None else {}
    return msgspec.convert({**before, **known}, EncoderRecipe, strict=False)


def _parsed(value: object) -> object:
    """Return an option's value; a list of numbers is written with commas."""
    if isinstance(value, str) and ("," in value or value.isdigit()):
        return value.split(",")
    return value


def _teller(clock: SystemClock) -> "Callable[[Progress], None]":
    """Return what says now and then how far it is."""
    told = clock.monotonic()
    first: tuple[int, float] | None = None  # a step that was done, and when

    def tell(progress: "Progress") -> None:
        nonlocal told, first
        now = clock.monotonic()
        step, began = first = first or (progress.step, now)
        if now - told >= TELL_EVERY_SECONDS or progress.step == progress.steps:
            told = now
            each = (now - began) / max(progress.step - step, 1)
            say(
                f"step {progress.step} of {progress.steps}: loss {progress.loss:.3f}, "
                f"gradient {progress.gradient:.2f}, {each:.2f} s a step"
            )
        for look in progress.looks:
            say(f"after step {look.step}: {_figures(look.metrics)}")

    return tell


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def _report(trained: "Trained", recipe: EncoderRecipe, seconds: float) -> dict[str, object]:
    """Return the answer as JSON has it."""
    of_steps = {look.step: look.metrics for look in trained.looks}
    return {
        "folder": str(trained.folder),
        "best_step": trained.best,
        "steps": trained.steps,
        "metrics": of_steps.get(trained.best, {}),
        "looks": [{"step": look.step, **look.metrics} for look in trained.looks],
        "recipe": msgspec.to_builtins(recipe),
        "seconds": seconds,
    }
