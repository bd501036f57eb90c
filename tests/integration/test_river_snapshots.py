"""A snapshot that was made from the log may be an instant ahead of new statements."""

import psycopg
import pytest

from millrace.store.queries import load

pytestmark = pytest.mark.services
QUERIES = load("millrace.store")


async def seen(router, snapshot):
    async with router.read() as session:
        return await session.value(QUERIES["snapshot_seen"], snapshot=snapshot)


async def test_what_a_snapshot_sees_is_waited_for(router, conninfo):
    async with await psycopg.AsyncConnection.connect(conninfo) as writer:
        row = await (await writer.execute("select pg_current_xact_id()::text::bigint")).fetchone()
        number = row[0]
        ahead, without = f"{number + 1}:{number + 1}:", f"{number}:{number + 1}:{number}"

        assert not await seen(router, ahead), "it sees a transaction that still runs"
        assert await seen(router, without), "what the snapshot does not see is not waited for"
        await writer.commit()

    assert await seen(router, ahead)


async def test_the_snapshot_of_a_new_statement_is_seen_at_once(router):
    async with router.read() as session:
        own = await session.value(QUERIES["snapshot_here"])

    assert await seen(router, own)
