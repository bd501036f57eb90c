"""Vectors of members and posts at a moment, by any encoder, in memory and without an installation.

An encoder is named by its directory, as training leaves one. What it reads is made once by
`prompts_at` and can be encoded by many encoders that share a tokenizer and a budget.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Prompt
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

    def count(self, text: str) -> int:
        """Return how many tokens a piece of text takes."""
        ...

    def encode(self, prompts: Sequence[Prompt]) -> Matrix:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        ...


class Prompts(Struct, frozen=True):
    """What an encoder reads of some members and posts; `members` and `posts` are their numbers."""

    members: list[int]
    posts: list[int]
    member_prompts: list[Prompt]
    post_prompts: list[Prompt]


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
    return Prompts(
        members=list(members),
        posts=list(posts),
        member_prompts=[
            v2.member_prompt(one, encoder.tokens_max, encoder.count)
            for one in facts.members(members, at)
        ],
        post_prompts=[v2.post_prompt(one) for one in facts.posts(posts, at)],
    )


def encoded(prompts: Prompts, encoder: Reader) -> Vectors:
    """Return the vectors of prompts."""
    return Vectors(
        members=_table(prompts.members, encoder.encode(prompts.member_prompts)),
        posts=_table(prompts.posts, encoder.encode(prompts.post_prompts)),
    )


def _table(numbers: Sequence[int], vectors: Matrix) -> Matrix:
    """Return a table with each vector in the row of its number."""
    found = np.zeros((max(numbers, default=-1) + 1, vectors.shape[1]), dtype=np.float32)
    found[list(numbers)] = vectors
    return found


@contextmanager
def lent_encoder(model: Path | None, threads: int = THREADS) -> Generator[Reader]:
    """Lend the encoder of a directory, or the packaged one; torch is loaded only here."""
    from millrace.feed.encoder import TextEncoder

    encoder = TextEncoder.load(model, threads)
    try:
        yield encoder
    finally:
        encoder.close()
