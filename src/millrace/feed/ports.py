"""What the feed asks of others, as Protocols; `wiring` fits the parts to them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.feed.prompts.types import Prompt


class Encoder(Protocol):
    """Turns prompts into unit vectors.

    version: names the model, the prompts and the budget; vectors of two versions do not compare.
    dims: length of a vector.
    tokens_max: how many tokens of a prompt are read, markers included; the rest is cut off.
    """

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under."""
        ...

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        ...

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        ...

    def count(self, text: str) -> int:
        """Return how many tokens a piece of text takes. A marker takes one and is not text."""
        ...

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Return one unit vector per prompt, in their order. Shape: (len(prompts), dims)."""
        ...
