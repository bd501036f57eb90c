"""Goal: what flags and rings keep of a member goes with them, everywhere, and the trail says so once."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from millrace.api.testing import Town, town
from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.types import Key, program
from millrace.kernel.errors import NotFoundError
from millrace.release.flags.testing import flags_on
from millrace.release.flags.types import Choice, Ring, RingEntry

pytestmark = pytest.mark.services

WAIT_SECONDS = 30
KEPT = ("ring_entry", "member_app")


def entry(member: Key, ring: Ring, choice: Choice = Choice.LISTED, track: str = "ios") -> RingEntry:
    """Return an entry as a release manager, or the member, writes it."""
    actor = "operator:olga" if choice is Choice.LISTED else f"member:{member}"
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return RingEntry(track=track, ring=ring, member=member, choice=choice, actor=actor, at=at)


def rows(conninfo: str, table: str, member: Key) -> int:
    """Return how many rows of a table are about a member."""
    with psycopg.connect(conninfo) as database:
        query = f"select count(*) from {table} where (community_id, member_id) = (%s, %s)"
        return database.execute(query, (member.community_id, member.id)).fetchone()[0]


async def settled(place: Town, member: Key) -> None:
    """Let a member be listed, wish something, and be seen with an app."""
    flags = place.program.flags
    await flags.ring_put(entry(member, Ring.EMPLOYEES), reason="builds it")
    wish = entry(member, Ring.BETA, Choice.OPTED_IN, "android")
    await flags.ring_put(wish, reason="curious")
    await flags.note_app(member, "ios", "4.2.0")
    await flags.flush()


async def test_what_is_kept_of_a_member_goes_with_them(conninfo, tmp_path, router):
    """By whichever door; every process counts anew, and the trail names nobody but by key."""
    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        here, there = place.program.flags, flags_on(router, conninfo, node=7)
        await there.start()
        try:
            ada, ben, mona = (place.members[name] for name in ("ada", "ben", "mona"))
            for member in (ada, ben, mona):
                await settled(place, member)
            async with asyncio.timeout(WAIT_SECONDS):
                while there.etag() != here.etag():
                    await there.changed(there.etag(), 1.0)
            before = [await flags.ring_counts("ios") for flags in (here, there)]
            path = f"/v1/members/{ada}"
            answer = await client.delete(
                path, params={"reason": "Ada of the harbour"}, headers=place.bearer("operator")
            )
            assert answer.status_code == 204
            thing = Thing(ThingKind.MEMBER, ben)
            await place.program.moderation.decide(program(), thing, Move.REMOVE, "Ben, again")
            async with asyncio.timeout(WAIT_SECONDS):
                while any(len(flags.live.entries) > 2 for flags in (here, there)):
                    await asyncio.sleep(0.005)
            after = [await flags.ring_counts("ios") for flags in (here, there)]
            named = [flags.rings().ring("ios", ada, {}) for flags in (here, there)]
            listed = [await flags.ring_members("ios", Ring.EMPLOYEES) for flags in (here, there)]

            assert [counts[Ring.EMPLOYEES] for counts in before] == [3, 3]
            assert [counts[Ring.EMPLOYEES] for counts in after] == [1, 1]
            assert named == [Ring.EVERYONE, Ring.EVERYONE]
            assert listed == [[mona], [mona]]
            assert here.etag() == there.etag()
        finally:
            await there.stop()
        assert [rows(conninfo, table, who) for table in KEPT for who in (ada, ben)] == [0, 0, 0, 0]
        assert [rows(conninfo, table, mona) for table in KEPT] == [2, 1]
        trail = await here.ring_history(ada)
        assert {(one.choice, one.actor, one.reason) for one in trail[:2]} == {
            (None, "operator:olga", "the member was removed")
        }
        assert [one.choice for one in trail[2:]] == [Choice.OPTED_IN, Choice.LISTED]
        assert "harbour" not in repr(trail), "why they were removed stands with the removal alone"


async def test_nothing_comes_after_the_removal(conninfo, tmp_path):
    """A list that was open in a page, and a version that was noted before, name nobody any more."""
    async with town(conninfo, str(tmp_path)) as place:
        flags, ada = place.program.flags, place.members["ada"]
        await flags.note_app(ada, "ios", "4.2.0")
        await place.program.members.remove(program(), ada, "for the test")
        with pytest.raises(NotFoundError):
            await flags.ring_put(entry(ada, Ring.EMPLOYEES), reason="builds it")
        await flags.flush()

        assert [rows(conninfo, table, ada) for table in KEPT] == [0, 0]


async def test_who_writes_while_a_member_goes_waits(conninfo, tmp_path):
    """An entry and a note that begin before the removal ends do not outlive it."""
    async with town(conninfo, str(tmp_path)) as place:
        flags, ada = place.program.flags, place.members["ada"]
        names = (ada.community_id, ada.id)
        with psycopg.connect(conninfo) as going:
            going.execute(
                "update member set removed_at = now(), removed_by = 'x', removed_reason = ''"
                " where (community_id, member_id) = (%s, %s)",
                names,
            )
            going.execute("lock table member_app in share row exclusive mode")
            await flags.note_app(ada, "ios", "4.2.0")
            put = asyncio.create_task(flags.ring_put(entry(ada, Ring.EMPLOYEES), reason="tests"))
            note = asyncio.create_task(flags.flush())
            await waiting(conninfo, 2)
        with pytest.raises(NotFoundError):
            await put
        await note

        assert [rows(conninfo, table, ada) for table in KEPT] == [0, 0]


async def waiting(conninfo: str, count: int) -> None:
    """Wait until so many statements wait for a lock."""
    query = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    with psycopg.connect(conninfo, autocommit=True) as database:
        async with asyncio.timeout(WAIT_SECONDS):
            while database.execute(query).fetchone()[0] < count:
                await asyncio.sleep(0.01)
