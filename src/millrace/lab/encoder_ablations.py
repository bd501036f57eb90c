"""`millrace evaluate encoder-ablations`: what is learned, and by what.

Each row is trained with several seeds on what lies before the question, takes all its steps, and is
read as it is then. Rows are compared over the same members and the same seeds. What is found stands
in a folder, training by training, and whoever asks again goes on from there.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from time import process_time

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed.examples.reading import Examples
from millrace.feed.examples.types import ExportPlan
from millrace.feed.recipe import EncoderRecipe
from millrace.lab import quality, report
from millrace.lab.ablation_folder import UNTRAINED, Configuration, Folder, Found, Reading
from millrace.lab.ablation_paper import Paper
from millrace.lab.ablation_rows import BY_NAME, RANDOM, ROWS, Row, model_of, recipe_of
from millrace.lab.ablation_training import Errand, train, train_beside
from millrace.lab.data_examples import write_examples
from millrace.lab.exam import Exam

ROUNDS = 3  # steps of each recipe whose cost is measured
MEMORY_MIB = 1_024  # in which so many sequences fit
COSTS: tuple[str, ...] = (
    "memory_mib_per_sequence",
    "sequences_per_batch",
    "iteration_ms",
    "member_tokens",
)
NO_COST: dict[str, object] = {**dict.fromkeys(COSTS)}
PACKAGES = ("torch", "transformers")

Say = Callable[[str], None]
Values = NDArray[np.float64]


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be found out, and how.

    to: the folder. rows: in the table's order, each with its previous one. trainings: of each row,
    whose seeds are 1 and on. seed: of members drawn and of the bootstrap. start: the model that
    training begins with; None for the packaged one. jobs: trainings at a time. keep_models: after
    they were read.
    """

    to: Path
    rows: list[Row]
    recipe: EncoderRecipe
    trainings: int
    members_max: int
    seed: int
    start: Path | None = None
    threads: int = 1
    jobs: int = 1
    keep_models: bool = False

    def seeds(self, row: Row) -> Iterable[int]:
        """Return the seeds of a row's trainings."""
        return range(1, self.trainings + 1) if row.trained else (UNTRAINED,)


def run(exam: Exam, plan: Plan, say: Say) -> dict[str, object]:
    """Find what is not found yet, and return all rows.

    Args:
        exam: the data set and its questions; what lies before the first of them is learned from.
        plan: what is to be found out.
        say: told of progress.

    Returns:
        The keys of BENCH.md for `encoder-ablations`, and more.
    """
    start = report.begin(plan.seed)
    with Folder(plan.to).alone():
        figures = _figures(Laboratory(exam, plan, say), exam, plan, say)
    return report.finish(start, figures, PACKAGES)


def _figures(laboratory: "Laboratory", exam: Exam, plan: Plan, say: Say) -> dict[str, object]:
    """Return all figures; what is not known yet is found out."""
    laboratory.measure_costs()
    if plan.jobs > 1:
        laboratory.train_beside()
    table = Table(plan, laboratory.folder, laboratory.paper.new_members)
    rows: list[dict[str, object]] = []
    for row in plan.rows:
        laboratory.find(row)
        rows.append(table.row(row))
        say(_told(rows[-1]))
    return {
        "data": exam.name,
        "split_time": exam.questions[0].at.isoformat(),
        "posts": len(exam.data.posts),
        "members": len(laboratory.paper.members),
        "new_members": int(laboratory.paper.new_members.sum()),
        "pairs": laboratory.pairs,
        "trainings": plan.trainings,
        "memory_mib": MEMORY_MIB,
        "recipe": msgspec.to_builtins(plan.recipe),
        "rows": rows,
        **exam.settings,
    }


class Laboratory:
    """Where models are trained and read."""

    def __init__(self, exam: Exam, plan: Plan, say: Say) -> None:
        """Write what is learned from; a folder that was begun otherwise is refused."""
        from millrace.feed.encoder.loading import folder_fingerprint, packaged  # brings torch

        self._plan, self._say = plan, say
        self.folder = Folder(plan.to)
        self.paper = Paper(exam, plan.seed, plan.members_max)
        say("writing what is learned from")
        beside = self.folder.path / "examples.new"
        plan_of_examples = ExportPlan(until=exam.questions[0].at)
        examples = Examples(write_examples(exam.data, plan_of_examples, beside))
        self.pairs = examples.manifest.counts.engaged
        self.folder.open(
            Configuration(
                data=exam.name,
                settings=msgspec.to_builtins(exam.settings),
                seed=plan.seed,
                members=plan.members_max,
                recipe=plan.recipe,
                start=folder_fingerprint(plan.start or packaged()),
                examples=examples.fingerprint,
                questions=self.paper.fingerprint,
            )
        )
        self.folder.take_examples(beside)

    def measure_costs(self) -> None:
        """Measure what a step takes, of every recipe that was not measured yet, in turns."""
        from millrace.feed.encoder.costs import Cost, costs_of
        from millrace.feed.encoder.teaching import Place

        recipes = {
            model: recipe_of(row, self._plan.recipe)
            for row in self._plan.rows
            if row.trained and self.folder.cost(model := model_of(row), Cost) is None
        }
        if not recipes:
            return
        self._say(f"measuring a step of {', '.join(recipes)}")
        place = Place(device="cpu", threads=self._plan.threads)
        found = costs_of(
            self.folder.examples, self._plan.start, recipes, place, ROUNDS, process_time
        )
        for model, cost in found.items():
            self.folder.keep_cost(model, cost)

    def train_beside(self) -> None:
        """Train and read what is missing of all rows, several models at a time."""
        missing = {
            self._errand(model, recipe): (row, model, recipe)
            for row in self._plan.rows
            if row.trained
            for model, recipe in self._missing(row)
        }
        for errand, seconds in train_beside(missing, self._plan.jobs):
            self._read(*missing[errand], seconds)

    def find(self, row: Row) -> None:
        """Train and read a row's model with each seed that was not read yet."""
        for model, recipe in self._missing(row):
            seconds = train(self._errand(model, recipe), self._say) if row.trained else 0.0
            self._read(row, model, recipe, seconds)

    def _missing(self, row: Row) -> list[tuple[str, EncoderRecipe]]:
        """Return the model of a row with the recipe of each training that was not read yet."""
        model = model_of(row)
        recipes = (
            replace(recipe_of(row, self._plan.recipe), seed=one) for one in self._plan.seeds(row)
        )
        return [
            (model, one) for one in recipes if self.folder.reading(model, one.seed, one) is None
        ]

    def _read(self, row: Row, model: str, recipe: EncoderRecipe, seconds: float) -> None:
        """Ask a model, and keep what it finds."""
        if row.name == RANDOM:
            found = {0: self.paper.at_random()}
        else:
            self._say(f"{model}, seed {recipe.seed}: reading what it finds")
            lengths = sorted({one.length for one in ROWS if model_of(one) == model} | {0})
            folder = self._errand(model, recipe).best if row.trained else self._plan.start
            found = self.paper.read(folder, recipe, lengths, self._plan.threads)
        reading = Reading(recipe=recipe, lengths=found, processor_seconds=round(seconds, 1))
        keep = self._plan.keep_models
        self.folder.keep_reading(model, recipe.seed, reading, keep_model=keep)

    def _errand(self, model: str, recipe: EncoderRecipe) -> Errand:
        return Errand(
            name=f"{model}, seed {recipe.seed}",
            examples=self.folder.examples,
            start=self._plan.start,
            to=self.folder.training(model, recipe.seed),
            recipe=recipe,
            threads=self._plan.threads,
        )


class Table:
    """Rows from what was read."""

    def __init__(self, plan: Plan, folder: Folder, new_members: NDArray[np.bool_]) -> None:
        self._plan, self._folder, self._new = plan, folder, new_members
        self._asked = {row.name for row in plan.rows}

    def row(self, row: Row) -> dict[str, object]:
        """Return what is known of a row, and how far it is from those it is read beside."""
        recall = self._values(row, "recall_10")
        beside = [one for one in row.beside if one in self._asked]
        previous = beside[0] if beside else None
        differences = {one: self._difference(row, one, "recall_10") for one in beside}
        first = differences[previous] if previous else None
        before = None if previous is None else self._values(BY_NAME[previous], "recall_10")
        return {
            "name": row.name,
            "previous": previous,
            "recall_10": _mean(recall),
            "recall_10_by_seed": [_mean(one) for one in recall],
            "recall_10_new_members": _mean(recall[:, self._new]),
            "recall_100": _mean(self._values(row, "recall_100")),
            "difference_to_previous": msgspec.to_builtins(first),
            "relative_to_previous": _relative(recall, before),
            "published_relative": row.published,
            "differences": msgspec.to_builtins(differences),
            "popularity_correlation": _mean(self._values(row, "popularity_correlation")),
            "popularity_correlation_difference": msgspec.to_builtins(
                self._difference(row, previous, "popularity_correlation") if previous else None
            ),
            **self._cost(row),
        }

    def _values(self, row: Row, measure: str) -> Values:
        """Return a measure of each member in each training; NaN is none. (trainings, members)."""
        found: list[list[float | None]] = [getattr(one, measure) for one in self._founds(row)]
        return np.array(found, np.float64).reshape(len(found), len(self._new))

    def _founds(self, row: Row) -> Iterable[Found]:
        """Return what each training of a row found; none where vectors are not that long."""
        model = model_of(row)
        for seed in self._plan.seeds(row):
            recipe = replace(recipe_of(row, self._plan.recipe), seed=seed)
            reading = self._folder.reading(model, seed, recipe)
            assert reading is not None, "every row that is asked for was read"
            if row.length in reading.lengths:
                yield reading.lengths[row.length]

    def _difference(self, row: Row, other: str, measure: str) -> quality.Difference | None:
        ours, theirs = self._values(row, measure), self._values(BY_NAME[other], measure)
        if not len(ours) or not len(theirs):
            return None
        known = ~np.isnan(ours).any(axis=0) & ~np.isnan(theirs).any(axis=0)
        if not known.any():
            return None
        return quality.difference_of_trainings(ours[:, known], theirs[:, known], self._plan.seed)

    def _cost(self, row: Row) -> dict[str, object]:
        from millrace.feed.encoder.costs import Cost

        cost = self._folder.cost(model_of(row), Cost) if row.trained else None
        if cost is None:
            return NO_COST
        memory = cost.memory_mib_per_sequence
        per_batch = int(MEMORY_MIB / memory) if memory > 0 else None
        figures = (memory, per_batch, cost.iteration_ms, cost.member_tokens)
        return dict(zip(COSTS, figures, strict=True))


def _told(row: dict[str, object]) -> str:
    """Return a row that is done, for whoever waits for the others."""
    gap = msgspec.convert(row["difference_to_previous"], quality.Difference | None)
    found = f"{row['name']}: recall@10 {row['recall_10']}"
    if gap is None:
        return found
    low, high = gap.interval
    return f"{found}, {gap.value:+} ({low:+} to {high:+}) beside {row['previous']}"


def _mean(values: Values) -> float | None:
    return quality.mean(values[~np.isnan(values)])


def _relative(ours: Values, theirs: Values | None) -> float | None:
    """Return how much more a row finds than its previous one, as a share of that."""
    if theirs is None or not ours.size or not theirs.size or not theirs.mean():
        return None
    return round(float(ours.mean() / theirs.mean() - 1), 4)
