"""Lists of a column as they lie in a mapped file: read where they are, never copied as a whole."""

from bisect import bisect_right
from collections.abc import Iterator
from importlib import import_module
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[Any]
Rows: TypeAlias = NDArray[np.int64]

arrow: Any = import_module("pyarrow")  # it tells no types
BOOL = arrow.bool_()


class Ragged:
    """A column of lists.

    Integers are views of the mapped file; Arrow keeps truth values as bits, so these are copied
    list by list.
    """

    def __init__(self, column: Any) -> None:
        """Take a chunked column of lists without nulls."""
        self._chunks: list[tuple[Rows, Any]] = []
        self._firsts: list[int] = [0]
        for chunk in column.chunks:
            starts: Values = chunk.offsets.to_numpy()
            values = chunk.values
            seen = values if values.type == BOOL else values.to_numpy()
            self._chunks.append((starts.astype(np.int64), seen))
            self._firsts.append(self._firsts[-1] + len(chunk))

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, row: int) -> Values:
        """Return one list."""
        place = bisect_right(self._firsts, row) - 1
        starts, values = self._chunks[place]
        at = row - self._firsts[place]
        return _plain(values[starts[at] : starts[at + 1]])

    @property
    def lengths(self) -> Rows:
        """Return how long each list is."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(one) for one, _ in self._chunks)])

    def stretches(
        self, first: int, last: int, rows_max: int = 65_536
    ) -> Iterator[tuple[Rows, Values]]:
        """Yield the values of rows `first` to `last - 1` in stretches, each value with its row."""
        for (starts, values), begin, end in zip(
            self._chunks, self._firsts, self._firsts[1:], strict=False
        ):
            low, high = max(first, begin) - begin, min(last, end) - begin
            for start in range(low, high, rows_max):
                cut = starts[start : min(start + rows_max, high) + 1]
                rows = np.arange(start, start + len(cut) - 1) + begin
                yield np.repeat(rows, np.diff(cut)), _plain(values[cut[0] : cut[-1]])


def _plain(values: Any) -> Values:
    """Return values as numbers: truth values are unpacked, all others are that already."""
    if isinstance(values, np.ndarray):
        return cast("Values", values)
    return values.to_numpy(zero_copy_only=False)
