"""What the feed asks of others, as Protocols; `wiring` fits the parts to them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.prompts.types import Prompt
from millrace.feed.types import App


class Encoder(Protocol):
    """Turns prompts into unit vectors.

    version: names the model, the prompts and the budget; vectors of two versions do not compare.
    dims: length of a vector.
    tokens_max: how many tokens of a prompt are read, markers included; the rest is cut off.
    history: how what a member liked comes into their vector: pooled from the vectors of the posts,
        beside that of the profile alone; None: in the words of the member's prompt.
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

    @property
    def history(self) -> PooledHistory | None:
        """Return how a history is pooled; None where a member's prompt shows it in words."""
        ...

    def count(self, text: str) -> int:
        """Return how many tokens a piece of text takes. A marker takes one and is not text."""
        ...

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Return one unit vector per prompt, in their order. Shape: (len(prompts), dims)."""
        ...


class Decided(Protocol):
    """What one flag says of one request."""

    @property
    def key(self) -> str:
        """Return the flag's key."""
        ...

    @property
    def value(self) -> Any:
        """Return its value, of JSON's kinds; to be read only where there is a variant."""
        ...

    @property
    def variant(self) -> str:
        """Return the name of the value; empty where the caller's own default holds."""
        ...

    @property
    def error(self) -> str | None:
        """Return a code where the flag could not be evaluated."""
        ...

    @property
    def message(self) -> str:
        """Return the error in words."""
        ...


class FlagNames(Protocol):
    """The flags as they stand: another object as soon as one of them is another."""

    def keys(self) -> Collection[str]:
        """Return their keys."""
        ...


class Switches(Protocol):
    """Decides who gets what. Everything but `note_app` is answered from memory and never raises."""

    def flagset(self) -> FlagNames:
        """Return the flags that there are."""
        ...

    def context_of(self, member: Key, app: App) -> Mapping[str, Any]:
        """Return what is known of a member and of the app that asks."""
        ...

    def evaluate(self, key: str, context: Mapping[str, Any]) -> Decided:
        """Return what a flag says."""
        ...

    async def note_app(self, member: Key, track: str, version: str) -> None:
        """Remember which version of an app a member was seen with."""
        ...
