"""Checkpoints: models that serve as they are, and what a training that was killed goes on from.

    DIR/step-000050/   a Hugging Face directory with markers in its tokenizer, recipe.json,
                       data.json (what it was taught by), metrics.json (once it is judged)
    DIR/best/          the best of them, when training is over
    DIR/last/          weights, optimizer and how far it came, in fp32; remembered vectors

Each is written beside its place and renamed, so a kill leaves the old one or the new one.
"""

import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct

from millrace.feed.encoder.judging import Metrics
from millrace.feed.encoder.loading import METRICS, RECIPE, first_line, refuse
from millrace.feed.encoder.trainee import Trainee
from millrace.feed.encoder.vector_memory import VectorMemory
from millrace.feed.recipe import EncoderRecipe, complete

BEST, LAST, DATA, STATE = "best", "last", "data.json", "state.json"
WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
MEMORY = "memory.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW remembers of each parameter
BEING_WRITTEN, OLD = ".new", ".old"


class Lineage(Struct, frozen=True, kw_only=True):
    """What a model was taught by.

    data: fingerprint of the examples. start: of the model that it began as.
    cut_at: nothing later than this was learned from; ISO 8601, empty where it is not known.
    """

    data: str
    start: str
    cut_at: str = ""


class Look(Struct, frozen=True, kw_only=True):
    """What was measured after so many steps."""

    step: int
    metrics: Metrics


class Standing(Struct, frozen=True, kw_only=True):
    """How far a training came.

    step: how many steps it took. judged: looks, in their order.
    waiting: steps whose checkpoints are being judged.
    stopped: nothing better came for long enough. finished: the best one has its name.
    """

    step: int
    recipe: EncoderRecipe
    lineage: Lineage
    judged: tuple[Look, ...] = ()
    waiting: tuple[int, ...] = ()
    stopped: bool = False
    finished: bool = False


def place_of(to: Path, step: int) -> Path:
    """Return the directory of the checkpoint after so many steps."""
    return to / f"step-{step:06d}"


def save_model(folder: Path, trainee: Trainee, recipe: EncoderRecipe, lineage: Lineage) -> None:
    """Write a directory that `TextEncoder.load` and training take by its path."""
    with _replaced(folder) as beside:
        trainee.reader.model.model.save_pretrained(beside)
        trainee.tokenizer.save_pretrained(beside)
        _write(beside / RECIPE, trainee.recipe(recipe))
        _write(beside / DATA, lineage)


def save_metrics(folder: Path, step: int, looks: tuple[Look, ...]) -> None:
    """Write beside the model of a step what was measured of it, of the start, and of the others."""
    of_steps = {look.step: look.metrics for look in looks}
    beside = folder / f"{METRICS}{BEING_WRITTEN}"
    start = of_steps.get(0, {})
    _write(beside, {**of_steps.get(step, {}), "step": step, "start": start, "looks": of_steps})
    beside.replace(folder / METRICS)


def save_last(
    to: Path,
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    standing: Standing,
    memory: VectorMemory | None,
) -> None:
    """Write what a training goes on from."""
    torch_files: Any = import_module("safetensors.torch")
    kept = {
        f"{moment}.{name}": optimizer.state[parameter][moment].contiguous()
        for name, parameter in trainee.parameters.items()
        if parameter in optimizer.state
        for moment in MOMENTS
    }
    with _replaced(to / LAST) as beside:
        weights = {name: one.detach().contiguous() for name, one in trainee.parameters.items()}
        torch_files.save_file(weights, beside / WEIGHTS)
        torch_files.save_file(kept, beside / OPTIMIZER)
        if memory is not None:
            torch_files.save_file(memory.kept(), beside / MEMORY)
        _write(beside / STATE, standing)


def standing_of(to: Path) -> Standing | None:
    """Return how far a training came; None where there is none."""
    path = to / LAST / STATE
    if not path.is_file():
        return None
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        recipe = complete(kept.get("recipe", {}))
        return msgspec.convert({**kept, "recipe": recipe}, Standing)
    except msgspec.DecodeError as error:
        refuse(to / LAST, f"its {STATE} cannot be read: {first_line(error)}", error)


def load_last(
    to: Path,
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    steps: int,
    memory: VectorMemory | None,
) -> None:
    """Give a model, its optimizer and the memory of vectors what they had after so many steps."""
    torch_files: Any = import_module("safetensors.torch")
    folder = to / LAST
    try:
        weights: Mapping[str, torch.Tensor] = torch_files.load_file(folder / WEIGHTS)
        kept: Mapping[str, torch.Tensor] = torch_files.load_file(folder / OPTIMIZER)
        if memory is not None:
            memory.restore(torch_files.load_file(folder / MEMORY))
    except Exception as error:  # noqa: BLE001 - a broken file fails in every way
        refuse(folder, first_line(error), error)
    if weights.keys() != trainee.parameters.keys():
        refuse(folder, "its weights are those of another model")
    with torch.no_grad():
        for name, parameter in trainee.parameters.items():
            parameter.copy_(weights[name])
            if f"{MOMENTS[0]}.{name}" in kept:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(steps), device=parameter.device),
                    **{one: kept[f"{one}.{name}"].to(parameter.device) for one in MOMENTS},
                }


def tidy(to: Path, kept: set[int]) -> None:
    """Remove checkpoints that nobody needs any more, and what was never finished."""
    names = {place_of(to, step).name for step in kept}
    for folder in to.glob("step-*"):
        if folder.name not in names:
            shutil.rmtree(folder)


def finish(to: Path, step: int, looks: tuple[Look, ...]) -> Path:
    """Make the checkpoint of a step the best one; return its directory. Twice is as once."""
    found, best = place_of(to, step), to / BEST
    if found.is_dir():
        save_metrics(found, step, looks)
        if best.exists():
            shutil.rmtree(best)
        found.rename(best)
    tidy(to, set())
    return best


@contextmanager
def _replaced(folder: Path) -> Generator[Path]:
    """Yield an empty directory that takes another's place when all is written."""
    beside = folder.with_name(folder.name + BEING_WRITTEN)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    yield beside
    for path in beside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if folder.exists():
        old = folder.with_name(folder.name + OLD)
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        beside.rename(folder)
        shutil.rmtree(old)
    else:
        beside.rename(folder)


def mend(to: Path) -> None:
    """Finish a replacement of `last/` that was killed between its two renames."""
    folder = to / LAST
    old = folder.with_name(folder.name + OLD)
    if old.exists() and not folder.exists():
        folder.with_name(folder.name + BEING_WRITTEN).rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, value: object) -> None:
    """Write a value as JSON that people can read."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
