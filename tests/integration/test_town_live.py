"""Goal: the people of a town live at a real server: as its members, bounded, and patient."""

import asyncio
from contextlib import asynccontextmanager, suppress
from io import StringIO

import psycopg
import pytest

from millrace.api.app import create_app
from millrace.api.serve import serving
from millrace.community.types import Role, program
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.testing import FakeEncoder
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import UnauthenticatedError
from millrace.settings import RATES, DoorConfig, Settings
from millrace.store.types import StoreConfig
from millrace.wiring import build
from millrace.world.loader import silent
from millrace.world.simulator.filling import FIRST, Filler
from millrace.world.simulator.http_door import Desk
from millrace.world.simulator.live import Pace, live
from millrace.world.simulator.standing import Ground, stand
from millrace.world.simulator.types import TownConfig

pytestmark = pytest.mark.services
TINY = TownConfig(seed=5, members=120, posts=60, impressions=1500, days=4, communities=1)
MANY = 1_000_000
WAIT_SECONDS = 30.0
TABLES = ("impression", "engagement", "post")


class Place:
    """A program with a tiny town in it."""

    def __init__(self, made, standing, conninfo):
        self.made = made
        self.standing = standing
        self._conninfo = conninfo

    async def issue(self, member_id):
        """Sign a member in, as `up` does."""
        return (await self.made.identity.issue(f"member:{member_id}", 3600)).token

    def living(self, url, issue=None, **changed):
        """Begin to live at a server, quickly."""
        pace = Pace(**({"speed": 20_000.0, "members": 120, "rate": 200.0} | changed))
        return asyncio.create_task(
            live(
                self.standing,
                url,
                issue or self.issue,
                pace,
                clock=SystemClock(),
                say=lambda _: None,
            )
        )

    async def count(self, table):
        """Count the rows of a table."""
        async with await psycopg.AsyncConnection.connect(self._conninfo) as db:
            return (await (await db.execute(f"select count(*) from {table}")).fetchone())[0]

    async def more(self, *tables):
        """Wait until each of these tables has more rows than now."""
        before = {table: await self.count(table) for table in tables}
        async with asyncio.timeout(WAIT_SECONDS):
            for table in tables:
                while await self.count(table) == before[table]:
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def placed(conninfo, folder, **rates):
    """Build a program with a tiny town on a fresh database."""
    door = DoorConfig(rates=dict.fromkeys(RATES, MANY) | rates)
    settings = Settings(store=StoreConfig(primary=conninfo, data_dir=str(folder)), door=door)
    async with build(settings, encoder=FakeEncoder(history=PooledHistory())) as made:
        filler = Filler(made, folder / "town.json", TINY)
        town = filler.made(silent)
        await filler.bring(FIRST, silent)
        found = await made.communities.list(program("test"))
        grounds = {one.name: Ground(one.community_id, one.created_at) for one in found}
        yield Place(made, stand(town, grounds), conninfo)


async def ended(task):
    """Call the people off, as Ctrl-C does."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_people_come_write_and_come_back_with_the_server(conninfo, tmp_path):
    """They are shown posts, engage and write; the server goes and returns, and so do they."""
    async with placed(conninfo, tmp_path) as place:
        app = create_app(place.made)
        async with serving(app, "127.0.0.1", 0) as url:
            port = int(url.rsplit(":", 1)[1])
            task = place.living(url)
            await place.more(*TABLES)
        await asyncio.sleep(1.0)  # somebody comes meanwhile: several do in each tenth of it
        async with serving(app, "127.0.0.1", port):
            await place.more("impression", "post")
            await ended(task)

        strangers = await place.count(
            "impression left join member using (community_id, member_id)"
            " where member.external_id is null or served_feed_id is null"
        )
    assert task.cancelled()
    assert strangers == 0, "impressions that are no member's, or of no served feed"


async def test_a_life_ends_when_its_time_is_over(conninfo, tmp_path):
    """And tells what was done: as much as the database says."""
    async with placed(conninfo, tmp_path) as place:
        async with serving(create_app(place.made), "127.0.0.1", 0) as url:
            lived = await place.living(url, seconds=1.5)

        assert lived.failed == 0
        assert lived.feeds + lived.posts > 0
        assert lived.shown == await place.count("impression")
        assert lived.posts == await place.count("post") - TINY.posts


async def test_a_busy_server_is_waited_for(conninfo, tmp_path):
    """Where a member may ask once a minute, they wait as they are told, and nobody hammers."""
    log = StringIO()
    async with (
        placed(conninfo, tmp_path, read=1, write=1) as place,
        serving(create_app(place.made, log_stream=log), "127.0.0.1", 0) as url,
    ):
        task = place.living(url, members=1, speed=1e6)
        async with asyncio.timeout(WAIT_SECONDS):
            while '"status": 429' not in log.getvalue():
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)  # long enough for dozens of requests
        await ended(task)

    assert log.getvalue().count('"status": 429') == 1


async def test_an_operator_signs_the_people_in(conninfo, tmp_path):
    """What `millrace town live` does: find the communities and the tokens over the API alone."""
    async with (
        placed(conninfo, tmp_path) as place,
        serving(create_app(place.made), "127.0.0.1", 0) as url,
    ):
        operator = await place.made.identity.create_operator("town", Role.OPERATOR)
        desk = Desk(url, operator.token, clock=SystemClock())
        standing = stand(place.standing.town, await desk.grounds())
        task = place.living(url, desk.issue)
        await place.more("impression")
        await ended(task)
        await desk.close()
        stranger = Desk(url, "no token", clock=SystemClock())
        with pytest.raises(UnauthenticatedError):
            await stranger.grounds()
        await stranger.close()

    assert standing.members == place.standing.members
    assert standing.posts == place.standing.posts
