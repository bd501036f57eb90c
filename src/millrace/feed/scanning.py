"""Searches that share a scan: who comes while one runs waits for the next, together.

A scan of all vectors takes as long as memory takes to bring them, for one query or for several.
So one scan runs at a time, in a thread of its own, and the next one takes everybody who waits by
then: nobody is kept waiting in order to have company.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from msgspec import Struct

from millrace.feed.index import Hits, Mask, PostIndex, Vector

TOGETHER_MAX = 16  # queries of one scan, so that the last of them does not wait too long
SHARE_MIN = 0.5  # of the posts; where fewer pass the mask, a search reads those and not all
AT_ONCE = 20_000  # posts; a scan of so few takes a millisecond, and handing it over more


class _Asked(Struct):
    """Who waits, and for the scores of which query."""

    vector: Vector
    scores: "asyncio.Future[Vector]"


class Scanner:
    """Searches an index; a large one outside the event loop."""

    def __init__(self, index: PostIndex, at_once: int = AT_ONCE) -> None:
        """Take the index, and how many posts are searched at once, in the event loop."""
        self._index = index
        self._at_once = at_once
        self._waiting: list[_Asked] = []
        self._running: asyncio.Task[None] | None = None
        # Linear algebra and nothing else: the second thread is for searches behind narrow masks.
        self._threads = ThreadPoolExecutor(2, "millrace-search")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def search(self, vector: Vector, k: int, mask: Mask) -> Hits:
        """Return the k best slots, exactly as `PostIndex.search` does."""
        loop, index = asyncio.get_running_loop(), self._index
        if index.posts <= self._at_once:
            return index.search(vector, k, mask)
        if np.count_nonzero(mask) < SHARE_MIN * index.posts:
            return await loop.run_in_executor(self._threads, index.search, vector, k, mask)
        asked = _Asked(np.ascontiguousarray(vector, dtype=np.float32), loop.create_future())
        self._waiting.append(asked)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return index.best(await asked.scores, k, mask)

    async def _run(self) -> None:
        """Scan until nobody waits."""
        loop = asyncio.get_running_loop()
        turn: list[_Asked] = []
        try:
            while self._waiting:
                turn, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                try:
                    queries = np.stack([one.vector for one in turn])
                    found = await loop.run_in_executor(self._threads, self._index.scores, queries)
                except Exception as exc:  # noqa: BLE001 - each of them is told, the next ones are served
                    for one in turn:
                        if not one.scores.done():
                            one.scores.set_exception(exc)
                    continue
                for one, scores in zip(turn, found, strict=True):
                    if not one.scores.done():  # whoever asked may have gone
                        one.scores.set_result(scores)
        finally:
            self._running = None
            for one in [*turn, *self._waiting]:
                one.scores.cancel()
            self._waiting = []
