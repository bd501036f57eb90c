"""Texts cut into pieces that a model reads at once, with little padding. Pure.

Rows of about one length share a piece, so that hardly anything is padding, and any model reads
them as they are; docs/decisions/0146 has what packed rows would save beside this.
"""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.examples.batch import Numbers, Rows, Tokens

ROW_MULTIPLE = 8
"""Tokens. Rows of such lengths are the quick ones, on processors and on accelerators."""

WORTH_TOKENS = 1_024
"""A piece of so many tokens is worth a call; beyond that rows much shorter than it begin another."""
WASTE_SHARE = 0.125


class Piece(Struct, frozen=True):
    """Texts of about one length, padded to the longest.

    places: which rows of the tokens these are. Shape: (rows,).
    numbers: token numbers. Shape: (rows, length), length a multiple of ROW_MULTIPLE unless the
        model reads no more.
    real: which of them are tokens and not padding; in each row they come first. The same shape.
    """

    places: Rows
    numbers: Numbers
    real: NDArray[np.bool_]


def pieces(tokens: Tokens, tokens_max: int, length_max: int, padding: int = 0) -> Iterator[Piece]:
    """Yield the texts in pieces, longest first; each text is in exactly one.

    Args:
        tokens: the texts; none of them is empty.
        tokens_max: of a piece, padding included; a text longer than that is a piece of its own.
        length_max: how many tokens the model reads at once.
        padding: the number that fills a row up.
    """
    order = np.argsort(-tokens.lengths, kind="stable")
    for start, end, longest in _cuts(tokens.lengths[order], tokens_max, length_max):
        yield _piece(tokens, order[start:end], longest, padding)


def padded_length(length: int, length_max: int) -> int:
    """Return the next length that is quick to read and not beyond what the model reads."""
    return max(length, min(-(-length // ROW_MULTIPLE) * ROW_MULTIPLE, length_max))


def padded_tokens(lengths: Rows, tokens_max: int, length_max: int) -> int:
    """Return how many tokens the pieces of such texts hold, padding included."""
    cuts = _cuts(np.sort(lengths)[::-1], tokens_max, length_max)
    return sum((end - start) * longest for start, end, longest in cuts)


def _cuts(lengths: Rows, tokens_max: int, length_max: int) -> Iterator[tuple[int, int, int]]:
    """Yield where pieces of rows begin and end, and how long their rows are; longest rows first."""
    quick = [padded_length(length, length_max) for length in lengths.tolist()]
    start = 0
    for row, length in enumerate(quick):
        longest, rows = quick[start], row - start
        full = (rows + 1) * longest > tokens_max
        wasteful = rows * longest >= WORTH_TOKENS and longest - length >= longest * WASTE_SHARE
        if rows and (full or wasteful):
            yield start, row, longest
            start = row
    if quick:
        yield start, len(quick), quick[start]


def _piece(tokens: Tokens, places: Rows, longest: int, padding: int) -> Piece:
    """Return the texts at these places as one padded array."""
    steps = np.arange(longest)
    real = steps < tokens.lengths[places][:, None]
    numbers = np.full(real.shape, padding, np.int32)
    numbers[real] = tokens.numbers[(tokens.starts[places][:, None] + steps)[real]]
    return Piece(places, numbers, real)
