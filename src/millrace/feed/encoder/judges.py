"""Who judges checkpoints: this process, or others beside it while training goes on."""

from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import torch
from msgspec import Struct

from millrace.feed.encoder.gradient import Machine
from millrace.feed.encoder.judging import Metrics, judged
from millrace.feed.encoder.loading import trained_with
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.encoder.trainee import Trainee, trainable
from millrace.feed.examples.questions import Questions
from millrace.feed.recipe import EncoderRecipe


class Paper(Struct, frozen=True, kw_only=True):
    """What a judge is given: the questions, and how they are to be read."""

    questions: Questions
    recipe: EncoderRecipe
    device: str
    mixed: bool


class Judges:
    """Measures checkpoints in the order in which they come. Use it as a context manager."""

    def __init__(
        self, questions: Questions, recipe: EncoderRecipe, machine: Machine, processes: int
    ) -> None:
        """Take the questions; with 0 processes each is answered before `begin` returns."""
        mixed = machine.dtype is torch.bfloat16
        self._paper = Paper(
            questions=questions, recipe=recipe, device=str(machine.device), mixed=mixed
        )
        self._machine = machine
        self._waiting: dict[int, Future[Metrics]] = {}
        self._pool = (
            ProcessPoolExecutor(
                processes,
                mp_context=get_context("spawn"),
                initializer=torch.set_num_threads,
                initargs=(1,),
            )
            if processes
            else None
        )

    def __enter__(self) -> "Judges":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def aside(self) -> bool:
        """Return whether others judge, so that answers come later."""
        return self._pool is not None

    def begin(self, step: int, folder: Path, here: Trainee | None = None) -> None:
        """Have a checkpoint judged; `here` is the same model where this process still has it."""
        if self._pool is not None:
            self._waiting[step] = self._pool.submit(judge, folder, self._paper)
            return
        answer: Future[Metrics] = Future()
        paper = self._paper
        answer.set_result(
            judge(folder, paper)
            if here is None
            else judged(here.reader, paper.questions, here.recipe(paper.recipe), self._machine)
        )
        self._waiting[step] = answer

    def answers(self) -> list[tuple[int, Metrics]]:
        """Wait for all that is being judged, and return it in the order of steps."""
        found = [(step, answer.result()) for step, answer in sorted(self._waiting.items())]
        self._waiting.clear()
        return found


def judge(folder: Path, paper: Paper) -> Metrics:
    """Return what is measured of a checkpoint that is read from its directory."""
    machine = Machine(
        device=torch.device(paper.device),
        dtype=torch.bfloat16 if paper.mixed else torch.float32,
        ranks=Ranks(),
    )
    recipe = trained_with(folder)  # with what was learned of how a history is pooled
    return judged(trainable(folder, recipe, machine).reader, paper.questions, recipe, machine)
