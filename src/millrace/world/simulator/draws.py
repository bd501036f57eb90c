"""Random numbers by the million that are the same on every machine and for ever.

NumPy may change how its distributions draw, but not the raw bits of Philox (its NEP 19). So the
bits come from there and the distributions are written here. Each part of the town has a stream of
its own, named: another draw in one part moves nothing in the others.
"""

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from millrace.kernel.hashing import hash64
from millrace.kernel.rng import Rng, rng

Floats: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]
Whole: TypeAlias = NDArray[np.int64]
Bits: TypeAlias = NDArray[np.bool_]
Shape: TypeAlias = int | tuple[int, ...]

_SMALLEST = 2.0**-54


class Draws:
    """One named stream of random numbers."""

    def __init__(self, seed: int, name: str) -> None:
        key = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        self._bits = np.random.Philox(key=np.frombuffer(key, dtype="<u8"))

    def uniform(self, shape: Shape) -> Floats:
        """Return numbers from 0 to below 1."""
        size = _size(shape)
        raw = self._bits.random_raw(size)
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def singles(self, shape: Shape) -> Singles:
        """Return numbers from 0 to below 1 in single precision: half the bits and the memory."""
        size = _size(shape)
        raw = self._bits.random_raw((size + 1) // 2).astype("<u8", copy=False).view("<u4")[:size]
        return ((raw >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)).reshape(shape)

    def normal(self, shape: Shape) -> Floats:
        """Return numbers of mean 0 and deviation 1 (Box and Muller)."""
        radius = np.sqrt(-2.0 * np.log(self.uniform(shape) + _SMALLEST))
        return radius * np.cos(2.0 * np.pi * self.uniform(shape))

    def exponential(self, shape: Shape) -> Floats:
        """Return numbers of mean 1, exponentially distributed."""
        return -np.log1p(-self.uniform(shape))

    def below(self, limit: int, shape: Shape) -> Whole:
        """Return whole numbers from 0 to below the limit."""
        return (self.uniform(shape) * limit).astype(np.int64)

    def among(self, weights: Floats, shape: Shape) -> Whole:
        """Return places in `weights`, each as often as its weight says."""
        return places(weights, self.uniform(shape))


def places(weights: Floats, drawn: Floats) -> Whole:
    """Return the place in `weights` that each number from 0 to 1 falls on."""
    ends: Floats = np.cumsum(weights)
    found = np.searchsorted(ends, drawn * float(ends[-1]), side="right")
    return np.minimum(found, len(weights) - 1).astype(np.int64)


def row_places(weights: Floats, drawn: Floats) -> Whole:
    """Return, for each row of `weights`, the place that the row's own number falls on."""
    ends = np.cumsum(weights, axis=1)
    below = (ends <= (drawn * ends[:, -1])[:, None]).sum(axis=1)
    return np.minimum(below, weights.shape[1] - 1).astype(np.int64)


def words(seed: int, name: str) -> Rng:
    """Return a generator for the composing of one text."""
    return rng(hash64(f"{seed}/{name}"))


def _size(shape: Shape) -> int:
    return shape if isinstance(shape, int) else int(np.prod(shape))
