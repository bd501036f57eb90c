"""The rows of `evaluate encoder-ablations`: what each changes, and which rows it is read beside.

A new row is one line of ROWS. Rows whose recipes are the same share their trainings.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

from msgspec import Struct, field
from msgspec.structs import asdict, replace

from millrace.feed.recipe import EncoderRecipe
from millrace.kernel.errors import InvalidError

RANDOM = "random"


class Row(Struct, frozen=True):
    """One line of the table.

    name: as it is asked for.
    beside: rows that it is compared with; the first of them is its previous one.
    changes: of the recipe that every training begins with.
    published: what LinkedIn reports of this step (arXiv 2510.14223), relative to the previous row.
    length: numbers of a vector that are read; 0: all.
    trained: False for the model as it is before any training.
    """

    name: str
    beside: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    published: float | None = None
    length: int = 0
    trained: bool = True


WHOLE = {"matryoshka": ()}
EASY = {"hard": 0}
POOLED = {"history_in": "pooled"}
ROWS = (
    Row(RANDOM, trained=False),
    Row("zero_shot", (RANDOM,), published=2.477, trained=False),
    Row("bce", ("zero_shot",), {"loss": "bce", **EASY, **WHOLE}, 0.620),
    Row("infonce", ("bce", "zero_shot"), {**EASY, **WHOLE}, 0.075),
    Row("matryoshka", ("infonce", "zero_shot"), EASY, 0.001),
    Row("hard_1", ("matryoshka", "zero_shot"), {}, 0.020),
    Row("hard_2", ("matryoshka", "hard_1", "zero_shot"), {"hard": 2}, 0.036),
    Row("raw_numbers", ("zero_shot",), {"numbers": "raw"}),
    Row("percentiles", ("raw_numbers",), {}, 0.164),
    Row("all_impressions", ("zero_shot",), {"history": "all"}),
    Row("positives_only", ("all_impressions",), {}, 0.065),
    Row("last_token", ("zero_shot",), {"pooling": "last"}),
    Row("mean_pooling", ("last_token",), {}, 0.141),
    Row("zero_shot_pooled", ("zero_shot",), POOLED, trained=False),
    Row("pooled_easy", ("zero_shot_pooled", "matryoshka"), {**POOLED, **EASY}),
    Row("pooled_history", ("pooled_easy", "zero_shot_pooled", "hard_1", "zero_shot"), POOLED),
    Row("dims_384", ("zero_shot",), {}, length=384),
    Row("dims_256", ("dims_384",), {}, 0.001, length=256),
    Row("dims_128", ("dims_384",), {}, -0.002, length=128),
    Row("dims_64", ("dims_384",), {}, -0.008, length=64),
)
"""LinkedIn's shorter vectors are 2,048, 1,024 and 512 of 3,072 numbers: the same shares as here."""

BY_NAME = {row.name: row for row in ROWS}


def chosen(names: Sequence[str]) -> list[Row]:
    """Return the rows of some names with all that they are read beside, in the table's order.

    No name means all. One that is no row is an InvalidError.
    """
    wanted = set(names) or set(BY_NAME)
    for name in sorted(wanted - set(BY_NAME)):
        _refuse(name)
    while missing := {one for name in wanted for one in BY_NAME[name].beside[:1]} - wanted:
        wanted |= missing
    return [row for row in ROWS if row.name in wanted]


def recipe_of(row: Row, base: EncoderRecipe) -> EncoderRecipe:
    """Return the recipe that a row's model is trained by, or read by."""
    return replace(base, **row.changes)


def model_of(row: Row) -> str:
    """Return the name of the model that a row reads: that of the first row with the same one."""
    return next(
        one.name
        for one in ROWS
        if row is one
        or (one.name != RANDOM and (one.trained, one.changes) == (row.trained, row.changes))
    )


def base_recipe(steps: int, **changes: Any) -> EncoderRecipe:
    """Return the recipe that all rows change.

    Every training takes all its steps and is read as it is then: no checkpoint is chosen, so that
    a difference is one of recipes and not of when each stopped (docs/decisions/0159). Each pair has
    one negative that nobody was shown: without these no row could learn what is popular, because
    all other posts of a batch are ones that somebody liked.
    """
    always = EncoderRecipe(
        steps=steps,
        held_back=0.0,
        evaluate_every=steps,
        patience=0,
        hard=1,
        history_in="prompt",  # as LinkedIn has it; where else it may stand is a row
    )
    made = replace(always, **changes)
    return replace(made, random=made.batch)


def differing(was: Struct, now: Struct) -> str:
    """Return the first field in which two differ, with both values; empty where none does."""
    before, after = asdict(was), asdict(now)
    for name, value in after.items():
        if before[name] == value:
            continue
        if isinstance(value, Struct):
            return f"{name}.{differing(before[name], value)}"
        return f"{name} was {before[name]} and is {value}"
    return ""


def _refuse(name: str) -> NoReturn:
    """Say that there is no such row.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"there is no row {name}",
        field="--rows",
        value=name,
        limit=", ".join(BY_NAME),
        next_step="name rows of that list, with commas between them",
    )
