"""The value of a post: what each action counts, in one file that people edit."""

import tomllib
from typing import cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import POSITIVE_ACTIONS, Action
from millrace.feed.types import ActionNote
from millrace.kernel.errors import SetupError
from millrace.kernel.hashing import fingerprint

ACTIONS: tuple[Action, ...] = tuple(Action)
WEIGHT_MAX = 1_000.0


class Values(Struct, frozen=True):
    """One weight per action, in the order of ACTIONS, and the name of the file's content."""

    weights: tuple[float, ...]
    version: str

    def of(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the value of each row of probabilities. Shape: (n, actions) to (n,)."""
        return probabilities @ np.array(self.weights)

    def notes(self, probabilities: NDArray[np.float64]) -> list[ActionNote]:
        """Return the terms of one post's value; they sum to it."""
        return [
            ActionNote(action.value, float(chance), weight, float(chance) * weight)
            for action, chance, weight in zip(ACTIONS, probabilities, self.weights, strict=True)
        ]


def parse(text: str, source: str) -> Values:
    """Read the weights of a TOML text.

    Raises:
        SetupError: it is no TOML, an action is missing or unknown, or a weight is wrong.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SetupError(f"{source} is not TOML: {exc}", next_step="mend that line") from exc
    found = tree.get("weights")
    if not isinstance(found, dict):
        raise SetupError(f"{source} has no table [weights]", next_step="copy feed/value.toml")
    table = cast("dict[str, object]", found)
    names = [action.value for action in ACTIONS]
    wrong = sorted(set(table) ^ set(names))
    if wrong:
        raise SetupError(
            f"{source} does not name every action once: {', '.join(wrong)}",
            field=f"weights.{wrong[0]}",
            limit=", ".join(names),
            next_step="give each action a weight, and no other",
        )
    weights = tuple(_weight(table[name], name, source) for name in names)
    return Values(weights, fingerprint(repr(weights).encode()))


def _weight(value: object, name: str, source: str) -> float:
    """Return a weight.

    Raises:
        SetupError: it is no number, too large, or has the sign of the other side.
    """
    against = Action(name) not in POSITIVE_ACTIONS
    number = float(value) if isinstance(value, int | float) else float("nan")
    low, high = (-WEIGHT_MAX, 0.0) if against else (0.0, WEIGHT_MAX)
    if not low <= number <= high:
        raise SetupError(
            f"the weight of {name} in {source} is {value!r}",
            field=f"weights.{name}",
            value=value,
            limit=f"a number from {low:g} to {high:g}",
            next_step="correct it; actions against a post have weights below zero",
        )
    return number
