"""What the people of a town ask of a feed: to open it, and to be heard.

Whoever fits this door can put a feed before people whose tastes are known: over HTTP and in the
time of the clock on the wall (`http_door.py`), or in process and in simulated time.
"""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from millrace.community.types import Action, Audience, PostKind


class Met(Struct, frozen=True, kw_only=True):
    """A post that a member meets in a feed.

    id: what the door calls it.
    row: its place in `Town.posts`; -1 for one that was written since.
    author: the author's place in `Town.people`; -1 for somebody else.
    seen: whether the member was shown it before.
    served: the served feed that it came in, as the door calls it; empty where there is none.
    """

    id: str
    row: int
    author: int
    kind: PostKind
    title: str
    text: str
    topics: list[str]
    created: datetime
    position: int
    seen: bool = False
    served: str = ""


class Deed(Struct, frozen=True, kw_only=True):
    """What a member does with a post that they met."""

    met: Met
    action: Action
    dwell_ms: int | None = None


class Draft(Struct, frozen=True, kw_only=True):
    """A post that a member is about to write."""

    kind: PostKind
    title: str
    text: str
    link: str
    topics: list[str]
    audience: Audience


class Door(Protocol):
    """A feed as its readers see it. Members are places in `Town.people`."""

    async def feed(self, member: int, count: int) -> list[Met]:
        """Return the first posts of the member's feed, made now."""
        ...

    async def shown(self, member: int, page: list[Met]) -> None:
        """Tell which posts the member has come past."""
        ...

    async def did(self, member: int, deeds: list[Deed]) -> None:
        """Tell what the member did, all but writing."""
        ...

    async def comment(self, member: int, met: Met, text: str) -> None:
        """Write under a post."""
        ...

    async def write(self, member: int, draft: Draft) -> str:
        """Write a post; return what the door calls it."""
        ...
