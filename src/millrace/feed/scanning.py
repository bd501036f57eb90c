"""Searches: a few milliseconds at most in the event loop, longer ones in a thread.

Whoever searches with the same vector again is answered from what was near the last time, as exactly
as from the beginning: see recollections.py.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from millrace.feed.index import SCAN_SHARE, Hits, Mask, PostIndex, Vector
from millrace.feed.recollections import ROWS_EACH_MAX, Recollection
from millrace.feed.threshold import kth

AT_ONCE = 150_000  # posts; a search of so many takes two milliseconds
SPARE = 3  # times what was asked for is remembered: what is seen or removed later is among it


class Scanner:
    """Searches an index; a large one outside the event loop. What it remembers, the index has."""

    def __init__(
        self, index: PostIndex, at_once: int = AT_ONCE, thread: ThreadPoolExecutor | None = None
    ) -> None:
        """Take the index, and where large ones are searched.

        Args:
            index: what is searched.
            at_once: how many posts are searched at once, in the event loop.
            thread: searches larger ones, and is ended by whoever made it; by default one of its own.
        """
        self._index = index
        self._at_once = at_once
        self._thread = search_thread() if thread is None else thread

    def close(self) -> None:
        """End the thread."""
        end(self._thread)

    async def search(self, vector: Vector, k: int, mask: Mask) -> Hits:
        """Return the k best slots, exactly as `PostIndex.search` does."""
        query, recollections = self._index.query(vector), self._index.recollections
        hits = self._again(query, k, mask)
        recollections.count(hit=hits is not None)
        if hits is not None:
            return hits
        mark = recollections.mark  # what changes from here on is scored the next time
        if self._index.posts <= self._at_once:
            hits, seen = self._looked(query, k, mask, mark)
        else:
            hits, seen = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._looked, query, k, mask, mark
            )
        if seen is not None:
            recollections.keep(query, seen)
        return hits

    def _again(self, query: Vector, k: int, mask: Mask) -> Hits | None:
        """Return the k best from what was near the last time, None where that is not enough."""
        seen = self._index.recollections.get(query)
        seen = None if seen is None else self._renewed(query, seen)
        if seen is None:
            return None
        allowed = self._index.allowed(mask)
        good = seen.slots < len(allowed)  # a mask may be older than the index
        good[good] = allowed[seen.slots[good]]
        if np.count_nonzero(good) < k:
            return None
        return self._index.best(seen.slots[good].astype(np.int64), seen.scores[good], k)

    def _renewed(self, query: Vector, seen: Recollection) -> Recollection | None:
        """Return it as it is now: with what got another vector since scored anew."""
        recollections = self._index.recollections
        changed = recollections.since(seen.mark)
        if changed is None or not len(changed):
            return None if changed is None else seen
        scores = self._index.scores(query, changed)
        near = scores >= seen.least
        old = np.ones(self._index.capacity, dtype=np.bool_)
        old[changed] = False
        kept = old[seen.slots]
        found = Recollection(
            recollections.mark,
            seen.least,
            np.concatenate([seen.slots[kept], changed[near].astype(np.int32)]),
            np.concatenate([seen.scores[kept], scores[near]]),
        )
        recollections.keep(query, found)
        return found

    def _looked(
        self, query: Vector, k: int, mask: Mask, mark: int
    ) -> tuple[Hits, Recollection | None]:
        """Return the k best, and all that is near, where a first look told it."""
        index = self._index
        allowed = index.allowed(mask)
        k = min(k, int(np.count_nonzero(allowed)))
        near = index.near(query, allowed, k, lasting=True) if k > 0 else None
        if near is None:
            return index.search(query, k, mask), None
        slots, least = near.slots, near.least
        if len(slots) > ROWS_EACH_MAX:
            least = None
        if least is None:
            slots = slots[allowed[slots]]
            if len(slots) > SCAN_SHARE * len(allowed):
                return index.search(query, k, mask), None
        scores = index.scores(query, slots)
        good = allowed[slots]
        hits = index.best(slots[good], scores[good], k)
        if least is None:
            return hits, None
        if np.count_nonzero(good) > SPARE * k:
            least = max(least, kth(scores[good], SPARE * k))
        kept = scores >= least
        return hits, Recollection(mark, least, slots[kept].astype(np.int32), scores[kept])


def search_thread() -> ThreadPoolExecutor:
    """Return a thread for searches: linear algebra and nothing else, so that one core is left."""
    return ThreadPoolExecutor(1, "millrace-search")


def end(thread: ThreadPoolExecutor) -> None:
    """End a thread for searches; what waits for it is not done any more."""
    thread.shutdown(wait=False, cancel_futures=True)
