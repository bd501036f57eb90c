"""What was heard and is not done yet, in memory, and the place of the log that is safe meanwhile.

Bounded: what does not fit is given back to the caller, who remembers it in the tables. No input,
no output, no clock: moments are given.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from heapq import nlargest, nsmallest

from msgspec import Struct

from millrace.community.types import Key
from millrace.store.types import Position

POSTS_MAX = 1_000
MEMBERS_MAX = 10_000
MARKS_MAX = 10_000


class Waiting(Struct):
    """One obligation.

    number: of the first batch that named it; until it is done, no later place is safe.
    order: of the last batch that named it.
    since, due: when it was first heard of, and when it may be done, as monotonic seconds.
    tries: how often it failed by itself.
    """

    number: int
    order: int
    since: float
    due: float
    tries: int = 0


class Safe:
    """Follows which batches are done, and so up to where the log is not needed any more.

    Batches are numbered as they come. A place is safe when no obligation of its batch, or of an
    earlier one, is open.
    """

    def __init__(self) -> None:
        self.number = 0
        self._open: dict[int, int] = {}
        self._marks: deque[tuple[int, Position]] = deque()
        self._position: Position | None = None

    def hold(self, number: int) -> None:
        """Open an obligation of a batch."""
        self._open[number] = self._open.get(number, 0) + 1

    def release(self, number: int) -> None:
        """Close one."""
        left = self._open[number] - 1
        if left:
            self._open[number] = left
        else:
            del self._open[number]

    def reached(self, position: Position) -> None:
        """Hear that everything up to a position has been heard, in batches up to this number."""
        if len(self._marks) >= MARKS_MAX:  # a place less is a place that is confirmed later
            self._marks.pop()
        self._marks.append((self.number, position))
        self.number += 1

    def position(self) -> Position | None:
        """Return the newest place that is safe."""
        first = min(self._open, default=self.number)
        while self._marks and self._marks[0][0] < first:
            _, self._position = self._marks.popleft()
        return self._position


class Queue:
    """Obligations of one kind, by key."""

    def __init__(self, safe: Safe, most: int) -> None:
        self._safe = safe
        self._most = most
        self._waiting: dict[Key, Waiting] = {}
        self._taken: dict[Key, Waiting] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting or key in self._taken

    def __len__(self) -> int:
        return len(self._waiting) + len(self._taken)

    def add(self, key: Key, now: float, due: float) -> None:
        """Hear of a key; one that waits already keeps its place, and its moment."""
        number = self._safe.number
        known = self._waiting.get(key)
        if known is not None:
            known.order, known.due = number, min(known.due, due)
            return
        self._safe.hold(number)
        self._waiting[key] = Waiting(number, number, now, due)

    def take(self, now: float, most: int, *, newest: bool = False) -> list[Key]:
        """Take some whose moment has come: the newest first, or those that wait longest."""
        ready = [
            key
            for key, one in self._waiting.items()
            if one.due <= now and key not in self._taken  # heard again while it is worked on
        ]
        if newest:
            chosen = nlargest(most, ready, key=lambda key: (self._waiting[key].order, key))
        else:
            chosen = nsmallest(most, ready, key=lambda key: self._waiting[key].due)
        for key in chosen:
            self._taken[key] = self._waiting.pop(key)
        return chosen

    def done(self, keys: Iterable[Key]) -> None:
        """Strike out what was taken."""
        for key in keys:
            self._safe.release(self._taken.pop(key).number)

    def put_back(self, keys: Collection[Key], *, failed: bool) -> None:
        """Let what was taken wait again; `failed` where the reason lies in the keys themselves."""
        for key in keys:
            one = self._taken.pop(key)
            one.tries += failed
            heard = self._waiting.get(key)
            if heard is not None:  # meanwhile
                self._safe.release(heard.number)
                one.order, one.due = heard.order, heard.due
            self._waiting[key] = one

    def dropped(self, given_up: Callable[[Waiting], bool]) -> list[Key]:
        """Strike out what waits and is given up; return it."""
        keys = [key for key, one in self._waiting.items() if given_up(one)]
        for key in keys:
            self._safe.release(self._waiting.pop(key).number)
        return keys

    def overflow(self) -> list[Key]:
        """Strike out the oldest half where there are too many; return it."""
        if len(self._waiting) <= self._most:
            return []
        orders = sorted(one.order for one in self._waiting.values())
        middle = orders[len(orders) // 2]
        return self.dropped(lambda one: one.order <= middle)

    def first_due(self) -> float | None:
        """Return the moment at which the next one may be done."""
        return min((one.due for one in self._waiting.values()), default=None)

    def since(self) -> float | None:
        """Return since when the oldest waits, or is worked on."""
        everything = [*self._waiting.values(), *self._taken.values()]
        return min((one.since for one in everything), default=None)

    def done_before(self, number: int) -> bool:
        """Return whether nothing heard before a batch is open."""
        return all(one.number >= number for one in (*self._waiting.values(), *self._taken.values()))
