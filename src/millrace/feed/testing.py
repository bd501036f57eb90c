"""Fakes of the feed's ports, for tests of this room and of those that use it."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millrace.feed.prompts.types import Marker, Prompt
from millrace.kernel.hashing import hash64

WORD = re.compile(r"\w+")


class FakeEncoder:
    """A bag of hashed words: texts that share words are near each other. No model, no torch."""

    def __init__(self, *, dims: int = 32, tokens_max: int = 200) -> None:
        self._dims = dims
        self._tokens_max = tokens_max

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under."""
        return f"fake-{self._dims}-{self._tokens_max}"

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return self._dims

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        return self._tokens_max

    def count(self, text: str) -> int:
        """Return the number of words."""
        return len(WORD.findall(text))

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        vectors = np.zeros((len(prompts), self._dims), dtype=np.float32)
        for row, prompt in zip(vectors, prompts, strict=True):
            row += self._vector(prompt)
        return vectors

    def _vector(self, prompt: Prompt) -> NDArray[np.float32]:
        """Return the unit sum of one fixed random direction per word; markers have no weight."""
        words: list[str] = []
        room = self._tokens_max
        for part in prompt:
            taken = [""] if isinstance(part, Marker) else WORD.findall(part.lower())[: max(room, 0)]
            room -= len(taken)
            words.extend(word for word in taken if word)
        total = np.zeros(self._dims, dtype=np.float64)
        for word in words or ["nothing"]:
            total += np.random.default_rng(hash64(word)).standard_normal(self._dims)
        return (total / np.linalg.norm(total)).astype(np.float32)
