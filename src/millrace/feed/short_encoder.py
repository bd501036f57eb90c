"""An encoder whose vectors are cut to their first numbers, as a Matryoshka training prepares them.

Source: Kusupati et al. 2022, "Matryoshka Representation Learning" (arXiv 2205.13147).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millrace.feed.pooled_history import PooledHistory
from millrace.feed.ports import Encoder
from millrace.feed.prompts.types import Prompt
from millrace.kernel.errors import InvalidError

NORM_MIN = 1e-12


class ShortEncoder:
    """The first numbers of another encoder's vectors, of length one again."""

    def __init__(self, encoder: Encoder, dims: int) -> None:
        """Take the encoder, and how many numbers are kept.

        Raises:
            InvalidError: it has not that many to spare.
        """
        if not 0 < dims < encoder.dims:
            raise InvalidError(
                f"vectors of {encoder.dims} numbers cannot be cut to {dims}",
                field="dims",
                value=dims,
                limit=f"1..{encoder.dims - 1}",
                next_step="name a shorter length, or leave it out for whole vectors",
            )
        self._encoder = encoder
        self._dims = dims

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under."""
        return f"{self._encoder.version}-{self._dims}"

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return self._dims

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        return self._encoder.tokens_max

    @property
    def history(self) -> PooledHistory | None:
        """Return how a history is pooled; None where a member's prompt shows it in words."""
        return self._encoder.history

    def count(self, text: str) -> int:
        """Return how many tokens a piece of text takes."""
        return self._encoder.count(text)

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        vectors = (await self._encoder.embed(prompts))[:, : self._dims]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, NORM_MIN)).astype(np.float32)


def at_length(encoder: Encoder, dims: int) -> Encoder:
    """Return an encoder with vectors of a length: itself, or its first numbers where it has more."""
    return ShortEncoder(encoder, dims) if dims < encoder.dims else encoder
