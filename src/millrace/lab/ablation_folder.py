"""What an ablation has found so far, in a folder: killed at any moment, it goes on from here.

DIR/configuration.json     what is asked of whom; another is refused
DIR/examples/              what is learned from
DIR/costs/NAME.json        what a step of a recipe takes
DIR/training/NAME-SEED/    a training that is under way
DIR/models/NAME-SEED/      a model that was read, where models are kept
DIR/readings/NAME-SEED.json  what a model found
"""

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from millrace.feed.recipe import EncoderRecipe
from millrace.kernel.errors import ConflictError
from millrace.lab.ablation_rows import differing

VERSION = "encoder ablations v1"
UNTRAINED = 0  # in place of a seed

T = TypeVar("T")


class Configuration(Struct, frozen=True, kw_only=True):
    """What must be the same for figures to stand in one table.

    recipe: that all rows change. start: fingerprint of the model that training begins with. examples: of what is learned from.
    questions: of what is asked.
    """

    version: str = VERSION
    data: str
    settings: dict[str, Any]
    seed: int
    members: int
    recipe: EncoderRecipe
    start: str
    examples: str
    questions: str


class Found(Struct, frozen=True, kw_only=True):
    """Figures of each member asked, in their order; None where there is none."""

    recall_10: list[float | None]
    recall_100: list[float | None]
    popularity_correlation: list[float | None]


class Reading(Struct, frozen=True, kw_only=True):
    """What one model found, by the length of its vectors.

    recipe: that it was trained by, or is read by. processor_seconds: of its training.
    """

    recipe: EncoderRecipe
    lengths: dict[int, Found]
    processor_seconds: float = 0.0


class Folder:
    """The folder. Each file is written beside its place and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def examples(self) -> Path:
        """Return where the examples are."""
        return self.path / "examples"

    @contextmanager
    def alone(self) -> Generator[None]:
        """Hold the folder for this process; it is let go with the process, however that ends.

        Raises:
            ConflictError: another process is at work in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise ConflictError(
                    f"another process is at work on the ablations in {self.path}",
                    field="--to",
                    value=str(self.path),
                    next_step="wait for it, or name another folder",
                ) from exc
            yield

    def open(self, now: Configuration) -> None:
        """Begin, or go on with what is there.

        Raises:
            ConflictError: it was begun with another configuration.
        """
        was = self._read("configuration.json", Configuration)
        if was is None:
            self._write("configuration.json", now)
        elif was != now:
            raise ConflictError(
                f"the ablations in {self.path} were begun otherwise: {differing(was, now)}",
                field="--to",
                value=str(self.path),
                next_step="give what they were begun with, or name another folder",
            )

    def take_examples(self, fresh: Path) -> None:
        """Put examples that were just written in their place, where the same ones may lie."""
        shutil.rmtree(self.examples, ignore_errors=True)
        fresh.rename(self.examples)

    def training(self, model: str, seed: int) -> Path:
        """Return where a model is trained."""
        return self.path / "training" / f"{model}-{seed}"

    def reading(self, model: str, seed: int, recipe: EncoderRecipe) -> Reading | None:
        """Return what a model found; None where it was not read yet.

        Raises:
            ConflictError: it was trained by another recipe.
        """
        name = f"readings/{model}-{seed}.json"
        found = self._read(name, Reading)
        if found is not None and found.recipe != recipe:
            raise ConflictError(
                f"{model} with seed {seed} was trained otherwise: {differing(found.recipe, recipe)}",
                field="--to",
                value=str(self.path / name),
                next_step="give what it was begun with, or name another folder",
            )
        return found

    def keep_reading(self, model: str, seed: int, reading: Reading, *, keep_model: bool) -> None:
        """Keep what a model found; then its training is not needed any more."""
        training = self.training(model, seed)
        if keep_model and training.exists():
            kept = self.path / "models" / training.name
            kept.parent.mkdir(exist_ok=True)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(training / "best", kept)
        self._write(f"readings/{training.name}.json", reading)
        shutil.rmtree(training, ignore_errors=True)

    def cost(self, model: str, kind: type[T]) -> T | None:
        """Return what a step of a model's recipe takes; None where it was not measured yet."""
        return self._read(f"costs/{model}.json", kind)

    def keep_cost(self, model: str, cost: Struct) -> None:
        """Keep what a step of a model's recipe takes."""
        self._write(f"costs/{model}.json", cost)

    def _read(self, name: str, kind: type[T]) -> T | None:
        path = self.path / name
        return msgspec.json.decode(path.read_bytes(), type=kind) if path.is_file() else None

    def _write(self, name: str, value: object) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(value), indent=2))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
