"""How formats 3 and 4 pack columns of numbers. Frozen with them.

Numbers are written as planes of bytes: all lowest bytes, then all next ones. Bytes that hardly
differ stand together, and zstd makes almost nothing of them. A column of features is written in the
shortest form that gives back exactly what was scored; where none does, as float32.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[Any]
Matrix = NDArray[np.float64]
HUNDREDTHS, GRID = 100.0, 16_384.0
GRID_MAX = 32_768
DISTINCT_MAX = 256
LOOKED_AT = 8  # rows that tell at once what most columns are not
WHOLE_HUNDREDTHS = np.arange(256) / HUNDREDTHS


HUNDREDTH, ON_GRID, DISTINCT, FLOAT = range(4)
"""How a column of features is written: whole hundredths from 0 to 2.55, in a byte; multiples of
1/16,384 from -2 to 2, in two; every value once, and a byte for each row; float32, which rounds."""


class Columns(Struct, frozen=True, array_like=True):
    """Columns of features: the form of each, the values of those that are DISTINCT, and the rest."""

    forms: list[int]
    values: list[list[float]]
    hundredths: bytes
    grid: bytes
    distinct: bytes
    floats: bytes


def planes(numbers: Numbers, kind: str) -> bytes:
    """Return numbers as planes of bytes, column by column."""
    packed = np.ascontiguousarray(numbers.T, dtype=kind)
    return packed.view(np.uint8).reshape(-1, packed.itemsize).T.tobytes()


def numbers(content: bytes, kind: str, *, columns: int = 0) -> Numbers:
    """Return what `planes` wrote. Shape: (n,), or (n, columns) where there are some."""
    size = np.dtype(kind).itemsize
    packed = np.frombuffer(content, np.uint8).reshape(size, -1).T
    found = np.ascontiguousarray(packed).view(kind).ravel()
    return found.reshape(columns, -1).T if columns else found


def steps(falling: Numbers) -> bytes:
    """Return float32 numbers that follow one another closely, as what is between their bits."""
    bits = np.ascontiguousarray(falling, dtype="<f4").view("<i4")
    return planes(np.diff(bits, prepend=np.int32(0)), "<i4")


def walked(content: bytes) -> Numbers:
    """Return what `steps` wrote."""
    return np.cumsum(numbers(content, "<i4"), dtype="<i4").view("<f4")


def columns(by_column: Matrix) -> Columns:
    """Return a matrix in short. Shape: (columns, rows)."""
    with np.errstate(invalid="ignore"):  # what is no such number is another one after this
        hundredths = (by_column * HUNDREDTHS + 0.5).astype(np.uint8)
    exact = (WHOLE_HUNDREDTHS.take(hundredths) == by_column).all(axis=1)
    forms = np.where(exact, HUNDREDTH, FLOAT)
    grid: list[Numbers] = []
    places: list[Numbers] = []
    values: list[list[float]] = []
    for place in np.flatnonzero(~exact).tolist():
        column = by_column[place]
        if _on_grid(column[:LOOKED_AT]) and _on_grid(column):
            forms[place] = ON_GRID
            grid.append(column * GRID)
            continue
        if (column == column[0]).all():
            found, rank = column[:1], np.zeros(len(column), dtype=np.uint8)
        else:
            found, rank = np.unique(column, return_inverse=True)
        if len(found) <= DISTINCT_MAX:
            forms[place] = DISTINCT
            values.append(found.tolist())
            places.append(rank.astype(np.uint8))
    return Columns(
        forms=forms.tolist(),
        values=values,
        hundredths=hundredths[exact].tobytes(),
        grid=planes(np.array(grid).T, "<i2"),
        distinct=b"".join(place.tobytes() for place in places),
        floats=planes(by_column[forms == FLOAT].T, "<f4"),
    )


def _on_grid(column: Numbers) -> bool:
    whole = column * GRID  # by a power of two: nothing is rounded
    return bool((np.rint(whole) == whole).all() and np.abs(whole).max() < GRID_MAX)


def matrix(packed: Columns, rows: int) -> Matrix:
    """Return what `columns` wrote. Shape: (rows, columns)."""
    forms = np.array(packed.forms, dtype=np.int64)
    found = np.empty((len(forms), rows))
    if not rows:
        return found.T
    hundredths = np.frombuffer(packed.hundredths, np.uint8).reshape(-1, rows)
    found[forms == HUNDREDTH] = hundredths / HUNDREDTHS
    found[forms == ON_GRID] = numbers(packed.grid, "<i2").reshape(-1, rows) / GRID
    found[forms == FLOAT] = numbers(packed.floats, "<f4").reshape(-1, rows)
    places = np.frombuffer(packed.distinct, np.uint8).reshape(-1, rows)
    for column, values, place in zip(
        np.flatnonzero(forms == DISTINCT).tolist(), packed.values, places, strict=True
    ):
        found[column] = np.array(values)[place]
    return found.T
