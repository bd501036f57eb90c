"""Scans of tables for what is to be embedded: who asked for one, and what was tried too often."""

import asyncio
import logging
from collections.abc import Sequence

from millrace.community.types import Key

TRIES_MAX = 5  # of what fails by itself

logger = logging.getLogger(__name__)


class Round:
    """Scans that were asked for, and those that were done."""

    def __init__(self) -> None:
        self.asked = 0
        self.done = 0
        self.wake = asyncio.Event()

    def ask(self) -> int:
        """Ask for one; return its number."""
        self.asked += 1
        self.wake.set()
        return self.asked


class Tries:
    """Keeps a scan from trying for ever what stays out of date whatever is done."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._tried: dict[Key, int] = {}

    def left(self, keys: Sequence[Key]) -> list[Key]:
        """Return those that were not yet tried too often, and count one more try of them."""
        left = [key for key in keys if self._tried.get(key, 0) < TRIES_MAX]
        if keys and not left:
            logger.warning("%d %s stay out of date, as %s", len(keys), self._what, keys[0])
        self._tried = {key: self._tried.get(key, 0) + 1 for key in left}
        return left
