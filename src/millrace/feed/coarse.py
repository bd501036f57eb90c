"""A first look at every vector in a quarter of the memory, with a bound of how far it may be off.

A vector is kept beside itself as whole numbers of eight bits and one scale. The product of two
such vectors is exact, and so cheap that memory sets the pace: a quarter of the bytes, a quarter of
the time. How far it can be from the true product is known from what rounding took away from either
side, so whoever looks at everything within that bound once more, exactly, misses nothing.
"""

from collections import deque
from threading import Lock
from typing import Any

import numpy as np
import simsimd
from msgspec import Struct
from numpy.typing import NDArray

Vector = NDArray[np.float32]

LEVELS = 127  # of a number, either side of zero
PIECE = 1 << 16  # rows of one call: the library keeps the interpreter for the time that they take
ROUNDING = 1e-4  # share of the two lengths; single precision loses less over 1,600 dimensions


class Products(Struct, frozen=True):
    """Inner products of rows with a query, and how far each of them may be from the true one."""

    values: Vector
    off: Vector


class Coarse:
    """Small copies of the rows of an index; those that changed are made before the next look.

    Rows change in one thread and may be looked at in another. A changed row is copied from where
    its vector stands then: an array from before the index grew does not have it, or has the old
    one. So nobody hands in an array of their own.
    """

    def __init__(self, vectors: Vector) -> None:
        """Take the vectors of every row; they are written behind this object's back."""
        rows, dims = vectors.shape
        self._vectors = vectors
        self._codes = np.zeros((rows, dims), dtype=np.int8)
        self._scales = np.zeros(rows, dtype=np.float32)
        self._changed: deque[int] = deque()
        self._lost = np.zeros(rows, dtype=np.float32)  # length of what rounding took from a row
        self._length_max = 0.0  # of a row with what rounding took, the longest there ever was
        self._alone = Lock()  # to copy, to look, or to grow

    def changed(self, row: int) -> None:
        """Hear that a row has another vector, once it is written."""
        self._changed.append(row)

    def grow(self, vectors: Vector) -> None:
        """Have more rows: the same vectors, in another array with emptiness behind them."""
        with self._alone:
            more = len(vectors) - len(self._codes)
            self._codes = np.pad(self._codes, ((0, more), (0, 0)))
            self._scales = np.pad(self._scales, (0, more))
            self._lost = np.pad(self._lost, (0, more))
            self._vectors = vectors

    def products(self, query: Vector, count: int) -> Products:
        """Return the products of the query with the first so many rows."""
        with self._alone:
            while self._changed:
                self._copy([self._changed.popleft() for _ in range(min(len(self._changed), 4096))])
            return self._looked(query, count)

    def _looked(self, query: Vector, count: int) -> Products:
        codes, scale = _coded(query[None])
        length = float(np.linalg.norm(query))
        lost = float(np.linalg.norm(query - codes[0] * scale[0]))
        values = np.empty(count, dtype=np.float32)
        for start in range(0, count, PIECE):
            rows = slice(start, min(start + PIECE, count))
            found = np.asarray(simsimd.cdist(codes, self._codes[rows], "dot"))[0]
            np.multiply(found, self._scales[rows] * scale[0], out=values[rows], casting="same_kind")
        # What rounding took from the row, times the query; what it took from the query, times the
        # row as it was rounded; and what single precision may lose of both lengths.
        off = self._lost[:count] * np.float32(length)
        off += np.float32((lost + ROUNDING * (length + lost)) * self._length_max)
        return Products(values, off)

    def _copy(self, rows: list[int]) -> None:
        """Make the small copies of some rows."""
        exact = self._vectors[rows]
        codes, scales = _coded(exact)
        self._codes[rows], self._scales[rows] = codes, scales
        self._lost[rows] = lost = np.linalg.norm(exact - codes * scales[:, None], axis=1)
        longest = float((np.linalg.norm(exact, axis=1) + lost).max())
        self._length_max = max(self._length_max, longest)


def _coded(rows: Vector) -> tuple[NDArray[np.int8], NDArray[np.floating[Any]]]:
    """Return rows as whole numbers, and what one stands for in each row."""
    scales = np.abs(rows).max(axis=1) / LEVELS
    scales[scales == 0] = 1.0
    return np.rint(rows / scales[:, None]).astype(np.int8), scales
