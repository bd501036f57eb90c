"""Tells whoever listens what has just been committed. Bounded: who is slow misses the oldest."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import TypeAlias

from msgspec import Struct

from millrace.community.types import Audience, Key

WAITING_MAX = 1_000


class Arrival(Struct, frozen=True, kw_only=True):
    """A post that may be shown from now on, to those whom its audience reaches."""

    post: Key
    author: Key
    audience: Audience
    created_at: datetime

    @property
    def community_id(self) -> int:
        """Return the community that the post belongs to."""
        return self.post.community_id


class Departure(Struct, frozen=True):
    """A member who is shut out from now on: banned, or removed."""

    member: Key


class Talk(Struct, frozen=True):
    """A post under which a comment came, or changed."""

    post: Key


News: TypeAlias = Arrival | Departure | Talk


class _Listener:
    """What one listener has not taken yet; the oldest goes when there is too much."""

    def __init__(self) -> None:
        self.waiting: deque[News] = deque(maxlen=WAITING_MAX)
        self.wake = asyncio.Event()


class Arrivals:
    """The listeners of one process."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()

    def __len__(self) -> int:
        """Return how many listen."""
        return len(self._listeners)

    def tell(self, news: News) -> None:
        """Tell every listener; nobody is waited for."""
        for listener in self._listeners:
            listener.waiting.append(news)
            listener.wake.set()

    async def listen(self) -> AsyncGenerator[News]:
        """Yield what happens from now on, for ever; close it to stop listening."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            while True:
                await listener.wake.wait()
                listener.wake.clear()
                while listener.waiting:
                    yield listener.waiting.popleft()
        finally:
            self._listeners.discard(listener)
