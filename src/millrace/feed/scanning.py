"""Searches: a few milliseconds at most in the event loop, longer ones in a thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from millrace.feed.index import Hits, Mask, PostIndex, Vector

AT_ONCE = 150_000  # posts; a search of so many takes two milliseconds


class Scanner:
    """Searches an index; a large one outside the event loop."""

    def __init__(self, index: PostIndex, at_once: int = AT_ONCE) -> None:
        """Take the index, and how many posts are searched at once, in the event loop."""
        self._index = index
        self._at_once = at_once
        # Linear algebra and nothing else, so that one core is left to the event loop.
        self._thread = ThreadPoolExecutor(1, "millrace-search")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def search(self, vector: Vector, k: int, mask: Mask) -> Hits:
        """Return the k best slots, exactly as `PostIndex.search` does."""
        if self._index.posts <= self._at_once:
            return self._index.search(vector, k, mask)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._index.search, vector, k, mask
        )
