"""A new encoder embeds beside the old one, serves at once when it is told to, and goes back."""

import psycopg
import pytest
from encoder_town import (
    OLD,
    SHORT,
    serving,
    short_version,
    state_of,
    until,
    village,
)

from millrace.community.testing import Rooms
from millrace.feed.encoder_versions import EncoderVersions, State
from millrace.kernel.errors import ConflictError

pytestmark = pytest.mark.services


def vectors(conninfo: str, table: str) -> dict[str, set[int]]:
    """The lengths of stored vectors, by version."""
    with psycopg.connect(conninfo) as connection:
        query = f"select model_version, length(vector) / 2 from {table}"
        found: dict[str, set[int]] = {}
        for version, dims in connection.execute(query).fetchall():
            found.setdefault(version, set()).add(dims)
        return found


async def test_a_new_encoder_is_embedded_beside_and_serves_when_it_is_promoted(router, conninfo):
    """The old one serves until the moment of the change, and again after a rollback."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, gus, posts = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        before = await feed.page(rita.member)
        await versions.add(short_version(), "operator:olga")
        with pytest.raises(ConflictError, match="only a ready one can serve"):
            await versions.promote("short", "operator:olga")
        await until(lambda: _is(versions, "short", State.READY))
        await until(lambda: feed.holding.of("short"))
        beside = await feed.page(rita.member)
        held = len(feed.catalogue.indexes[SHORT.version])

        await versions.promote("short", "operator:olga")
        await until(lambda: feed.catalogue.version == SHORT.version)
        after = await feed.page(rita.member)
        fresh = await rooms.post(gus, "about kites", title="kites")
        await feed.settled()
        later = await feed.page(gus.member)
        await until(lambda: len(feed.catalogue.indexes[OLD.version]) == len(posts) + 1)

        rolled = await versions.rollback("operator:olga")
        await until(lambda: feed.catalogue.version == OLD.version)
        back = await feed.page(rita.member)
        found = feed.index.find(fresh.key)

    assert [page.degraded for page in (before, beside, after, later, back)] == [[]] * 5
    assert held == len(posts)
    assert rolled.name == "packaged"
    assert found is not None, "what was written meanwhile is in the vectors of the old one"
    assert vectors(conninfo, "post_embedding") == {OLD.version: {32}, SHORT.version: {16}}
    assert encoders(conninfo) == [
        OLD.version,
        OLD.version,
        SHORT.version,
        SHORT.version,
        OLD.version,
    ]


def encoders(conninfo: str) -> list[str]:
    """The encoder of each served feed, in their order."""
    from millrace.feed import record

    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "select record from served_feed order by served_feed_id"
        ).fetchall()
    return [record.decode(row[0]).versions["encoder"] for row in rows]


async def _is(versions: EncoderVersions, name: str, state: State) -> bool:
    return await state_of(versions, name) is state
