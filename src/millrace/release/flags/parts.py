"""What a compiled expression is made of, and the bounds of one evaluation."""

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct

DEPTH_MAX = 200  # levels of JSON in a definition; an operator takes one or two
OPERATORS_DEEP_MAX = 100  # operators within one another, each some frames of the interpreter
VALUES_MAX = 200_000  # JSON values in a definition
OPERATIONS_MAX = 10_000  # steps of one flag, with shared evaluators counted where they are used
STEPS_MAX = 100_000  # steps that loops, dependences and long values may take in one evaluation
UNCOUNTED_MAX = 200  # steps of a flag whose values need not be weighed when it is evaluated
DEPENDENCE_MAX = 8  # flags that depend on one another in a row
ITEMS_MAX = 10_000  # items of a list from a context that is searched
WRITTEN_MAX = 100  # items of a list that becomes a text, as where it is compared with one
TEXT_MAX = 65_536  # characters of a text that is searched or made
LETTERS_PER_STEP = 100
OBJECT_STEPS = 1_000  # it may be hashed whole


class RefusedError(ValueError):
    """A definition that cannot be compiled.

    place: a JSON pointer from the flag.
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


class BoundError(ValueError):
    """An evaluation that would take too long, too much, or go round in circles."""


class ContextError(ValueError):
    """A context that is no JSON object."""


class Run(Struct, gc=False):
    """One evaluation that needs more than its data: the time, loops or other flags.

    answers: variants of the flags that this one depends on; None while one is being found.
    """

    now: float
    context: dict[str, Any]
    variant: Callable[[str, "Run"], str]
    steps: int = STEPS_MAX
    depth: int = 0
    answers: dict[str, str | None] | None = None

    def charge(self, steps: int) -> None:
        """Take steps from what this evaluation may do.

        Raises:
            BoundError: it has none left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise BoundError(f"more than {STEPS_MAX:,} steps: shorten the list or its rule")

    def weigh(self, *values: Any) -> None:
        """Take the steps of looking at long values: at a list's items, at a text's letters.

        What is raised is as in `charge`.
        """
        for value in values:
            if type(value) is list:
                self.charge(WRITTEN_MAX + len(value))  # pyright: ignore[reportUnknownArgumentType]
            elif type(value) is str and len(value) > LETTERS_PER_STEP:
                self.charge(len(value) // LETTERS_PER_STEP)
            elif type(value) is dict:
                self.charge(OBJECT_STEPS)


Way: TypeAlias = Callable[[Any, Any], Any]
"""A compiled expression: from data and a run (None where no part asks for one) to a value."""


class Part(Struct, frozen=True):
    """A compiled expression and what is known of it.

    steps: what it costs at most, loops counted once; an operator is a step, a slow one several.
    constant: whether it is always `value`.
    name: the one attribute of the context that it reads, where it does nothing else.
    plain: its value never is an object or NaN, so Python's truth is JsonLogic's.
    """

    way: Way
    steps: int = 0
    constant: bool = False
    value: Any = None
    name: str = ""
    plain: bool = False


def constant(value: Any, steps: int = 0) -> Part:
    """Return the part that always is one value."""

    def always(_data: Any, _run: Any) -> Any:
        return value

    plain = type(value) in (bool, str, int, type(None), list)
    return Part(way=always, steps=steps, constant=True, value=value, plain=plain)
