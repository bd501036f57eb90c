"""Two encoders of different lengths over one small town, for tests of versions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from millrace.community.testing import Rooms
from millrace.feed.encoder_versions import EncoderVersions, NewVersion, State
from millrace.feed.room import Feed
from millrace.feed.testing import FakeEncoder, parts_for
from millrace.kernel.errors import SetupError

SECONDS_MAX = 20.0
TOPICS = ("boats", "nets", "tides", "ropes", "gulls", "knots")
OLD, SHORT = FakeEncoder(dims=32), FakeEncoder(dims=16)
FOLDERS = {"": OLD, "/models/short": SHORT}


async def load(directory: str):
    """Load a model of a folder, as wiring does."""
    if directory not in FOLDERS:
        raise SetupError(f"the model at {directory} cannot be used: it has no config.json")
    return FOLDERS[directory]


def short_version(name: str = "short", directory: str = "/models/short") -> NewVersion:
    """The encoder with the shorter vectors, to be added."""
    return NewVersion(version=SHORT.version, name=name, directory=directory, dims=SHORT.dims)


async def state_of(versions: EncoderVersions, name: str) -> State:
    """Return where an encoder stands."""
    return next(one.state for one in await versions.all() if one.name == name)


@asynccontextmanager
async def serving(rooms: Rooms, conninfo: str, switches=None, **changed) -> AsyncIterator[Feed]:
    """Lend a feed that can load both encoders."""
    parts = parts_for(rooms, conninfo, changed.pop("encoder", OLD), changed.pop("config", None))
    feed = Feed(replace(parts, load=load, switches=switches, **changed))
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


async def village(rooms: Rooms):
    """Make a community with two people and a post of each topic; return who they are, and the posts."""
    home = await rooms.community("village")
    rita, gus = await rooms.people(home, "rita", "gus")
    posts = [await rooms.post(gus, f"about {topic}", title=topic) for topic in TOPICS]
    return rita, gus, [post.key for post in posts]
