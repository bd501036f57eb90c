"""The loop: batches to gradients to steps, with looks at recall in between.

What a step does follows from the recipe, the data, its number and what `last/` holds (weights, and
vectors that are remembered), so a training that was killed goes on from there and ends with the same
weights as one that was not.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from msgspec.structs import replace

from millrace.feed.encoder import checkpoints
from millrace.feed.encoder.checkpoints import Lineage, Look, Standing, place_of
from millrace.feed.encoder.gradient import Machine, backward
from millrace.feed.encoder.judges import Judges
from millrace.feed.encoder.judging import JUDGED_BY
from millrace.feed.encoder.trainee import HISTORY, Trainee
from millrace.feed.encoder.vector_memory import Remembering, VectorMemory, Watch
from millrace.feed.examples.batch import Batch
from millrace.feed.examples.loader import Loader
from millrace.feed.examples.questions import Questions
from millrace.feed.recipe import EncoderRecipe
from millrace.kernel.errors import ConflictError
from millrace.kernel.hashing import hash64

SAVE_EVERY = 50  # steps; so many are done again after a kill, at most
MATRIX_DIMS = 2
HISTORY_KIND = 2  # of a parameter, beside matrices and those that are none
DRAW_SHIFT = 24  # leaves 40 bits, so that a step's chunks have room for draws of their own


class Lesson(Struct, frozen=True, kw_only=True):
    """What is learned from, and what is asked.

    draw: the batch of a step, the same for the same step.
    remembering: what vectors are remembered of, where histories are pooled.
    questions: None where recall is not looked at; then the last weights are the best.
    """

    draw: Callable[[int], Batch]
    questions: Questions | None
    lineage: Lineage
    remembering: Remembering | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """What a step was like.

    gradient: how long it was before it was clipped.
    looks: what became known of checkpoints with this step.
    """

    step: int
    steps: int
    loss: float
    rate: float
    gradient: float
    looks: tuple[Look, ...] = ()


def silent(_: Progress) -> None:
    """Tell nobody."""


def unwatched(_done: int, _count: int) -> None:
    """Tell nobody."""


class Running(Struct, frozen=True, kw_only=True):
    """How a training runs; nothing here changes what it ends with.

    to: the directory that it writes.
    resume: go on with the one that is there.
    judges: processes that judge checkpoints while training goes on; 0: this one does.
    save_every: steps.
    tell: told of each step.
    watch: told how many of the vectors are computed that are remembered, and of how many.
    """

    to: Path
    resume: bool = False
    judges: int = 0
    save_every: int = SAVE_EVERY
    tell: Callable[[Progress], None] = silent
    watch: Watch = unwatched


class Trained(Struct, frozen=True, kw_only=True):
    """A training that is over. `best` is the step whose weights are in `folder`; 0 is the start."""

    folder: Path
    best: int
    steps: int
    looks: tuple[Look, ...]


class Learner:
    """One training: a model, what it learns from, and how far it came."""

    def __init__(
        self,
        trainee: Trainee,
        lesson: Lesson,
        recipe: EncoderRecipe,
        machine: Machine,
        running: Running,
    ) -> None:
        """Begin a training, or go on with the one that is in its directory.

        One that is not to be gone on with, or is another than this, is a ConflictError.
        """
        self._trainee = trainee
        self._lesson = lesson
        self._recipe = recipe
        self._machine = machine
        self._running = running
        self._optimizer = optimizer_of(trainee, recipe)
        self._standing = _begun(lesson, recipe, machine, running)
        self._memory = memory_of(trainee, lesson.remembering, machine)
        if self._standing.step:
            step, memory = self._standing.step, self._memory
            checkpoints.load_last(running.to, trainee, self._optimizer, step, memory)

    def train(self) -> Trained:
        """Train to the end, and leave the best of the checkpoints in `best/`."""
        if not self._standing.finished:
            if not self._standing.step:
                self._fill()
            with self._judges() as judges:
                self._learn(judges)
            self._finish()
        return Trained(
            folder=self._running.to / checkpoints.BEST,
            best=self._best(),
            steps=self._standing.step,
            looks=self._standing.judged,
        )

    def _fill(self) -> None:
        """Compute all vectors that are remembered."""
        if self._memory is not None:
            self._memory.fill(self._trainee.reader, self._running.watch)

    def _judges(self) -> Judges | nullcontext[None]:
        """Return who judges; nobody where nothing is asked, and in all processes but the first."""
        questions = self._lesson.questions
        if questions is None or not self._machine.ranks.first:
            return nullcontext()
        return Judges(questions, self._recipe, self._machine, self._running.judges)

    def _learn(self, judges: Judges | None) -> None:
        """Take all steps that are left, until nothing better comes."""
        if judges is not None:
            for step in self._standing.waiting:
                judges.begin(step, place_of(self._running.to, step))
        begun = self._standing.step or self._standing.judged or self._standing.waiting
        if self._lesson.questions is not None and not begun:
            self._look(judges)  # so that what was learned is known from what was there
        self._trainee.reader.model.train()
        if not self._standing.stopped:
            with Loader(self._lesson.draw, self._standing.step, self._recipe.steps) as batches:
                for batch in batches:
                    self._step(batch, judges)
                    if self._standing.stopped:
                        break
        if judges is not None:
            self._hear(judges)

    def _step(self, batch: Batch, judges: Judges | None) -> None:
        """Learn from a batch; look and save where it is time to."""
        recipe, done, heard = self._recipe, self._standing.step, len(self._standing.judged)
        draw = draw_of(recipe.seed, done)
        if recipe.refresh_every and done and done % recipe.refresh_every == 0:
            self._fill()
        loss = backward(self._trainee.reader, batch, recipe, self._machine, draw, self._memory)
        norm = torch.nn.utils.clip_grad_norm_(self._trainee.reader.model.parameters(), recipe.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest"] * recipe.share(done)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._standing = replace(self._standing, step=done + 1)
        if done + 1 == recipe.steps or (done + 1) % recipe.evaluate_every == 0:
            self._look(judges)
        elif (done + 1) % self._running.save_every == 0:
            self._save()
        self._running.tell(
            Progress(
                step=done + 1,
                steps=recipe.steps,
                loss=loss,
                rate=recipe.rate(done),
                gradient=float(norm),
                looks=self._standing.judged[heard:],
            )
        )

    def _look(self, judges: Judges | None) -> None:
        """Save the model as it is and have it judged; hear what is known by now."""
        to, step, ranks = self._running.to, self._standing.step, self._machine.ranks
        if judges is not None:
            self._hear(judges)
        if ranks.first and not self._nothing_better():
            lineage = self._lesson.lineage
            checkpoints.save_model(place_of(to, step), self._trainee, self._recipe, lineage)
            if judges is not None:
                judges.begin(step, place_of(to, step), self._trainee)
                self._standing = replace(self._standing, waiting=(step,))
                if not judges.aside:
                    self._hear(judges)
        stopped = ranks.agreed(self._nothing_better(), self._machine.device)
        self._standing = replace(self._standing, stopped=stopped)
        self._save()
        if ranks.first:
            checkpoints.tidy(to, {self._best(), *self._standing.waiting})

    def _hear(self, judges: Judges) -> None:
        """Take down what was measured of checkpoints."""
        heard = tuple(Look(step=step, metrics=metrics) for step, metrics in judges.answers())
        judged = (*self._standing.judged, *heard)
        self._standing = replace(self._standing, judged=judged, waiting=())

    def _nothing_better(self) -> bool:
        """Return whether so many looks found nothing better that it is time to stop."""
        judged, patience = self._standing.judged, self._recipe.patience
        return bool(patience) and sum(look.step > self._best() for look in judged) >= patience

    def _best(self) -> int:
        """Return the step of the look that found most, the earliest of equals."""
        looks = self._standing.judged
        if not looks:
            return self._standing.step
        return max(looks, key=lambda look: (look.metrics[JUDGED_BY], -look.step)).step

    def _save(self) -> None:
        """Write what a training goes on from."""
        if self._machine.ranks.first:
            to, optimizer, standing = self._running.to, self._optimizer, self._standing
            checkpoints.save_last(to, self._trainee, optimizer, standing, self._memory)

    def _finish(self) -> None:
        """Name the best checkpoint, and write down that this is the end."""
        if self._machine.ranks.first:
            checkpoints.finish(self._running.to, self._best(), self._standing.judged)
        self._standing = replace(self._standing, finished=True)
        self._save()
        self._machine.ranks.meet(self._machine.device)  # nobody leaves before it is done


def optimizer_of(trainee: Trainee, recipe: EncoderRecipe) -> torch.optim.AdamW:
    """Return AdamW; biases and norms, which are no directions, are not drawn to nothing.

    Weights of a pooled history have a rate of their own: there are two of them, and each is a
    logarithm.
    """
    rate, decay = recipe.learning_rate, recipe.weight_decay
    kinds = ((decay, rate), (0.0, rate), (0.0, recipe.pooling_rate))
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": drawn, "highest": top} for drawn, top in kinds
    ]
    for name, one in trainee.parameters.items():
        kind = HISTORY_KIND if name.startswith(HISTORY) else int(one.dim() < MATRIX_DIMS)
        groups[kind]["params"].append(one)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def memory_of(
    trainee: Trainee, remembering: Remembering | None, machine: Machine
) -> VectorMemory | None:
    """Return the memory of vectors that a training needs, empty; None where it needs none."""
    if trainee.history is None or remembering is None:
        return None
    return VectorMemory(trainee.history, remembering, trainee.reader.dims, machine)


def draw_of(seed: int, step: int) -> int:
    """Return what a step's draws begin with."""
    return hash64(f"{seed} {step}") >> DRAW_SHIFT


def _begun(lesson: Lesson, recipe: EncoderRecipe, machine: Machine, running: Running) -> Standing:
    """Return how far the training in a directory came; nothing done where there is none.

    Raises:
        ConflictError: there is one already, or another than this.
    """
    if machine.ranks.first:
        checkpoints.mend(running.to)
    machine.ranks.meet(machine.device)
    found = checkpoints.standing_of(running.to)
    machine.ranks.meet(machine.device)  # nobody writes before everybody has read
    if found is None:
        return Standing(step=0, recipe=recipe, lineage=lesson.lineage)
    if not running.resume:
        raise ConflictError(
            f"there is a training in {running.to}, after {found.step} steps",
            field="to",
            value=str(running.to),
            next_step="go on with it by --resume, or name another directory",
        )
    pairs = (("recipe", found.recipe, recipe), ("lineage", found.lineage, lesson.lineage))
    for what, was, now in pairs:
        if was != now:
            raise ConflictError(
                f"the training in {running.to} has another {what}: {_difference(was, now)}",
                field="to",
                value=str(running.to),
                next_step="give what it was begun with, or name another directory",
            )
    return found


def _difference(was: Struct, now: Struct) -> str:
    """Return the first field in which two differ."""
    return next(
        f"{field} was {getattr(was, field)} and is {getattr(now, field)}"
        for field in was.__struct_fields__
        if getattr(was, field) != getattr(now, field)
    )
