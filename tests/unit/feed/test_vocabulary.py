"""Tokens that a model's own tokenizer would find in text, and ours must not."""

from pathlib import Path

import pytest

from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Marker
from millrace.feed.testing import packaged_encoder, save_tiny_llama
from millrace.feed.vocabulary import Vocabulary
from millrace.kernel.errors import SetupError


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def chatty(llama: Path):
    """A tokenizer with a token that is added but not special, as chat models have."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(llama), local_files_only=True)
    tokenizer.add_tokens(["<think>"], special_tokens=False)
    return tokenizer


def test_an_added_token_in_text_is_words(chatty):
    plainly = chatty.convert_tokens_to_ids("<think>")
    vocabulary = Vocabulary(chatty, v2.MARKERS, "chatty")

    numbers = vocabulary.numbers_of("<think> </s> <s>")

    assert plainly not in numbers
    assert len(numbers) > 10  # letters and brackets, nothing was lost


def test_a_marker_is_one_number_and_known_to_the_tokenizer(chatty):
    vocabulary = Vocabulary(chatty, v2.MARKERS, "chatty")

    numbers = vocabulary.encode((Marker("view_percentile"), "7", Marker("/view_percentile")), 9)

    assert chatty.convert_ids_to_tokens(numbers) == [
        "<s>", "<view_percentile>", "7", "</view_percentile>",
    ]  # fmt: skip
    assert vocabulary.size == len(chatty)


def test_markers_that_a_model_was_trained_with_stay_as_they_are(chatty):
    """A model saved after training knows the markers; their vectors must not be made anew."""
    first = Vocabulary(chatty, v2.MARKERS, "chatty")
    again = Vocabulary(chatty, v2.MARKERS, "chatty")

    assert len(first.added) == len(v2.MARKERS)
    assert again.added == {}
    assert again.size == first.size
    assert again.numbers_of("<view_percentile>") == first.numbers_of("<view_percentile>")


def test_an_unknown_sign_is_kept():
    assert packaged_encoder().vocabulary.numbers_of("\U0001f9f5") == [100]  # [UNK]


def test_refuses_a_tokenizer_without_a_fast_form():
    class Slow:
        is_fast = False

    with pytest.raises(SetupError, match=r"the tokenizer of /models/old has no tokenizer\.json"):
        Vocabulary(Slow(), v2.MARKERS, "/models/old")
