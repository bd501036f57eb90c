"""A commit is heard before it is seen: the barrier waits for the rest."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from millrace.store.changes.seen import seen
from millrace.store.changes.types import Change, Operation
from millrace.store.types import Position

pytestmark = pytest.mark.services
SECONDS_MAX = 10.0


def change(transaction: int) -> Change:
    return Change(
        op=Operation.CREATE, table="post", key=(1, 1), before=None, after={}, version=1,
        position=Position("1", 1, 1), committed_at=datetime(2026, 3, 1, tzinfo=UTC), number=0,
        transaction=transaction,
    )  # fmt: skip


async def test_waits_until_the_transaction_has_ended(router, conninfo):
    async with await psycopg.AsyncConnection.connect(conninfo) as writer:
        row = await (await writer.execute("select pg_current_xact_id()::text::bigint")).fetchone()
        number = row[0] % (1 << 32)
        waiting = asyncio.create_task(seen(router, [change(number)]))
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done

        await writer.commit()
        await asyncio.wait_for(waiting, SECONDS_MAX)


@pytest.mark.parametrize("numbers", [[], [0], [3], [3, 4]])
async def test_what_has_ended_or_is_unknown_is_not_waited_for(router, numbers):
    await asyncio.wait_for(seen(router, [change(number) for number in numbers]), SECONDS_MAX)
