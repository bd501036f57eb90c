"""The cache beside a real server: writers, readers with tokens, and the stream between them."""

import asyncio
from typing import cast

import psycopg
import pytest
from msgspec import Struct

from millrace.kernel.rng import rng
from millrace.store.cache import Bounds, InProcessCache, Loaded
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.changes.types import Operation
from millrace.store.queries import Query

pytestmark = pytest.mark.services

KEYS = range(12)
WRITERS, READERS, WRITES = 3, 6, 120
HOME = 1
STANDING = Query("standing", "", "select target_id, system_version from mute where member_id = 77")
SECONDS_MAX = 30.0


class StandingRow(Struct):
    target_id: int
    system_version: int


class Seen(Struct):
    """What a reader was given, and the state that they must at least see."""

    session: int
    key: int
    least: int
    version: int | None


class Town:
    """Rows that come, change and go; of each key every state that was committed, in order."""

    def __init__(self, router, conninfo):
        self.router = router
        self.conninfo = conninfo
        self.states = {key: [(0, None)] for key in KEYS}  # version, and whether the row is there
        self.acknowledged = dict.fromkeys(KEYS, 0)
        self.seen: list[Seen] = []
        self.writing = WRITERS
        self.cache = InProcessCache(
            tokens=router, load=self.load, bounds=Bounds(entries_max=8, buckets=8)
        )

    async def load(self, keys):
        async with self.router.read() as session:
            rows = await session.rows(STANDING, StandingRow)
        await asyncio.sleep(0.001)  # long enough for a commit and its change to overtake it
        wanted = set(keys)
        return {
            row.target_id: Loaded(row.system_version, row.system_version)
            for row in rows
            if row.target_id in wanted
        }

    # ------------------------------------------------- the consumer

    name = "test"
    tables = frozenset({"mute"})

    async def begin(self, snapshot):
        self.cache.begin(snapshot.position)

    def lost(self):
        self.cache.lost()

    async def apply(self, batch):
        for change in batch.changes:
            key = cast("int", change.key[3])
            if change.op is Operation.UPDATE and change.version is not None:
                self.cache.put(key, change.version, change.version, change.position)
            else:
                self.cache.invalidate(key, change.position)
        if batch.position is not None:
            self.cache.advance(batch.position)

    # ------------------------------------------------- who writes and who reads

    async def write(self, number):
        draw = rng(number)
        async with await psycopg.AsyncConnection.connect(self.conninfo) as connection:
            for _ in range(WRITES):
                key = draw.choice([key for key in KEYS if key % WRITERS == number])
                version, there = self.states[key][-1]
                await connection.execute(statement(there, draw.random()), {"key": key})
                row = await (await connection.execute(ASK, {"key": key})).fetchone()
                if draw.random() < 0.1:
                    await connection.rollback()  # of this nobody may ever hear
                    continue
                state = (version + 1, None) if row is None else (row[0], True)
                self.states[key].append(state)
                await connection.commit()
                self.acknowledged[key] = len(self.states[key]) - 1
        self.writing -= 1

    async def read(self, session):
        draw = rng(100 + session)
        token, known = "", dict.fromkeys(KEYS, 0)
        while self.writing:
            if draw.random() < 0.3:
                known = dict(self.acknowledged)
                token = await self.router.token()
            key = draw.choice(KEYS)
            version = await self.cache.read(key, token)
            self.seen.append(Seen(session, key, known[key], version))
            if draw.random() < 0.3:
                await asyncio.sleep(draw.random() * 0.004)


ASK = "select system_version from mute where member_id = 77 and target_id = %(key)s"


def statement(there, drawn):
    """Insert what is not there; change or delete what is."""
    if there is None:
        return (
            "insert into mute (community_id, member_id, target_community_id, target_id, created_at)"
            " values (1, 77, 1, %(key)s, now())"
        )
    if drawn < 0.4:
        return "delete from mute where member_id = 77 and target_id = %(key)s"
    return "update mute set created_at = now() where member_id = 77 and target_id = %(key)s"


def stale(town):
    """Return what was older than its token promised, or than the session had been given before.

    An absent row is the oldest absence that may be meant.
    """
    found, last = [], {}
    for one in town.seen:
        least = max(one.least, last.get((one.session, one.key), 0))
        states = town.states[one.key]
        places = [
            n
            for n, (version, there) in enumerate(states)
            if n >= least and (there is None if one.version is None else version == one.version)
        ]
        places = [n for n in places if one.version is None or states[n][1]]
        if not places:
            found.append(one)
        else:
            last[one.session, one.key] = places[0]
    return found


async def test_no_reader_is_given_what_is_older_than_the_token(router, conninfo):
    """Nor what is older than before; and after quiet all that is held is as the table has it."""
    town = Town(router, conninfo)
    async with TemporaryStream(conninfo, [town]) as stream:
        work = [town.write(number) for number in range(WRITERS)]
        work += [town.read(session) for session in range(READERS)]
        await asyncio.wait_for(asyncio.gather(*work), SECONDS_MAX)

        assert stale(town) == []
        statistics = town.cache.statistics()
        assert statistics.hits > statistics.loads, "a test without hits proves nothing"
        assert statistics.refused, "a test without overtaken loads proves nothing"
        now = router.claimed(await router.token())
        assert await stream.reached(now, SECONDS_MAX)
        truth = {key: found.value for key, found in (await town.load(KEYS)).items()}
        held = {key: entry for key in KEYS if (entry := town.cache.held(key, now)) is not None}
        assert held
        assert {key: one.value for key, one in held.items()} == {k: truth.get(k) for k in held}


async def test_what_is_missed_while_the_stream_is_interrupted_is_not_believed(router, conninfo):
    town = Town(router, conninfo)

    async def interrupt():
        while town.writing:
            async with TemporaryStream(conninfo, [town]):
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.02)

    work = [town.write(number) for number in range(WRITERS)]
    work += [town.read(session) for session in range(READERS)]
    await asyncio.wait_for(asyncio.gather(interrupt(), *work), SECONDS_MAX)

    assert stale(town) == []
    assert town.cache.statistics().hits
