"""One training of an ablation, in this process or beside others."""

import fcntl
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from msgspec import Struct

from millrace.feed.recipe import EncoderRecipe

if TYPE_CHECKING:
    from millrace.feed.encoder.learner import Progress

TELL_EVERY_SECONDS = 30.0

Say = Callable[[str], None]


class Errand(Struct, frozen=True, kw_only=True):
    """What is to be trained: on which examples, from which model, where to; `name` says what it is."""

    name: str
    examples: Path
    start: Path | None
    to: Path
    recipe: EncoderRecipe
    threads: int

    @property
    def best(self) -> Path:
        """Return where the model is when it is trained."""
        return self.to / "best"


def train(errand: Errand, say: Say, parent: int | None = None) -> float:
    """Train a model, or go on with its training; return the processor time that it took.

    A process that trains the same one, because whoever started it was killed, is waited for.

    Args:
        errand: what.
        say: told now and then how far it is.
        parent: the process for which this one works; with it ends the work.
    """
    from millrace.feed.encoder.learner import Running
    from millrace.feed.encoder.teaching import Place, teach

    begun = process_time()
    errand.to.mkdir(parents=True, exist_ok=True)
    with (errand.to / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = Running(to=errand.to, resume=True, tell=_teller(errand.name, say, parent))
        place = Place(device="cpu", threads=errand.threads)
        teach(errand.examples, errand.start, errand.recipe, running, place)
    return process_time() - begun


def train_beside(errands: Iterable[Errand], jobs: int) -> Iterator[tuple[Errand, float]]:
    """Train several at a time, each in a process of its own; yield each when it is done."""
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(train, one, _say_here, os.getpid()): one for one in errands}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _say_here(text: str) -> None:
    """Say something from a process of its own."""
    sys.stderr.write(f"{text}\n")


def _teller(what: str, say: Say, parent: int | None) -> "Callable[[Progress], None]":
    """Return what says now and then how far a training is, and ends it where nobody waits for it."""
    told = perf_counter()

    def tell(progress: "Progress") -> None:
        nonlocal told
        if parent is not None and os.getppid() != parent:
            os._exit(1)
        if perf_counter() - told >= TELL_EVERY_SECONDS or progress.step == progress.steps:
            told = perf_counter()
            say(f"{what}: step {progress.step} of {progress.steps}, loss {progress.loss:.3f}")

    return tell
