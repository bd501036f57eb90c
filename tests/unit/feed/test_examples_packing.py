"""Texts in pieces: every token once, in the right row, with little padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.examples.batch import joined
from millrace.feed.examples.packing import ROW_MULTIPLE, padded_tokens, pieces

LENGTH_MAX = 60  # no multiple of 8: the last row is as long as the model reads

lengths_of_texts = st.lists(st.integers(1, LENGTH_MAX), min_size=1, max_size=40)


@given(lengths_of_texts, st.integers(1, 300))
def test_pieces_hold_every_text_once(lengths: list[int], tokens_max: int):
    texts = [
        np.arange(length, dtype=np.int32) + 100 * number for number, length in enumerate(lengths)
    ]
    found: dict[int, list[int]] = {}

    made = list(pieces(joined(texts), tokens_max, LENGTH_MAX, padding=-7))

    for piece in made:
        rows, length = piece.numbers.shape
        assert rows * length <= tokens_max or rows == 1
        assert length == LENGTH_MAX or length % ROW_MULTIPLE == 0
        assert (piece.numbers[~piece.real] == -7).all()
        for place, numbers, real in zip(piece.places, piece.numbers, piece.real, strict=True):
            assert int(place) not in found
            found[int(place)] = numbers[real].tolist()
            assert real[: real.sum()].all()
    assert {number: text.tolist() for number, text in enumerate(texts)} == found
    padded = sum(piece.numbers.size for piece in made)
    assert padded == padded_tokens(np.array(lengths), tokens_max, LENGTH_MAX)


def test_texts_of_one_length_have_no_padding():
    lengths = np.repeat([16, 32], 8)

    assert lengths.sum() == padded_tokens(lengths, 256, LENGTH_MAX)


def test_texts_of_a_batch_are_found_by_their_places():
    texts = [np.array([1, 2, 3], np.int32), np.array([4], np.int32)]

    tokens = joined(texts)

    assert tokens.rows == 2
    assert tokens.lengths.tolist() == [3, 1]
    assert tokens.row(1).tolist() == [4]
    assert joined([]).rows == 0
