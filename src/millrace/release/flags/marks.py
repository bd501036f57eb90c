"""What names the rows that a process decides by: the same in two processes that have the same rows.

A sum of hashes, one per row, so that their order does not matter. What is about one member is summed
beside the rest: it changes what that member is given, and nobody else.
"""

from millrace.community.types import Key
from millrace.kernel.hashing import hash64

MASK = (1 << 64) - 1

Concerned = frozenset[Key] | None
"""Whose answers may be others; None for everybody's."""


class Marks:
    """What is set counts from `publish` on: who has a name has what it stands for."""

    def __init__(self) -> None:
        self._set: dict[tuple[str, str], int] = {}
        self._common = 0
        self._own: dict[Key, int] = {}
        self._moved: dict[Key, int] = {}
        """Own sums that are not published yet."""
        self._rest = 0
        self._all = 0
        self._name = _named(0)

    def mark(self, table: str, row: str, said: str | None, member: Key | None = None) -> None:
        """Note what a row says; None where it is gone.

        Args:
            table: of the row.
            row: its key.
            said: what it says.
            member: whom alone it is about.
        """
        place = (table, row)
        by = -self._set.pop(place, 0)
        if said is not None:
            made = self._set[place] = hash64(f"{table}\n{row}\n{said}")
            by += made
        if member is None:
            self._common = (self._common + by) & MASK
        else:
            before = self._moved.get(member, self._own.get(member, 0))
            self._moved[member] = (before + by) & MASK

    def clear(self) -> None:
        """Forget every row."""
        self._set.clear()
        self._common = 0
        self._moved = dict.fromkeys(self._own.keys() | self._moved.keys(), 0)

    def publish(self) -> Concerned:
        """Let what was noted count, and return whose answers may be others."""
        everybody = self._common != self._rest
        moved, self._moved = self._moved, {}
        others = frozenset(key for key, own in moved.items() if own != self._own.get(key, 0))
        own_sum = self._all - self._rest
        for key in others:
            own_sum += moved[key] - self._own.get(key, 0)
            self._own[key] = moved[key]
            if not moved[key]:
                del self._own[key]
        self._rest = self._common
        self._all = (self._rest + own_sum) & MASK
        self._name = _named(self._all)
        return None if everybody else others

    def etag(self) -> str:
        """Return the name of all rows."""
        return self._name

    def etag_of(self, member: Key) -> str:
        """Return the name of the rows that a member is decided by."""
        return _named(self._rest + self._own.get(member, 0))


def _named(total: int) -> str:
    return f"{total & MASK:016x}"
