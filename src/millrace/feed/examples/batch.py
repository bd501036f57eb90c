"""One batch of training: texts as token numbers, and who is to be near what. Pure.

Everything is an array, so that whatever trains takes it without a second look. Texts are cut into
pieces of about one length (docs/decisions/0146): a piece is one call of the model.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

ROW_MULTIPLE = 8
"""Tokens. Rows of such lengths are the quick ones, on processors and on accelerators."""

ABSENT = -1
"""Stands where a member has fewer negatives than were asked for."""

Numbers: TypeAlias = NDArray[np.int32]


class Piece(Struct, frozen=True):
    """Texts of about one length, padded to the longest.

    places: which texts of the batch these are. Shape: (rows,).
    numbers: token numbers. Shape: (rows, length), length a multiple of ROW_MULTIPLE unless the
        model reads no more.
    real: which of them are tokens and not padding; each row's are its first. The same shape.
    """

    places: Numbers
    numbers: Numbers
    real: NDArray[np.bool_]


class Texts(Struct, frozen=True):
    """Texts of a batch by their places, 0 to count - 1; each place is in exactly one piece.

    tokens: how many are real. padded: how many the pieces hold.
    """

    count: int
    pieces: tuple[Piece, ...]
    tokens: int
    padded: int

    @property
    def padding_share(self) -> float:
        """Return which share of what a model reads of these is padding."""
        return 1.0 - self.tokens / self.padded if self.padded else 0.0


class Batch(Struct, frozen=True, kw_only=True):
    """Pairs of a member in a moment and a post that the member then engaged with.

    A post has one text in a batch, whoever it is shown to; columns are the places of posts.

    number: of the batch in the whole run; the same plan, seed and number make the same batch.
    members: one text per pair. posts: every post that the pairs name, once.
    positives: column of each pair's post. Shape: (pairs,).
    hard: columns of posts that were shown to the member and not engaged with, the best known
        first; ABSENT where there are no more. Shape: (pairs, plan.hard).
    drawn: columns of posts that the member was never shown. Shape: (pairs, plan.drawn).
    allowed: whether a column is the pair's positive, or may be its negative: it may not where the
        member engaged with it at another time, or could not have met it. Shape: (pairs, columns).
    log_q: logarithm of how often a column is in a batch, as a share of all columns; what log-Q
        correction takes off the logits. Shape: (columns,).
    moments: row of `moments.arrow` of each pair. Shape: (pairs,).
    """

    number: int
    members: Texts
    posts: Texts
    positives: Numbers
    hard: Numbers
    drawn: Numbers
    allowed: NDArray[np.bool_]
    log_q: NDArray[np.float32]
    moments: NDArray[np.int64]

    @property
    def pairs(self) -> int:
        """Return how many pairs there are."""
        return len(self.positives)


def texts(numbers: Sequence[Numbers], padding: int, tokens_max: int, length_max: int) -> Texts:
    """Cut texts into pieces, longest first.

    Args:
        numbers: token numbers of each text, none of them empty.
        padding: the number that fills a row up.
        tokens_max: of a piece, padding included; a text longer than that is a piece of its own.
        length_max: how many tokens the model reads at once; a row is never longer.
    """
    lengths = np.fromiter((len(one) for one in numbers), np.int64, len(numbers))
    pieces = tuple(
        _piece(numbers, lengths, places, padding, length_max)
        for places in _places(lengths, tokens_max, length_max)
    )
    padded = sum(piece.numbers.size for piece in pieces)
    return Texts(len(numbers), pieces, int(lengths.sum()), padded)


def padded_length(length: int, length_max: int) -> int:
    """Return the next length that is quick to read and not beyond what the model reads."""
    return max(length, min(-(-length // ROW_MULTIPLE) * ROW_MULTIPLE, length_max))


def _places(lengths: NDArray[np.int64], tokens_max: int, length_max: int) -> Iterator[Numbers]:
    """Yield places of texts of about one length, longest first, within the bound of tokens."""
    order = np.argsort(-lengths, kind="stable").astype(np.int32)
    start = 0
    while start < len(order):
        longest = padded_length(int(lengths[order[start]]), length_max)
        rows = max(tokens_max // longest, 1)
        yield order[start : start + rows]
        start += rows


def _piece(
    numbers: Sequence[Numbers],
    lengths: NDArray[np.int64],
    places: Numbers,
    padding: int,
    length_max: int,
) -> Piece:
    """Return the texts at these places as one padded array."""
    chosen = lengths[places]
    longest = padded_length(int(chosen[0]), length_max)
    real = np.arange(longest) < chosen[:, None]
    filled = np.full(real.shape, padding, np.int32)
    order: list[int] = places.tolist()
    filled[real] = np.concatenate([numbers[place] for place in order])
    return Piece(places, filled, real)
