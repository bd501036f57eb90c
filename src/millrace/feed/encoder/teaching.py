"""From a folder of examples to a trained encoder."""

from pathlib import Path

import torch
from msgspec import Struct
from msgspec.structs import replace

from millrace.feed.encoder.checkpoints import Lineage
from millrace.feed.encoder.learner import Learner, Lesson, Running, Trained, silent, unwatched
from millrace.feed.encoder.parallel import joined, own_device
from millrace.feed.encoder.trainee import Trainee, machine_for, trainable
from millrace.feed.encoder.vector_memory import Remembering
from millrace.feed.examples import leaks
from millrace.feed.examples.batch import Tokens
from millrace.feed.examples.batch import joined as rows
from millrace.feed.examples.batches import Batches
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.questions import questions_of
from millrace.feed.examples.reading import Examples
from millrace.feed.examples.remembered import Remembered
from millrace.feed.recipe import EncoderRecipe, check

QUESTIONS_SEED = 20261121  # the same questions for all seeds, so that they can be compared


class Place(Struct, frozen=True, kw_only=True):
    """Where training computes.

    device: cpu, cuda, or auto for a GPU where there is one.
    threads: of this process, on a processor.
    """

    device: str = "auto"
    threads: int = 1


def teach(
    data: Path, start: Path | None, recipe: EncoderRecipe, running: Running, place: Place
) -> Trained:
    """Train an encoder on a folder of examples; one that leaks is refused.

    Under `torchrun` every process calls this, and they train one model.

    Args:
        data: as `millrace train export` writes it.
        start: the model that training begins with; None for the packaged one.
        recipe: how.
        running: where to, and whether to go on.
        place: on what.
    """
    check(recipe)
    leaks.check(data)
    torch.set_num_threads(place.threads)
    device = own_device(place.device)
    with joined(device) as ranks:
        machine = machine_for(device, recipe.precision, ranks)
        trainee = trainable(start, recipe, machine)
        lesson = lesson_of(Examples(data), trainee, recipe)
        if not ranks.first:
            running = replace(running, tell=silent, watch=unwatched)
        return Learner(trainee, lesson, recipe, machine, running).train()


def lesson_of(examples: Examples, trainee: Trainee, recipe: EncoderRecipe) -> Lesson:
    """Return what is learned from, up to a time, and what is asked of the time behind it."""
    taught, questions = examples.whole(), None
    if recipe.held_back:
        at = taught.time_at(1 - recipe.held_back)
        taught, behind = taught.split(at)
        said = _texts(examples, trainee, recipe)
        how = recipe.pooled if recipe.history_in == "pooled" else None
        questions = questions_of(behind, said, QUESTIONS_SEED, pooled=how)
    batches = Batches(taught, _texts(examples, trainee, recipe), recipe)
    lineage = Lineage(
        data=examples.fingerprint,
        start=trainee.fingerprint,
        cut_at=examples.manifest.cut_at.isoformat(),
    )
    return Lesson(
        draw=batches.batch,
        questions=questions,
        lineage=lineage,
        remembering=_remembering(batches.remembered, examples, trainee, recipe),
    )


def _remembering(
    known: Remembered | None, examples: Examples, trainee: Trainee, recipe: EncoderRecipe
) -> Remembering | None:
    """Return what vectors are remembered of, with texts that are made when they are asked for."""
    if known is None:
        return None

    def texts() -> tuple[Tokens, Tokens]:
        said = _texts(examples, trainee, recipe)
        posts = [said.post(state) for state in known.states.tolist()]
        return rows(posts), rows([said.profile(state) for state in known.profiles.tolist()])

    return Remembering(posts=len(known.states), profiles=len(known.profiles), texts=texts)


def _texts(examples: Examples, trainee: Trainee, recipe: EncoderRecipe) -> Prompted:
    """Return texts for one thread; questions and batches are made in two."""
    return Prompted(examples, trainee.vocabulary, recipe, trainee.tokens_max)
