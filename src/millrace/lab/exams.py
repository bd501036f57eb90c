"""Where the questions of an evaluation come from: a folder that can be imported, or a town."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import InvalidError
from millrace.lab.dataset import Collector, Dataset
from millrace.lab.exam import Exam, Question, World
from millrace.world.importers.deskdrop import import_deskdrop
from millrace.world.importers.directory import import_dir
from millrace.world.importers.stackexchange import import_stackexchange
from millrace.world.rejects import RejectsList

FIRST_SHARE = 0.7  # of the engagements lie before the first moment
POSITIVES_MIN = 50

Importer: TypeAlias = Callable[..., Awaitable[Any]]

KINDS: dict[str, Importer] = {
    "Posts.xml": import_stackexchange,
    "users_interactions.csv": import_deskdrop,
    "users_interactions.csv.zip": import_deskdrop,
}
"""The importer of a folder, by a file that only its kind has; the open format otherwise."""


async def collected(folder: Path) -> Dataset:
    """Return a folder as its importer reads it. One that is no import is an InvalidError."""
    collector = Collector(SystemClock())
    work = _importer(folder)
    await work(collector, folder, rejects=RejectsList())
    return collector.dataset


def _importer(folder: Path) -> Importer:
    there = {one.name for one in folder.iterdir()} if folder.is_dir() else set[str]()
    return next((KINDS[name] for name in KINDS if name in there), import_dir)


def of_log(name: str, data: Dataset, moments: int) -> Exam:
    """Return questions from a log: at each moment, what members then did up to the next.

    Args:
        name: of the data set.
        data: everything that is known of it.
        moments: how many; they part the later engagements into equal shares.

    Raises:
        InvalidError: there is too little to judge by.
    """
    times = [at for at, _, _ in data.positives()]
    if len(times) < POSITIVES_MIN or not data.posts:
        raise InvalidError(
            f"{name} has {len(times)} positive engagements with {len(data.posts)} posts",
            field="--data",
            value=name,
            limit=f"{POSITIVES_MIN} engagements",
            next_step="evaluate on a data set with members who did something",
        )
    step = (1 - FIRST_SHARE) / moments
    cuts = [_at(times, FIRST_SHARE + number * step) for number in range(-1, moments + 1)]
    world = World(data)
    questions = [Question(at, world.afterwards(at, until)) for at, until in pairwise(cuts)]
    return Exam(name=name, data=data, tuning=questions[0], questions=questions[1:])


def _at(times: list[datetime], share: float) -> datetime:
    return times[int(np.clip(share * len(times), 0, len(times) - 1))]
