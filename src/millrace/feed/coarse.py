"""A first look at every vector in a quarter of the memory, with a bound of how far it may be off.

A vector is kept beside itself as whole numbers of eight bits and one scale. The product of two
such vectors is exact, and so cheap that memory sets the pace: a quarter of the bytes, a quarter of
the time. How far it can be from the true product is known from what rounding took away from either
side, so whoever looks at everything within that bound once more, exactly, misses nothing.

Where few may be found, only their copies are fetched, one by one: what such a look says holds for
them alone, and is not to be remembered.
"""

from typing import Any

import numpy as np
import simsimd
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.first_look import Copies, Mask, Near, Slots, Vector
from millrace.feed.threshold import kth, likely

POSTS_MIN = 10_000  # fewer that are allowed are read one by one in the time of a first look
ASKED_SHARE = 0.1  # of those allowed; whoever asks for more has little use for a first look
LEVELS = 127  # of a number, either side of zero
PIECE = 1 << 16  # rows of one call: the library keeps the interpreter for the time that they take
FETCHED = 512  # copies fetched at a time; with 384 dimensions 192 KiB, so they stay in L2
# A copy in order costs 13 ns and one alone 50 (384 dimensions): so few that are allowed are fetched.
ALONE_SHARE = 0.25
# A look at all can be remembered, and answers whoever asks again: worth so much more than one look.
REMEMBERED_SHARE = 0.05
ROUNDING = 1e-4  # share of the two lengths; single precision loses less over 1,600 dimensions


class Products(Struct, frozen=True):
    """Inner products of rows with a query, and how far each of them may be from the true one."""

    values: Vector
    off: Vector


class Coarse(Copies):
    """Small copies of the rows of an index."""

    def __init__(self, vectors: Vector, posts_min: int = POSTS_MIN) -> None:
        """Take the vectors of every row, and for how many posts a look is worth its time."""
        super().__init__(vectors)
        rows, dims = vectors.shape
        self._posts_min = posts_min
        self._codes = np.zeros((rows, dims), dtype=np.int8)
        self._scales = np.zeros(rows, dtype=np.float32)
        self._lost = np.zeros(rows, dtype=np.float32)  # length of what rounding took from a row
        self._length_max = 0.0  # of a row with what rounding took, the longest there ever was

    @property
    def bytes(self) -> int:
        """Return how much memory the copies take."""
        return self._codes.nbytes + self._scales.nbytes + self._lost.nbytes

    def near(self, query: Vector, allowed: Mask, k: int, *, lasting: bool) -> Near | None:
        """Say what is worth scoring; None where scoring all that is allowed costs less."""
        count = int(np.count_nonzero(allowed))
        if count < self._posts_min or k > ASKED_SHARE * count:
            return None
        if count < (REMEMBERED_SHARE if lasting else ALONE_SHARE) * len(allowed):
            slots = np.flatnonzero(allowed)
            found = self.products(query, slots)
            return Near(slots[_above(found, np.ones(count, dtype=np.bool_), k)[0]], None)
        return Near(*_above(self.products(query, len(allowed)), allowed, k))

    def products(self, query: Vector, rows: int | Slots) -> Products:
        """Return the products of the query with the first so many rows, or with those rows."""
        with self._alone:
            self.catch_up()
            return self._looked(query, rows)

    def _looked(self, query: Vector, rows: int | Slots) -> Products:
        codes, scale = _coded(query[None])
        length = float(np.linalg.norm(query))
        lost = float(np.linalg.norm(query - codes[0] * scale[0]))
        if isinstance(rows, int):
            values, lost_rows = self._in_order(codes, rows), self._lost[:rows]
        else:
            values, lost_rows = self._alone_each(codes, rows), self._lost.take(rows)
        values *= scale[0]
        # What rounding took from the row, times the query; what it took from the query, times the
        # row as it was rounded; and what single precision may lose of both lengths.
        off = lost_rows * np.float32(length)
        off += np.float32((lost + ROUNDING * (length + lost)) * self._length_max)
        return Products(values, off)

    def _in_order(self, codes: NDArray[np.int8], count: int) -> Vector:
        """Return the products of the first so many rows, in whole numbers of theirs."""
        values = np.empty(count, dtype=np.float32)
        for start in range(0, count, PIECE):
            rows = slice(start, min(start + PIECE, count))
            np.multiply(_dot(codes, self._codes[rows]), self._scales[rows], out=values[rows])
        return values

    def _alone_each(self, codes: NDArray[np.int8], slots: Slots) -> Vector:
        """Return the same of single rows, copied block by block through the cache."""
        values = np.empty(len(slots), dtype=np.float32)
        rows = np.empty((min(FETCHED, len(slots)), self._codes.shape[1]), dtype=np.int8)
        for start in range(0, len(slots), FETCHED):
            wanted = slots[start : start + FETCHED]
            # "clip" writes straight into `rows`; the slots are known to be inside.
            np.take(self._codes, wanted, axis=0, out=rows[: len(wanted)], mode="clip")
            values[start : start + len(wanted)] = _dot(codes, rows[: len(wanted)])
        values *= self._scales.take(slots)
        return values

    def _widen(self, rows: int) -> None:
        more = rows - len(self._codes)
        self._codes = np.pad(self._codes, ((0, more), (0, 0)))
        self._scales = np.pad(self._scales, (0, more))
        self._lost = np.pad(self._lost, (0, more))

    def _copy(self, slots: list[int]) -> None:
        exact = self._vectors[slots]
        codes, scales = _coded(exact)
        self._codes[slots], self._scales[slots] = codes, scales
        self._lost[slots] = lost = np.linalg.norm(exact - codes * scales[:, None], axis=1)
        longest = float((np.linalg.norm(exact, axis=1) + lost).max())
        self._length_max = max(self._length_max, longest)


def _above(found: Products, allowed: Mask, k: int) -> tuple[Slots, np.float32]:
    """Return the places that may belong to the k best of those allowed, and what these score."""
    lowest = found.values - found.off
    least = kth(lowest[likely(lowest, allowed, k)], k)
    return np.flatnonzero(found.values + found.off >= least), least


def _dot(codes: NDArray[np.int8], rows: NDArray[np.int8]) -> Vector:
    """Return exact products; single precision holds them up to a thousand dimensions."""
    return np.asarray(simsimd.cdist(codes, rows, "dot", out_dtype="float32"))[0]


def _coded(rows: Vector) -> tuple[NDArray[np.int8], NDArray[np.floating[Any]]]:
    """Return rows as whole numbers, and what one stands for in each row."""
    scales = np.abs(rows).max(axis=1) / LEVELS
    scales[scales == 0] = 1.0
    return np.rint(rows / scales[:, None]).astype(np.int8), scales
