"""How much of what members did later several encoders find: the same questions for all."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.encoder.checkpoints import DATA, Lineage
from millrace.feed.encoder.judging import DEPTHS, Metrics, asked_of, recalls_of_each
from millrace.feed.encoder.loading import packaged, pooled_by, trained_with
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.encoder.trainee import machine_for, trainable
from millrace.feed.examples import leaks
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.questions import questions_of
from millrace.feed.examples.reading import Examples, Part
from millrace.feed.pooled_history import PooledHistory
from millrace.kernel.errors import InvalidError

SEED = 20261121
PRECISION = "fp32"
STANDARD = PooledHistory()
FIRST_DEPTH = DEPTHS[0]


class Compared(Struct, frozen=True, kw_only=True):
    """What each encoder finds, in the order in which they were named.

    since: the questions are of this time on. members: how many were asked.
    each: recall at 10 of each member, the same members in the same order for every encoder.
    """

    since: datetime
    members: int
    found: list[Metrics]
    each: list[NDArray[np.float64]]


def compared(
    data: Path,
    encoders: Sequence[tuple[str, int]],
    threads: int = 1,
    histories: Sequence[PooledHistory | None] = (),
) -> Compared:
    """Return the recall of encoders on the moments of a folder that none of them learned from.

    Args:
        data: examples, as `millrace train export` writes them; a folder that leaks is refused.
        encoders: directories, empty for the packaged one, and how many numbers of a vector count.
        threads: of a processor.
        histories: how that of each is pooled where its directory has no recipe, None for one in the
            prompt; by default as the settings do.

    Raises:
        InvalidError: nothing in it is later than what they learned from.
    """
    leaks.check(data)
    torch.set_num_threads(threads)
    examples = Examples(data)
    forms = histories or [STANDARD] * len(encoders)
    folders = [Path(directory) if directory else packaged() for directory, _ in encoders]
    since = max(_learned_until(folder, examples) for folder in folders)
    _, part = examples.split(since)
    if not len(part.rows):
        raise InvalidError(
            f"nothing in {data} is later than what the encoders learned from",
            field="data",
            value=str(data),
            limit=f"moments from {since:%Y-%m-%d %H:%M} on",
            next_step="export newer examples: millrace train export DIR",
        )
    found = [
        _found(folder, dims, part, pooled_by(folder, history))
        for folder, (_, dims), history in zip(folders, encoders, forms, strict=True)
    ]
    return Compared(
        since=since,
        members=len(found[0][FIRST_DEPTH]),
        found=[
            {f"recall_{depth}": round(float(one.mean()), 6) for depth, one in each.items()}
            for each in found
        ],
        each=[each[FIRST_DEPTH] for each in found],
    )


def _found(
    folder: Path, dims: int, part: Part, history: PooledHistory | None
) -> dict[int, NDArray[np.float64]]:
    """Return the recall of one encoder for each member, by depth."""
    recipe, examples = trained_with(folder).reading(history), part.examples
    machine = machine_for(torch.device("cpu"), PRECISION, Ranks())
    trainee = trainable(folder, recipe, machine)
    said = Prompted(examples, trainee.vocabulary, recipe, trainee.tokens_max)
    questions = questions_of(part, said, SEED, pooled=history)
    asked = asked_of(trainee.reader, questions, recipe, machine)
    return recalls_of_each(asked.members[:, :dims], asked.posts[:, :dims], questions)


def _learned_until(folder: Path, examples: Examples) -> datetime:
    """Return the time from which on an encoder learned from nothing."""
    begin = examples.whole().time_at(0.0)
    file = folder / DATA
    if not file.is_file():
        return begin  # it was never trained here
    lineage = msgspec.json.decode(file.read_bytes(), type=Lineage)
    if lineage.data == examples.fingerprint:
        return examples.whole().time_at(1 - trained_with(folder).held_back)
    return max(begin, datetime.fromisoformat(lineage.cut_at)) if lineage.cut_at else begin
