"""Work that one process at a time does: whoever has the lead of its name.

The server takes a lead back with the connection that has it, so whoever is killed leaves none behind.
"""

from contextlib import AsyncExitStack

from millrace.kernel.errors import UnavailableError
from millrace.kernel.hashing import hash64
from millrace.store.changes.slots import asking
from millrace.store.queries import load
from millrace.store.session import Session

QUERIES = load("millrace.store")


class Lead:
    """The lead of one name in one database; it needs a connection of its own."""

    def __init__(self, conninfo: str, name: str) -> None:
        """Take where it is asked for; nothing is asked yet."""
        self._conninfo = conninfo
        self._name = name
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self._ours = False

    async def taken(self) -> bool:
        """Take it where nobody has it, without waiting; return whether it is ours."""
        try:
            if self._session is None:
                self._session = await self._stack.enter_async_context(
                    asking(self._conninfo, self._name)
                )
            if self._ours:
                await self._session.value(QUERIES["river_look"])
            else:
                key = hash64(self._name) - (1 << 63)
                self._ours = bool(await self._session.value(QUERIES["river_lead"], key=key))
        except UnavailableError:
            await self.leave()
        return self._ours

    async def leave(self) -> None:
        """Give it up. Safe to call twice."""
        self._session, self._ours = None, False
        await self._stack.aclose()
