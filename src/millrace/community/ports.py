"""What this room asks of those above it."""

from datetime import datetime
from typing import Protocol

from millrace.community.types import Key
from millrace.store.session import Session


class Belongings(Protocol):
    """What another room keeps about members, and gives up when one is removed."""

    async def leave(self, session: Session, member: Key, by: str, now: datetime) -> None:
        """Take along what is kept about a member, in the transaction that removes them.

        Args:
            session: that transaction.
            member: who is removed.
            by: who removes them, as the trails name them.
            now: the moment of the removal.
        """
        ...
