"""The token numbers of what examples say, made by the prompts that serve, each of them once."""

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from threading import RLock
from typing import cast

import numpy as np

from millrace.feed.examples.batch import Numbers
from millrace.feed.examples.reading import Examples
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Marker, PostFacts, Prompt
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.vocabulary import Vocabulary

TOKENS_KEPT_MAX = 32_000_000  # 128 MB: some 400,000 posts, or half a gigabyte of text
SAID_KEPT_MAX = 20_000  # wordings that histories are made of
TEXTS_KEPT_MAX = 30_000  # pieces of prompts; at most some 100 MB, as a rule a tenth of that
COUNTS_KEPT_MAX = 200_000  # of such pieces; a profile is fitted into its share for every moment
HISTORY_MAX = 60  # posts that a history may show; more never fit into its budget
NUMBERS_STAND_BEFORE = frozenset({Marker("title"), Marker("text")})


class Prompted:
    """Texts of posts and members as token numbers.

    A post is tokenised once for each of its states, a member once for each moment; what was asked
    for longest ago is forgotten first. Threads take turns.
    """

    def __init__(
        self, examples: Examples, vocabulary: Vocabulary, recipe: EncoderRecipe, tokens_max: int
    ) -> None:
        """Take what is read, and how.

        Args:
            examples: what is said.
            vocabulary: the model's.
            recipe: how long posts are, what histories show, how numbers are written.
            tokens_max: how many tokens the model reads beside its frame.
        """
        self._examples = examples
        self._vocabulary = vocabulary
        self._recipe = recipe
        self._tokens_max = tokens_max
        self._post_tokens_max = max(min(recipe.post_tokens_max - vocabulary.frame, tokens_max), 1)
        self._kept = _Kept(TOKENS_KEPT_MAX)
        self._said = lru_cache(SAID_KEPT_MAX)(examples.said)
        self._count = lru_cache(COUNTS_KEPT_MAX)(self._counted)
        vocabulary.remember(TEXTS_KEPT_MAX)
        self._first_of_wording = _firsts(examples)

    @property
    def examples(self) -> Examples:
        """Return what is said."""
        return self._examples

    def post(self, state: int) -> Numbers:
        """Return the token numbers of a post in a state, with the model's frame."""
        return self._kept.get(("post", state), lambda: self._post(state))

    def member(self, moment: int, history: bool = True) -> Numbers:
        """Return the token numbers of a member in a moment, with the model's frame.

        Args:
            moment: a row of the moments.
            history: False for the profile alone.
        """
        if not history:
            return self.profile(int(self._examples.member_state[moment]))
        return self._kept.get(("member", moment), lambda: self._with_history(moment))

    def profile(self, state: int) -> Numbers:
        """Return the token numbers of a member in a state, without a history."""
        return self._kept.get(("profile", state), lambda: self._member(state, []))

    def _post(self, state: int) -> Numbers:
        kind = self._recipe.numbers
        facts = self._examples.post_facts(state) if kind == "percentiles" else self._words(state)
        prompt = v2.post_prompt(facts)
        if kind == "raw":
            prompt = with_raw_numbers(prompt, self._examples.post_numbers(state))
        return self._numbers(prompt, self._post_tokens_max)

    def _with_history(self, moment: int) -> Numbers:
        examples = self._examples
        column = examples.past if self._recipe.history == "all" else examples.positives
        states = cast(list[int], column[moment][-HISTORY_MAX:].tolist())
        history = [self._words(state) for state in states]
        return self._member(int(examples.member_state[moment]), history)

    def _member(self, state: int, history: list[PostFacts]) -> Numbers:
        facts = self._examples.member_facts(state, history)
        prompt = v2.member_prompt(facts, self._tokens_max, self._count)
        return self._numbers(prompt, self._tokens_max)

    def _words(self, state: int) -> PostFacts:
        """Return a post without numbers; all states of one wording share what is kept."""
        return self._said(int(self._first_of_wording[self._examples.wording[state]]))

    def _numbers(self, prompt: Prompt, tokens_max: int) -> Numbers:
        return np.array(self._vocabulary.encode(prompt, tokens_max), np.int32)

    def _counted(self, text: str) -> int:
        return len(self._vocabulary.numbers_of(text))


def with_raw_numbers(prompt: Prompt, numbers: dict[str, int]) -> Prompt:
    """Return the prompt of a post with numbers as they are where percentiles would stand.

    The markers are the same and stand at the same place, so that an ablation compares how numbers
    are written and nothing else.
    """
    head = next(
        (place for place, part in enumerate(prompt) if part in NUMBERS_STAND_BEFORE), len(prompt)
    )
    written = (
        part
        for name, number in numbers.items()
        for part in (Marker(name), str(number), Marker(f"/{name}"))
    )
    return (*prompt[:head], *written, *prompt[head:])


class _Kept:
    """Token numbers by what they are of; the oldest use is forgotten first."""

    def __init__(self, tokens_max: int) -> None:
        self._tokens_max = tokens_max
        self._tokens = 0
        self._turn = RLock()
        self._by_key: OrderedDict[tuple[str, int], Numbers] = OrderedDict()

    def get(self, key: tuple[str, int], make: Callable[[], Numbers]) -> Numbers:
        """Return what is kept under a key, made now if it is not there."""
        with self._turn:
            found = self._by_key.get(key)
            if found is not None:
                self._by_key.move_to_end(key)
                return found
            made = self._by_key[key] = make()
            self._tokens += len(made)
            while self._tokens > self._tokens_max and len(self._by_key) > 1:
                self._tokens -= len(self._by_key.popitem(last=False)[1])
            return made


def _firsts(examples: Examples) -> np.ndarray:
    """Return a state of each wording."""
    firsts = np.zeros(examples.wordings, np.int64)
    firsts[examples.wording[::-1]] = np.arange(len(examples.wording))[::-1]
    return firsts
