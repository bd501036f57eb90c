"""The database as of one moment, behind the door that rooms know: a router that only reads."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from millrace.kernel.errors import MillraceError
from millrace.store.queries import load
from millrace.store.router import Router
from millrace.store.session import Session

QUERIES = load("millrace.store")


class FrozenRouter(Router):
    """Lends the same session to every read: all of them see the same moment.

    For one reader at a time: statements wait for each other on the one connection.
    """

    def __init__(self, session: Session) -> None:  # there is no pool behind it
        self._session = session

    @asynccontextmanager
    async def read(self, token: str = "") -> AsyncGenerator[Session]:
        """Lend the session. A token is not looked at: the moment is what it is."""
        yield self._session

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Session]:
        """Refuse.

        Raises:
            MillraceError: always; what is read as of a moment is not written to.
        """
        raise MillraceError("a snapshot is read only", next_step="this is a mistake in the program")
        yield self._session  # a generator, as the caller expects


@asynccontextmanager
async def frozen(router: Router) -> AsyncGenerator[FrozenRouter]:
    """Lend the database as of now, until the block ends; statements may take as long as they take."""
    async with router.write() as session:
        await session.run(QUERIES["one_snapshot"])
        await session.run(QUERIES["unhurried"])
        yield FrozenRouter(session)
