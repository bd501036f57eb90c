"""Where the questions of an evaluation come from: a folder that can be imported, or a town."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import InvalidError
from millrace.lab.dataset import Collector, Dataset
from millrace.lab.exam import Exam, Oracle, Question, World
from millrace.world.importers.deskdrop import import_deskdrop
from millrace.world.importers.directory import import_dir
from millrace.world.importers.stackexchange import import_stackexchange
from millrace.world.rejects import RejectsList
from millrace.world.simulator.filling import Rows
from millrace.world.simulator.making import Watch, make
from millrace.world.simulator.town import Town
from millrace.world.simulator.types import DAY, LIVE_SECONDS, VERSION, TownConfig
from millrace.world.types import Row

FIRST_SHARE = 0.7  # of the engagements lie before the first moment
POSITIVES_MIN = 50
JUDGED_EACH = 2_000  # looks of each member of a town at posts that are drawn by chance

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


def of_town(config: TownConfig, watch: Watch) -> Exam:
    """Return one question from a town: posts shown by chance alone on its last day.

    Everybody who had joined the day before is asked, also who never came by. Posts are relevant
    where the town's own truth had the member engage with them.

    Args:
        config: what the town is made from.
        watch: told of progress.
    """
    town = make(config, watch)
    rows = Rows(town, config.end)
    data = Dataset(communities=[row.draft for row in rows.communities()])
    for noun in ("members", "posts", "comments", "follows", "impressions", "engagements"):
        getattr(data, noun).extend(
            (event.community, event.drafts[0])
            for event in getattr(rows, noun)()
            if isinstance(event, Row)
        )
    live_days = LIVE_SECONDS / DAY
    world = World(data, live_days)
    split = (config.days - 1) * DAY
    before, at = (config.start + timedelta(seconds=one) for one in (split - DAY, split))
    return Exam(
        name="town",
        data=data,
        questions=[Question(at, _by_chance(town, world, split, at))],
        tuning=Question(before, world.afterwards(before, at)),
        rehearsal=lambda: Question(before, _by_chance(town, world, split - DAY, before)),
        live_days=live_days,
        oracle=_truth(town, world, split),
        settings={
            "town": VERSION,
            **{name: getattr(config, name) for name in ("overlap", "drift", "noise", "popularity")},
        },
    )


def _truth(town: Town, world: World, split: int) -> Oracle:
    """Return what the town knows of its members at a moment, by the numbers of the exam."""
    homes = [place.external_id for place in town.places]
    people = {(homes[one.community], one.external_id): at for at, one in enumerate(town.people)}
    posts = {(homes[one.community], one.external_id): at for at, one in enumerate(town.posts)}
    member_of = [people[name] for name in world.members]
    post_of = np.array([posts[name] for name in world.posts])

    def appeal(member: int, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        return town.truth.appeal(member_of[member], post_of[candidates], split)

    return appeal


def _by_chance(town: Town, world: World, split: int, at: datetime) -> dict[int, frozenset[int]]:
    """Return what members engaged with of posts that were shown to them by chance alone."""
    judged = town.judged(split, JUDGED_EACH)
    homes = [place.external_id for place in town.places]
    hits: list[int] = np.flatnonzero(judged.engaged).tolist()
    found: defaultdict[int, set[int]] = defaultdict(set)
    for row in hits:
        person, post = town.people[int(judged.member[row])], town.posts[int(judged.post[row])]
        member = world.member_of[homes[person.community], person.external_id]
        found[member].add(world.post_of[homes[post.community], post.external_id])
    return {
        member: kept
        for member, posts in sorted(found.items())
        if world.there(member, at) and (kept := world.findable(member, posts, at))
    }
