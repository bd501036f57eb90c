"""A village with enough engagements to train from, and a school without a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
from encoder_town import OLD
from msgspec.structs import replace

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import Action, EngagementDraft
from millrace.feed.encoder_shelf import EncoderShelf
from millrace.feed.encoder_trainings import EncoderTrainings
from millrace.feed.encoder_versions import EncoderVersion, EncoderVersions
from millrace.feed.gate import Asked
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.room import Feed
from millrace.feed.testing import FakeEncoder, parts_for
from millrace.feed.trainer import Trainer, TrainerParts
from millrace.feed.trainer_plan import Pace
from millrace.feed.types import FeedConfig
from millrace.kernel.errors import SetupError
from millrace.kernel.ids import IdMaker

MODEL = "model.txt"  # holds the length of its vectors
NAMES = [f"reader{number}" for number in range(110)]
POSTS = 8
CONFIG = FeedConfig(coalesce_seconds=0.0, fit_minutes=0.0, training_engagements=300)


class Killed(BaseException):
    """Stands for a kill: nothing of the program catches it."""


class FakeSchool:
    """Trains by writing a length into a file, and judges by what the test says.

    gain: how much more the candidate finds. kill: where the process is to be killed next.
    """

    def __init__(self, gain: float = 0.1, dims: int = 16) -> None:
        self.gain = gain
        self.dims = dims
        self.kill = ""
        self.calls: list[str] = []
        self.recipes: list[EncoderRecipe] = []
        self.seconds = 0.5

    def reach(self, what: str) -> None:
        """Note that something begins; it may be the end."""
        if self.kill == what:
            raise Killed
        self.calls.append(what)

    def pace(self, data: Path, start: Path | None, recipe: EncoderRecipe) -> Pace:
        """Say how quick a step is: slower each time, so that another choice would be another."""
        self.reach("pace")
        self.seconds *= 2
        return Pace(step_seconds=self.seconds, text_seconds=0.0)

    def teach(self, data, start, recipe, to: Path, tell) -> Path:
        """Write a model."""
        self.recipes.append(recipe)
        assert (data / "manifest.json").is_file()
        tell(recipe.steps // 2)
        self.reach("teach")
        tell(recipe.steps)
        (to / "best").mkdir(parents=True, exist_ok=True)
        (to / "best" / MODEL).write_text(str(self.dims))
        return to / "best"

    def ask(self, data: Path, candidate: Path, serving: EncoderVersion) -> Asked:
        """Return figures with the gain between them."""
        self.reach("ask")
        assert (candidate / MODEL).is_file()
        draw = np.random.default_rng(3)
        theirs = draw.random(200) * 0.5
        return Asked(since=NOON, candidate=theirs + self.gain * draw.random(200), serving=theirs)


async def load(directory: str) -> FakeEncoder:
    """Load a model that the school wrote."""
    return OLD if not directory else _read(Path(directory, MODEL))


def _read(file: Path) -> FakeEncoder:
    dims = int(file.read_text()) if file.is_file() else 0
    if dims < 1:
        raise SetupError(f"the model at {file.parent} cannot be used")
    return FakeEncoder(dims=dims)


class Workshop:
    """What a trainer needs over one village; several trainers may share it."""

    def __init__(self, rooms: Rooms, conninfo: str, folder: Path, school: FakeSchool) -> None:
        self.school = school
        self.folder = folder
        self.said: list[str] = []
        self.fitted: list[tuple[str, str]] = []
        ids = IdMaker(rooms.clock, 3)
        self.versions = EncoderVersions(rooms.router, rooms.clock)
        self.trainings = EncoderTrainings(rooms.router, rooms.clock, ids)
        self.parts = TrainerParts(
            router=rooms.router,
            clock=rooms.clock,
            conninfo=conninfo,
            config=CONFIG,
            shelf=EncoderShelf(folder),
            trainings=self.trainings,
            versions=self.versions,
            school=lambda: school,
            load=load,
            fit=self._fit,
            wait_seconds=0.01,
            look_seconds=0.01,
        )

    async def _fit(self, encoder) -> str:
        self.school.reach("fit")
        serving = await self.versions.serving()
        self.fitted.append((encoder.version, serving.version))
        return "fitted"

    def trainer(self, folder: Path | None = None) -> Trainer:
        """Return a trainer, as a process that was started has one."""
        shelf = self.parts.shelf if folder is None else EncoderShelf(folder)
        return Trainer(replace(self.parts, shelf=shelf), self.said.append)

    def left(self) -> list[str]:
        """Return which folders there are."""
        return sorted(str(one.relative_to(self.folder)) for one in self.folder.glob("*/*"))


async def village(rooms: Rooms) -> None:
    """Make a village whose people liked posts in the days before yesterday."""
    home = await rooms.community("village")
    await rooms.people(home, "gus", *NAMES)
    await liked(rooms, POSTS)


async def liked(rooms: Rooms, count: int) -> None:
    """Let somebody write posts that everybody likes, one a day, and two days go by."""
    (home,) = [one.community_id for one in await rooms.communities.list(OPERATOR)]
    (gus,) = await rooms.people(home, "gus")
    done: list[EngagementDraft] = []
    for place in range(count):
        rooms.clock.move(24 * 3600)
        post = await rooms.post(gus, f"about boat {place}", title=f"{place}")
        done += [
            EngagementDraft(
                member=name,
                post=post.external_id,
                kind=Action.LIKE,
                happened_at=rooms.clock.now() + timedelta(seconds=number),
            )
            for number, name in enumerate(NAMES, 1)
        ]
    rooms.clock.move(48 * 3600)
    await rooms.activity.upsert_engagements(OPERATOR, home, done)


@asynccontextmanager
async def serving(rooms: Rooms, conninfo: str, reads=load) -> AsyncIterator[Feed]:
    """Lend a feed that loads what the school wrote."""
    parts = parts_for(rooms, conninfo, OLD, CONFIG)
    feed = Feed(replace(parts, load=reads))
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()
