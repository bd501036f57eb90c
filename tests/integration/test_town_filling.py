"""Goal: a town comes in as a folder or directly, in the same rows, and a kill costs nothing."""

import asyncio
import os
import subprocess
import sys
from functools import cache

import pyarrow.parquet
import pytest
from import_state import counts, state

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import ProfileChanges
from millrace.kernel.errors import InvalidError, NotFoundError
from millrace.kernel.rng import rng as rng_of
from millrace.store.testing import opened
from millrace.world.importers.directory import import_dir
from millrace.world.loader import silent
from millrace.world.rejects import RejectsList
from millrace.world.simulator import files
from millrace.world.simulator.filling import FIRST, HISTORY, Filler, begun
from millrace.world.simulator.making import make
from millrace.world.simulator.standing import Ground, stand
from millrace.world.simulator.types import ACTIONS, TownConfig

pytestmark = pytest.mark.services
TINY = {"seed": 5, "members": 60, "posts": 240, "impressions": 1500, "days": 5, "communities": 2}
COMMENT = ACTIONS.index("comment")


@cache
def town():
    """Make the town of these tests, once."""
    return make(TownConfig(**TINY), silent)


def expected():
    """Count what a database has when the town is whole."""
    made = town()
    return {
        "community": 2,
        "member": 60,
        "post": 240,
        "comment": len(made.remarks),
        "impression": len(made.shown),
        "engagement": len(made.done) - int((made.done.kind == COMMENT).sum()) + len(made.remarks),
    }


def found(conninfo):
    """Count what the database has."""
    there = counts(conninfo)
    return {name: there[name] for name in expected()}


async def filled(router, mark):
    """Fill a database, and return its rooms."""
    rooms = Rooms(router)
    filler = Filler(rooms, mark, TownConfig(**TINY))
    filler.made(silent)
    await filler.bring(FIRST, silent)
    await filler.bring(HISTORY, silent)
    return rooms


async def test_a_folder_of_a_town_is_imported_whole_and_again(router, conninfo, tmp_path):
    """Nothing is rejected, the truth beside it is not read, and a second time changes nothing."""
    files.write(town(), tmp_path, silent)
    rejects = RejectsList()
    report = await import_dir(Rooms(router), tmp_path, rejects=rejects)
    before = state(conninfo)

    again = await import_dir(Rooms(router), tmp_path, rejects=rejects)

    assert rejects.rows == []
    assert sorted(report.ignored) == ["town.json", "truth_members.parquet", "truth_posts.parquet"]
    assert found(conninfo) == expected()
    assert all(one.created == one.updated == 0 for one in again.nouns.values())
    assert state(conninfo) == before


async def test_a_folder_with_a_first_day_has_moments(router, conninfo, tmp_path):
    """With absolute times too everything is taken."""
    files.write(town(), tmp_path, silent, relative=False)
    rejects = RejectsList()

    await import_dir(Rooms(router), tmp_path, rejects=rejects)

    assert rejects.rows == []
    assert found(conninfo) == expected()


async def test_a_filling_brings_the_same_rows_as_the_folder(server, router, conninfo, tmp_path):
    """Two databases, one filled from a folder and one without: equal in every row."""
    files.write(town(), tmp_path, silent)
    await import_dir(Rooms(router), tmp_path, rejects=RejectsList())
    other = server.copy()
    try:
        async with opened(other) as second:
            await filled(second, tmp_path / "mark")

        assert state(other) == state(conninfo)
    finally:
        server.drop(other)


def test_the_truth_of_a_folder_comes_back(tmp_path):
    """Whoever has the folder has the town; a folder of another version is refused."""
    files.write(town(), tmp_path, silent)
    about = tmp_path / files.ABOUT

    again = files.read(tmp_path, silent)

    assert again.digest() == town().digest()
    posts = pyarrow.parquet.read_table(tmp_path / "truth_posts.parquet").to_pydict()
    assert posts["external_id"] == [one.external_id for one in town().posts]
    text = about.read_text()
    for broken in (
        text.replace(files.VERSION, "town v0"),
        text.replace('"seed": 5', '"seed": 6'),
        "{",
    ):
        about.write_text(broken)
        with pytest.raises(InvalidError):
            files.read(tmp_path, silent)


async def test_a_filling_leaves_alone_what_people_did(router, conninfo, tmp_path):
    """After the first parts are in, somebody edits; a start after a kill keeps the edit."""
    mark, rooms = tmp_path / "mark", Rooms(router)
    first = Filler(rooms, mark, TownConfig(**TINY))
    first.made(silent)
    await first.bring(FIRST, silent)
    home = (await rooms.communities.find(town().places[0].external_id)).community_id
    member = (await rooms.members.list(OPERATOR, home, after=0, limit=1))[0]
    changes = ProfileChanges(headline="Changed by hand")
    await rooms.members.update(OPERATOR, member.key, changes)
    assert not begun(mark).whole

    again = Filler(rooms, mark, TownConfig(seed=99))
    assert again.config.seed == TINY["seed"], "the mark says which town was begun"
    again.made(silent)
    await again.bring(FIRST, silent)
    await again.bring(HISTORY, silent)

    assert begun(mark).whole
    assert found(conninfo) == expected()
    assert (await rooms.members.get(OPERATOR, member.key)).headline == "Changed by hand"


async def test_a_town_stands_where_it_was_brought(router, tmp_path):
    """The ids of people and posts follow from the town alone, and are those of the database."""
    rooms = await filled(router, tmp_path / "mark")
    grounds = {}
    for place in town().places:
        one = await rooms.communities.find(place.external_id)
        grounds[one.name] = Ground(one.community_id, one.created_at)

    standing = stand(town(), grounds)

    members, posts = set(), set()
    for ground in grounds.values():
        listed = await rooms.members.list(OPERATOR, ground.community_id, after=0, limit=500)
        members |= {str(one.key) for one in listed}
        newest = await rooms.posts.newest(OPERATOR, ground.community_id, None, 1 << 62, 500)
        posts |= {str(view.post.key) for view in newest}
    assert set(standing.members) == members
    assert set(standing.posts) == posts
    assert standing.town.config.end == NOON
    with pytest.raises(NotFoundError):
        stand(town(), {})


# A child that fills a database in small batches and says each step, so that it can be killed
# between any two of them or within one.
CHILD = f"""
import asyncio, sys
from pathlib import Path
from millrace.world import loader
from millrace.world.simulator import filling
loader.BATCH_ROWS = 40
from millrace.community.testing import Rooms
from millrace.store.testing import opened
from millrace.world.simulator.types import TownConfig

async def main():
    async with opened(sys.argv[1]) as router:
        filler = filling.Filler(Rooms(router), Path(sys.argv[2]), TownConfig(**{TINY!r}))
        filler.made(lambda *_: None)
        print("made", flush=True)
        told = lambda *_: print("step", flush=True)
        await filler.bring(filling.FIRST, told)
        await filler.bring(filling.HISTORY, told)
        print("end", flush=True)

asyncio.run(main())
"""


def run_and_kill(conninfo, mark, steps):
    """Run the child until it has said so many steps, then kill it; return whether it ended first."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, conninfo, str(mark)],
        stdout=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    try:
        assert child.stdout is not None
        for _ in range(steps):
            line = child.stdout.readline()
            if line in {"end\n", ""}:
                return child.wait() == 0 and line == "end\n"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    return False


async def test_a_filling_that_is_killed_ends_the_same(server, router, conninfo, tmp_path):
    """Killed at four random steps and started again each time: every row once, as undisturbed."""
    chance = rng_of(int(os.environ.get("MILLRACE_TEST_SEED", "11")))
    mark = tmp_path / "mark"
    ended = False
    for _ in range(4):
        if not ended:
            ended = await asyncio.to_thread(run_and_kill, conninfo, mark, chance.randint(2, 14))
    while not ended:
        ended = await asyncio.to_thread(run_and_kill, conninfo, mark, 10_000)

    assert begun(mark).whole
    assert found(conninfo) == expected()
    other = server.copy()
    try:
        undisturbed = await asyncio.to_thread(run_and_kill, other, tmp_path / "other", 10_000)

        assert undisturbed
        assert state(other) == state(conninfo)
    finally:
        server.drop(other)
