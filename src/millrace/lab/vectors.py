"""Vectors of members and posts at a moment, by any encoder, in memory and without an installation.

An encoder is named by its directory, as training leaves one. What it reads is made once by
`prompts_at` and can be encoded by many encoders that share a tokenizer, a budget and a form of
history. Where history is pooled, members are read by their profile alone, and `pools.py` says what
comes to it.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed.pooled_history import PooledHistory
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Prompt
from millrace.lab.pools import Pools, pooled, pools_at
from millrace.lab.prompt_facts import PromptFacts

THREADS = 1  # several wait for one another wherever anything else is at work
Matrix = NDArray[np.float32]


class Reader(Protocol):
    """What is asked of an encoder here: that of the feed, and that it encodes in this thread."""

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        ...

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        ...

    @property
    def history(self) -> PooledHistory | None:
        """Return how a history is pooled; None where a member's prompt shows it in words."""
        ...

    def count(self, text: str) -> int:
        """Return how many tokens a piece of text takes."""
        ...

    def encode(self, prompts: Sequence[Prompt]) -> Matrix:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        ...


class Prompts(Struct, frozen=True):
    """What an encoder reads of some members and posts; `members` and `posts` are their numbers.

    pools: what is pooled into the vectors of members; None where their prompts show it in words.
    """

    members: list[int]
    posts: list[int]
    member_prompts: list[Prompt]
    post_prompts: list[Prompt]
    pools: Pools | None = None


class Vectors(Struct, frozen=True):
    """Unit vectors by the numbers of members and posts, up to the last that was asked for."""

    members: Matrix
    posts: Matrix

    def nearness(self, member: int, posts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cosine of a member with each of some posts."""
        return (self.posts[posts] @ self.members[member]).astype(np.float64)


def prompts_at(
    facts: PromptFacts,
    at: datetime,
    members: Sequence[int],
    posts: Sequence[int],
    encoder: Reader,
) -> Prompts:
    """Return what an encoder reads at a moment: prompts of the version that the feed has.

    Args:
        facts: the data set.
        at: nothing later is in any prompt.
        members: their numbers.
        posts: their numbers.
        encoder: whose tokens and budget decide how much of a history is shown.
    """
    pools = pools_at(facts, at, members, encoder.history) if encoder.history else None
    if pools is not None:
        members, posts = pools.widened(members, posts)
    told = facts.members(members, at)
    if pools is not None:
        told = [replace(one, history=[]) for one in told]
    return Prompts(
        members=list(members),
        posts=list(posts),
        member_prompts=[v2.member_prompt(one, encoder.tokens_max, encoder.count) for one in told],
        post_prompts=[v2.post_prompt(one) for one in facts.posts(posts, at)],
        pools=pools,
    )


def encoded(prompts: Prompts, encoder: Reader) -> Vectors:
    """Return the vectors of prompts; members with what they liked, where that is pooled."""
    members = _table(prompts.members, encoder.encode(prompts.member_prompts))
    posts = _table(prompts.posts, encoder.encode(prompts.post_prompts))
    if prompts.pools is not None:
        members = pooled(prompts.pools, members, posts)
    return Vectors(members, posts)


def _table(numbers: Sequence[int], vectors: Matrix) -> Matrix:
    """Return a table with each vector in the row of its number."""
    found = np.zeros((max(numbers, default=-1) + 1, vectors.shape[1]), dtype=np.float32)
    found[list(numbers)] = vectors
    return found


class Form:
    """An encoder with a history in another form; its weights and its reading stay what they are.

    Forms of one encoder that share a memory encode a prompt once: those of posts are the same.
    """

    def __init__(
        self, encoder: Reader, history: PooledHistory | None, memory: dict[Prompt, Matrix]
    ) -> None:
        self._encoder = encoder
        self._history = history
        self._memory = memory

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return self._encoder.dims

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        return self._encoder.tokens_max

    @property
    def history(self) -> PooledHistory | None:
        """Return how a history is pooled; None where a member's prompt shows it in words."""
        return self._history

    def count(self, text: str) -> int:
        """Return how many tokens a piece of text takes."""
        return self._encoder.count(text)

    def encode(self, prompts: Sequence[Prompt]) -> Matrix:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        new = list(dict.fromkeys(one for one in prompts if one not in self._memory))
        self._memory.update(zip(new, self._encoder.encode(new), strict=True))
        found = [self._memory[one] for one in prompts]
        return np.stack(found) if found else np.zeros((0, self.dims), np.float32)


def in_both_forms(encoder: Reader, how: PooledHistory) -> tuple[Form, Form]:
    """Return an encoder that reads histories in the prompt, and the same that pools them."""
    memory: dict[Prompt, Matrix] = {}
    return Form(encoder, None, memory), Form(encoder, how, memory)


@contextmanager
def lent_encoder(model: Path | None, threads: int = THREADS) -> Generator[Reader]:
    """Lend the encoder of a directory, or the packaged one; torch is loaded only here.

    Histories are pooled unless its recipe says otherwise, as where it serves.
    """
    from millrace.feed.encoder import TextEncoder

    encoder = TextEncoder.load(model, threads, history=PooledHistory())
    try:
        yield encoder
    finally:
        encoder.close()
