"""A commit is heard before it is seen.

PostgreSQL flushes the record of a commit, and may send it down the stream, an instant before the
transaction counts as ended for new statements; on a busy machine the instant is milliseconds.
Whoever reads tables because of a change would then read the old row, and never look again.
"""

import asyncio
from collections.abc import Sequence

from millrace.kernel.errors import UnavailableError
from millrace.store.changes.types import Change
from millrace.store.queries import load
from millrace.store.router import Router

QUERIES = load("millrace.store")
PAUSE_SECONDS = 0.002
PAUSES_MAX = 5_000  # ten seconds: a server that is not able to end a transaction in that is down


async def seen(router: Router, changes: Sequence[Change]) -> None:
    """Return when every statement from now on sees these changes.

    Raises:
        UnavailableError: a transaction that was heard as committed does not end.
    """
    numbers = sorted({change.transaction for change in changes if change.transaction})
    if not numbers:
        return
    for _ in range(PAUSES_MAX):
        async with router.read() as session:
            if await session.value(QUERIES["all_seen"], numbers=numbers):
                return
        await asyncio.sleep(PAUSE_SECONDS)
    raise UnavailableError(
        f"transaction {numbers[-1]} was heard as committed and does not end",
        next_step="look at the server's log",
    )
