"""The questions that evaluations ask: those of a town, or of a folder that can be imported."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from millrace.cli.frame import run
from millrace.world.loader import silent
from millrace.world.simulator.types import SEEN_SHARE_MAX, TownConfig

if TYPE_CHECKING:
    from millrace.lab.exam import Exam

MOMENTS = 4
MEMBERS = 400
MEMBERS_QUICK = 60
TOWN = "town"
IMPRESSIONS_EACH = 200  # for each member of a town, where its size is chosen
SIZES = {"communities": 1, "members": 1_000, "posts": 5_000, "impressions": 200_000, "days": 10}
SIZES_QUICK = {"communities": 1, "members": 240, "posts": 1_200, "impressions": 30_000, "days": 8}
"""One community, so that a member's candidates are all that is live: some hundreds would let a
hundred guesses find much by chance."""

data_option = click.option(
    "--data", required=True, metavar="town|DIR", help="Or a folder that can be imported."
)
dial = partial(click.option, type=click.FloatRange(0, 1), show_default=True)
Say = Callable[[str], None]


def exam_of(data: str, quick: bool, seed: int, dials: dict[str, float], tell: Say) -> "Exam":
    """Return the questions that a town, or a folder that can be imported, asks."""
    from millrace.lab import exams

    if data != TOWN:
        tell(f"reading {data}")
        folder = Path(data)
        return exams.of_log(
            folder.absolute().name, run(exams.collected(folder)), 1 if quick else MOMENTS
        )
    tell("making a town")
    town = {"seed": seed, **(SIZES_QUICK if quick else SIZES), **dials}
    if dials.keys() & {"members", "posts"}:  # about as many looks at a post as otherwise
        most = SEEN_SHARE_MAX * town["members"] * town["posts"] / town["communities"]
        town["impressions"] = int(min(IMPRESSIONS_EACH * town["members"], most))
    return exams.of_town(msgspec.convert(town, TownConfig), silent)
