"""Randomness is passed in and seeded, so that a run can be replayed."""

import random
from typing import TypeAlias

Rng: TypeAlias = random.Random


def rng(seed: int) -> Rng:
    """Return a generator that gives the same draws for the same seed."""
    return random.Random(seed)
