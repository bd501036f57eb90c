"""What a search may look at before it looks at the vectors: the port that every index kind fills.

An index keeps its vectors itself, and its answers are always scored from them, by one kernel. A
first look only says which slots are worth that. So a kind of index is a first look: in eight bits,
by torch, or through lists of neighbours. Who may be found is the index's business alone: a look is
told which slots are allowed, and the index leaves out whatever else it names.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Protocol, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Mask = NDArray[np.bool_]
Slots = NDArray[np.int64]

AT_A_TIME = 4_096  # changed rows that are copied in one step


class Near(Struct, frozen=True):
    """What a first look says: which slots to score, each once.

    The best of those allowed are among them. Where `least` is a number, so is every other slot that
    scores so much, masked or not, and k that are allowed score so much; then it may be remembered.
    """

    slots: Slots
    least: np.float32 | None


class FirstLook(Protocol):
    """Knows about the rows of an index, from what it heard of them."""

    def changed(self, slot: int) -> None:
        """Hear that a slot has another vector, once it is written."""
        ...

    def grow(self, vectors: Vector) -> None:
        """Have more rows: the same vectors, in another array with emptiness behind them."""
        ...

    def near(self, query: Vector, allowed: Mask, k: int, *, lasting: bool) -> Near | None:
        """Say what is worth scoring; None where scoring all that is allowed costs less.

        Args:
            query: as `PostIndex.query` returns it.
            allowed: which slots may be found, in whole blocks; never more than there are rows.
            k: how many are asked for, not more than are allowed.
            lasting: prefer what may be remembered, also where it takes somewhat longer.
        """
        ...

    def prepare(self) -> None:
        """Make what the next look would make first; may be called in another thread."""
        ...

    @property
    def bytes(self) -> int:
        """Return how much memory this takes besides the vectors."""
        ...

    def ready(self) -> None:
        """Wait until nothing is being made beside."""
        ...


LookMaker: TypeAlias = Callable[[Vector], FirstLook]


class Copies(ABC):
    """Copies of the rows of an index; those that changed are made before the next look.

    Rows change in one thread and may be looked at in another. A changed row is copied from where
    its vector stands then: an array from before the index grew does not have it, or has the old
    one. So nobody hands in an array of their own.
    """

    def __init__(self, vectors: Vector) -> None:
        """Take the vectors of every row; they are written behind this object's back."""
        self._vectors = vectors
        self._changed: deque[int] = deque()
        self._alone = Lock()  # to copy, to look, or to grow

    def changed(self, slot: int) -> None:
        """Hear that a slot has another vector, once it is written."""
        self._changed.append(slot)

    def grow(self, vectors: Vector) -> None:
        """Have more rows: the same vectors, in another array with emptiness behind them."""
        with self._alone:
            self._vectors = vectors
            self._widen(len(vectors))

    def prepare(self) -> None:
        """Copy what changed."""
        with self._alone:
            self.catch_up()

    def ready(self) -> None:
        """Wait until nothing is being made beside."""
        return  # copies are made by whoever looks

    def catch_up(self) -> None:
        """Copy what changed; whoever holds the lock calls it."""
        while self._changed:
            count = min(len(self._changed), AT_A_TIME)
            self._copy([self._changed.popleft() for _ in range(count)])

    @abstractmethod
    def _widen(self, rows: int) -> None:
        """Make room for so many rows."""

    @abstractmethod
    def _copy(self, slots: list[int]) -> None:
        """Copy some rows; one may come twice."""
