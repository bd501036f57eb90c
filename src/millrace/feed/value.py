"""The value of a post: what each action counts, in one file that people edit."""

import tomllib
from collections.abc import Mapping, Sequence
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
DIGITS_MAX, CHARACTERS_MAX = 10**30, 60


class Values(Struct, frozen=True):
    """One weight per action, in the order of ACTIONS, and the name of the file's content."""

    weights: tuple[float, ...]
    version: str

    def of(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the value of each row of probabilities. Shape: (n, actions) to (n,)."""
        return probabilities @ np.array(self.weights)

    def notes(
        self, probabilities: NDArray[np.float64], weights: Sequence[float] = ()
    ) -> list[ActionNote]:
        """Return the terms of one post's value; they sum to it. `weights`: those of then."""
        return [
            ActionNote(action.value, float(chance), weight, float(chance) * weight)
            for action, chance, weight in zip(
                ACTIONS, probabilities, weights or self.weights, strict=True
            )
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


def changed(values: Values, table: Mapping[str, object], source: str) -> Values:
    """Return weights of which those that a table names are others.

    Raises:
        SetupError: an action is unknown (its field is `weights`), or a weight is wrong.
    """
    names = [action.value for action in ACTIONS]
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise SetupError(
            f"{source} names an action that there is not: {unknown[0][:60]}",
            field="weights",
            value=unknown[0],
            limit=", ".join(names),
            next_step="name actions of the value file only",
        )
    weights = tuple(
        _weight(table[name], name, source) if name in table else weight
        for name, weight in zip(names, values.weights, strict=True)
    )
    return Values(weights, fingerprint(repr(weights).encode()))


def _weight(value: object, name: str, source: str) -> float:
    """Return a weight.

    Raises:
        SetupError: it is no number, too large, or has the sign of the other side.
    """
    against = Action(name) not in POSITIVE_ACTIONS
    low, high = (-WEIGHT_MAX, 0.0) if against else (0.0, WEIGHT_MAX)
    figure = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if figure is None or not low <= figure <= high:
        raise SetupError(
            f"the weight of {name} in {source} is {shortly(value)}",
            field=f"weights.{name}",
            value=value,
            limit=f"a number from {low:g} to {high:g}",
            next_step="correct it; actions against a post have weights below zero",
        )
    return float(figure)


def shortly(value: object) -> str:
    """Return a value as a message may show it, however long it is."""
    if isinstance(value, int) and abs(value) > DIGITS_MAX:
        return "a number of many digits"
    return repr(value)[:CHARACTERS_MAX]
