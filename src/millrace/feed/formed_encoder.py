"""An encoder under the form in which it was added: its vectors are its own, the name is another.

The form of a history is a property of an encoder in an installation (pooled_history.py). A model
that was not trained with either takes that of the settings when it is added, and keeps it: a later
change of the settings is another version beside it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millrace.feed.pooled_history import PooledHistory
from millrace.feed.ports import Encoder
from millrace.feed.prompts.types import Prompt


class FormedEncoder:
    """Another encoder, with a history that comes in otherwise."""

    def __init__(self, encoder: Encoder, history: PooledHistory | None) -> None:
        self._encoder = encoder
        self._history = history

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under."""
        own = self._encoder.history
        name = self._encoder.version.removesuffix("" if own is None else f"-{own.name}")
        return name if self._history is None else f"{name}-{self._history.name}"

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

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        return await self._encoder.embed(prompts)


def in_form(encoder: Encoder, history: PooledHistory | None) -> Encoder:
    """Return an encoder whose history comes in so: itself, where it does."""
    return encoder if encoder.history == history else FormedEncoder(encoder, history)
