"""One batch of training: texts as token numbers, and who is to be near what. Pure.

Everything is an array, so that whatever trains takes it without a second look.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

ABSENT = -1
"""Stands where a member has fewer negatives than were asked for."""

Numbers: TypeAlias = NDArray[np.int32]
Rows: TypeAlias = NDArray[np.int64]


class Tokens(Struct, frozen=True):
    """Texts as token numbers, one behind the other, without padding.

    numbers: of all texts, each framed as the model wants it.
    starts: where each text begins, and the end of the last. Shape: (rows + 1,).
    """

    numbers: Numbers
    starts: Rows

    @property
    def rows(self) -> int:
        """Return how many texts there are."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Rows:
        """Return how many tokens each text has."""
        return np.diff(self.starts)

    def row(self, place: int) -> Numbers:
        """Return the token numbers of one text."""
        return self.numbers[self.starts[place] : self.starts[place + 1]]


def nothing() -> Rows:
    """Return no rows."""
    return np.empty(0, np.int64)


class Batch(Struct, frozen=True, kw_only=True):
    """Pairs of a member in a moment and a post that the member then engaged with.

    A post has one text in a batch, whoever it is shown to; columns are the rows of `posts`, and
    behind them, where histories are pooled, those of the memory of vectors that are recalled. Each
    column is a negative of each pair unless it is barred or the pair's positive.

    step: the same plan, seed and step make the same batch.
    members: one text per pair. posts: every post that the pairs name, once.
    positive: column of each pair's post. Shape: (pairs,).
    hard: columns of posts that were shown to the member and not engaged with; ABSENT where there
        are no more. Shape: (pairs, hard).
    random: columns of posts that were drawn, from what members could have been shown and were not.
        Shape: (random,).
    barred: whether a column must not be a pair's negative: the member engaged with it, or could
        not have been shown it. Never the pair's own positive. Shape: (pairs, columns).
    log_q: logarithm of how often a column is in a batch, as a share of all columns; what log-Q
        correction takes off the logits. Shape: (columns,).
    moments: row of `moments.arrow` of each pair. Shape: (pairs,).
    recalled: rows of the memory whose vectors are columns too. Shape: (recalled,).
    history: columns of what each member had engaged with, the newest; ABSENT behind it. Shape:
        (pairs, posts_max).
    ages_days: how long before the moment that was. The same shape.
    also: columns that stood at the moment, and that the member engaged with afterwards: they are
        barred, and count as positives where the recipe has `later_positives`. Shape: as `barred`.
    columns: row of the memory that each post of the batch has, ABSENT where it has none or another
        column has it. Shape: (posts,).
    who: row of the memory of profiles of each pair's member, likewise. Shape: (pairs,).
    """

    step: int
    members: Tokens
    posts: Tokens
    positive: Rows
    hard: Rows
    random: Rows
    barred: NDArray[np.bool_]
    log_q: NDArray[np.float32]
    moments: Rows
    recalled: Rows = field(default_factory=nothing)
    history: Rows = field(default_factory=lambda: nothing().reshape(0, 0))
    ages_days: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    also: NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), np.bool_))
    columns: Rows = field(default_factory=nothing)
    who: Rows = field(default_factory=nothing)

    @property
    def pairs(self) -> int:
        """Return how many pairs there are."""
        return len(self.positive)


def joined(texts: Sequence[Numbers]) -> Tokens:
    """Return texts one behind the other."""
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    return Tokens(np.concatenate(texts) if texts else np.empty(0, np.int32), starts)
