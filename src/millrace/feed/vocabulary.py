"""From a prompt to token numbers, so that no text can forge a marker.

Two tokenizers are made of the model's own. One knows the markers and the special tokens, and never
sees text. The other sees all text and knows neither: `[SEP]` or `<view_percentile>` in a post are
words to it. A prompt's parts meet only as numbers.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from millrace.feed.prompts.types import Marker, Prompt
from millrace.kernel.errors import SetupError

# A text is cut to so many characters per token before it is tokenised: enough for every language,
# and a book does not cost the time of a book.
CHARACTERS_PER_TOKEN_MAX = 32
REMEMBERED_MAX = 1_000  # texts whose numbers are kept


class Vocabulary:
    """The token numbers of one model, with the markers added.

    size: how many numbers there are, markers included.
    added: markers that the model did not know before; its vectors for them are to be made.
    """

    def __init__(self, tokenizer: Any, markers: Sequence[Marker], source: str) -> None:
        """Take a Hugging Face tokenizer and add the markers to it.

        Raises:
            SetupError: it has no fast form (`tokenizer.json`).
        """
        if not getattr(tokenizer, "is_fast", False):
            raise SetupError(
                f"the tokenizer of {source} has no tokenizer.json",
                field="model_dir",
                value=source,
                next_step="save the model with a fast tokenizer (AutoTokenizer, use_fast)",
            )
        self._text = _plain(tokenizer.backend_tokenizer)
        self._remembered = lru_cache(REMEMBERED_MAX)(self._split)
        self._start, self._end = _frame(tokenizer.backend_tokenizer, self._text)
        self.text_size = int(self._text.get_vocab_size())
        known = tokenizer.get_vocab()
        tokenizer.add_tokens([marker.token for marker in markers], special_tokens=True)
        names = {marker: int(tokenizer.convert_tokens_to_ids(marker.token)) for marker in markers}
        self._numbers = names
        special = {int(number) for number in tokenizer.added_tokens_decoder}
        self._reserved = (special | set(names.values())) - {tokenizer.unk_token_id}
        self.added = {
            number: self._words(marker)
            for marker, number in names.items()
            if marker.token not in known
        }
        self.size = len(tokenizer)
        self.padding = int(tokenizer.pad_token_id or 0)

    @property
    def marker_numbers(self) -> frozenset[int]:
        """Return the numbers of the markers."""
        return frozenset(self._numbers.values())

    @property
    def frame(self) -> int:
        """Return how many special tokens the model puts around every text."""
        return len(self._start) + len(self._end)

    def remember(self, texts_max: int) -> None:
        """Keep the numbers of more texts: who reads the same ones again and again asks for it."""
        self._remembered = lru_cache(texts_max)(self._split)

    def numbers_of(self, text: str) -> list[int]:
        """Return the token numbers of plain text; never a marker's or a special token's.

        The newest texts are remembered: to fit a prompt into its budget each is counted some times,
        and then written.
        """
        return list(self._remembered(text))

    def _split(self, text: str) -> tuple[int, ...]:
        found: list[int] = self._text.encode(_encodable(text), add_special_tokens=False).ids
        # Some vocabularies hold a special token as an ordinary word; then the model that splits
        # the words could still find it, so it is taken out here.
        return tuple(number for number in found if number not in self._reserved)

    def encode(self, prompt: Prompt, tokens_max: int) -> list[int]:
        """Return a prompt's token numbers, at most `tokens_max` beside the model's frame."""
        numbers: list[int] = []
        for part in prompt:
            room = tokens_max - len(numbers)
            if room <= 0:
                break
            if isinstance(part, Marker):
                numbers.append(self._numbers[part])
            else:
                numbers.extend(self.numbers_of(part[: room * CHARACTERS_PER_TOKEN_MAX])[:room])
        framed = [*self._start, *numbers, *self._end]
        return framed or [self.padding]  # a model cannot read nothing

    def _words(self, marker: Marker) -> list[int]:
        """Return the numbers of the plain words of a marker's name."""
        return self.numbers_of(marker.name.strip("/").replace("_", " "))


def _plain(backend: Any) -> Any:
    """Return the tokenizer without the tokens that were added to its model: it knows words only."""
    description = json.loads(backend.to_str())
    description |= {"added_tokens": [], "truncation": None, "padding": None}
    plain: Any = backend.from_str(json.dumps(description))
    plain.encode_special_tokens = True
    return plain


def _frame(backend: Any, plain: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that a model puts before and after a text."""
    word: list[int] = plain.encode("a", add_special_tokens=False).ids
    framed: list[int] = backend.encode("a", add_special_tokens=True).ids
    attention: list[int] = backend.encode("a", add_special_tokens=True).attention_mask
    framed = [number for number, real in zip(framed, attention, strict=True) if real]
    for start in range(len(framed) - len(word) + 1):
        if framed[start : start + len(word)] == word:
            return framed[:start], framed[start + len(word) :]
    return [], []


def _encodable(text: str) -> str:
    """Return the text without half characters, which have no UTF-8 form."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
