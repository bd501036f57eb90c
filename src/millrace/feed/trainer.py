"""Trains the encoder by itself: waits, cuts examples, learns, has it judged, and lets it serve.

One process of an installation does, and one training at a time. Each step is in the table when it
is done, and can be done again, so a process that is killed goes on where it was.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace.feed.encoder_shelf import ALL, RUN, TAUGHT, EncoderShelf
from millrace.feed.encoder_trainings import EncoderTraining, EncoderTrainings, Known, Stage
from millrace.feed.encoder_versions import (
    EncoderVersion,
    EncoderVersions,
    NewVersion,
    State,
)
from millrace.feed.examples.held_back import hold_back
from millrace.feed.examples.types import LABEL_HOURS
from millrace.feed.formed_encoder import in_form
from millrace.feed.gate import GATE, MEMBERS_MIN, Answer, Asked, Judgement, judge
from millrace.feed.ports import Encoder
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.trainer_plan import Due, Pace, due, timed
from millrace.feed.types import FeedConfig
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError, InvalidError, MillraceError, UnavailableError
from millrace.store.lead import Lead
from millrace.store.router import Router

TRAINER = "training"
"""Who adds, promotes and retires encoders here."""
LEAD = "encoder training"
JUDGED_SHARE = 0.2  # of the moments, the last ones, that a candidate is judged by
TAUGHT_MIN = 100  # answers, below which nothing is learned
TEXTS_AFTER = 2 * 4_000  # members, posts and histories that each of the two is asked with
COUNT_MAX = (1 << 63) - 1  # all of them, once for each training
LOOK_SECONDS = 1.0
NOTE_SECONDS = 5.0
WAIT_SECONDS = 30.0  # between two looks at whether there is enough to learn from
LEFT_SECONDS = 600.0  # without a sign, after which a training of another machine is given up

logger = logging.getLogger(__name__)


class School(Protocol):
    """What needs the model (encoder/school.py): takes a core for minutes, and is called in a thread."""

    def pace(self, data: Path, start: Path | None, recipe: EncoderRecipe) -> Pace:
        """Measure how quick a step and a text are."""
        ...

    def teach(
        self,
        data: Path,
        start: Path | None,
        recipe: EncoderRecipe,
        to: Path,
        tell: Callable[[int], None],
    ) -> Path:
        """Train, or go on; return the directory of the model."""
        ...

    def ask(self, data: Path, candidate: Path, serving: EncoderVersion) -> Asked:
        """Ask a trained model and the encoder that serves the same questions of the last time."""
        ...


class TrainerParts(Struct, frozen=True, kw_only=True):
    """What a trainer works with. `wiring` fits these together.

    school: makes what trains and judges, when it is needed: it takes memory.
    load: loads the model of a directory, to be tried before it is added.
    fit: fits a scorer for an encoder, so that there is one when it begins to serve.
    trainings: the table of trainings, and versions that of encoders.
    conninfo: where the lead is asked for.
    wait_seconds, look_seconds: between two looks at whether it is time, and whether it is embedded.
    """

    router: Router
    clock: Clock
    conninfo: str
    config: FeedConfig
    shelf: EncoderShelf
    trainings: EncoderTrainings
    versions: EncoderVersions
    school: Callable[[], School]
    load: Callable[[str], Awaitable[Encoder]]
    fit: Callable[[Encoder], Awaitable[str]]
    recipe: EncoderRecipe = EncoderRecipe()
    wait_seconds: float = WAIT_SECONDS
    look_seconds: float = LOOK_SECONDS


class Trainer:
    """Trains the encoder by itself. `run` is one training, with the waiting before it."""

    def __init__(self, parts: TrainerParts, say: Callable[[str], None]) -> None:
        """Take what it works with, and who hears how far it is."""
        self._parts = parts
        self._say = say
        self._lead = Lead(parts.conninfo, LEAD)
        self._step = 0

    async def run(self) -> EncoderTraining:
        """Wait until it is time, train, and return what became of it.

        A training that was interrupted is gone on with at once.
        """
        try:
            training = await self._begun()
            while training.goes_on:
                training = await self._next(training)
            await self._tidy()
            return training
        finally:
            await self._lead.leave()

    # ------------------------------------------------- until it is time

    async def _begun(self) -> EncoderTraining:
        """Return a training that goes on: one that was interrupted, or a new one when it is due."""
        told = None
        while True:
            if await self._lead.taken():
                found = await self._unfinished()
                if found is not None:
                    return found
                serving = await self._parts.versions.serving()
                last = await self._parts.trainings.newest()
                if serving is not None and not any(one.goes_on for one in last):
                    waits = due(last, self._parts.config.training_engagements)
                    if self._is_due(waits, await self._count(waits.engagements)):
                        return await self._begin(serving)
                    told = self._tell_once(told, waits)
            await asyncio.sleep(self._parts.wait_seconds)

    async def _unfinished(self) -> EncoderTraining | None:
        """Return the training that was interrupted; one of another machine is left to it a while."""
        parts = self._parts
        last = await parts.trainings.newest(1)
        if not last or not last[0].goes_on:
            return None
        found = last[0]
        if found.place == parts.shelf.place:
            self._say(f"training {found.training_id} goes on: it was {found.state}")
            return found
        silent = (parts.clock.now() - found.changed_at).total_seconds()
        if silent > LEFT_SECONDS:
            reason = f"its files are in {found.place}, and nobody goes on with it"
            await parts.trainings.move(found, Stage.FAILED, Known(reason=reason))
        return None

    async def _count(self, limit: int) -> int:
        """Return how many engagements are answers by now, counted up to a limit."""
        before = self._parts.clock.now() - timedelta(hours=LABEL_HOURS)
        return await self._parts.trainings.engagements(before, limit)

    def _is_due(self, waits: Due, count: int) -> bool:
        late = waits.at is None or self._parts.clock.now() >= waits.at
        return late and count >= waits.engagements

    def _tell_once(self, told: Due | None, waits: Due) -> Due:
        if waits != told:
            when = "" if waits.at is None else f", not before {waits.at:%Y-%m-%d %H:%M} UTC"
            self._say(
                f"training waits for {waits.engagements:,} engagements that are "
                f"{LABEL_HOURS:g} hours old{when}"
            )
        return waits

    async def _begin(self, serving: EncoderVersion) -> EncoderTraining:
        await self._tidy()
        parts, count = self._parts, await self._count(COUNT_MAX)
        found = await parts.trainings.begin(parts.shelf.place, count, serving.version)
        self._say(f"training {found.training_id} begins, with {count:,} engagements")
        return found

    # ------------------------------------------------- one step after another

    async def _next(self, training: EncoderTraining) -> EncoderTraining:
        """Do what comes next; what breaks ends the training, and the next one begins anew.

        Raises:
            UnavailableError: the database went away; it is gone on with when it is back.

        Passes on:
            ConflictError: another process goes on with it.
        """
        steps = {
            Stage.EXPORTING: self._export,
            Stage.TRAINING: self._teach,
            Stage.JUDGING: self._judge,
            Stage.EMBEDDING: self._serve,
        }
        try:
            moved = await steps[training.state](training)
        except UnavailableError:
            raise
        except (MillraceError, OSError, RuntimeError, ValueError) as exc:
            logger.warning("training %s failed: %s", training.training_id, exc, exc_info=True)
            moved = await self._parts.trainings.move(
                training, Stage.FAILED, Known(reason=str(exc) or type(exc).__name__)
            )
        self._say(f"training {moved.training_id}: {_said(moved)}")
        return moved

    async def _export(self, training: EncoderTraining) -> EncoderTraining:
        """Cut examples up to when the training began, and choose how many steps there is time for."""
        parts, shelf, began = self._parts, self._parts.shelf, self._parts.clock.monotonic()
        folders = shelf.folder(training, ALL), shelf.folder(training, TAUGHT)
        found = await hold_back(parts.router, parts.clock, folders, training.began_at, JUDGED_SHARE)
        known = Known(data=found.data, cut_at=found.cut_at)
        if found.engaged < TAUGHT_MIN or found.behind < MEMBERS_MIN:
            reason = (
                f"{Answer.NOT_ENOUGH_DATA}: {found.engaged} answers to learn from and "
                f"{found.behind} behind them to judge by, {TAUGHT_MIN} and {MEMBERS_MIN} are needed"
            )
            return await parts.trainings.move(
                training, Stage.KEPT_OUT, replace(known, reason=reason)
            )
        start = _start(await self._against(training))
        pace = await asyncio.to_thread(lambda: parts.school().pace(folders[1], start, parts.recipe))
        left = parts.config.training_minutes * 60 - (parts.clock.monotonic() - began)
        texts = TEXTS_AFTER + await parts.trainings.texts()
        recipe = timed(parts.recipe, pace, left, texts)
        logger.info(
            "training %s: %s answers to learn from, %s behind %s; %.2f s a step, %.1f ms a text; "
            "%s steps", training.training_id, found.engaged, found.behind, found.cut_at,
            pace.step_seconds, 1000 * pace.text_seconds, recipe.steps,
        )  # fmt: skip
        return await parts.trainings.move(training, Stage.TRAINING, replace(known, recipe=recipe))

    async def _teach(self, training: EncoderTraining) -> EncoderTraining:
        """Train, and note now and then how far it is."""
        parts, recipe = self._parts, training.way
        assert recipe is not None, "it was chosen before"
        shelf, self._step = parts.shelf, training.step
        start = _start(await self._against(training))
        noting = asyncio.create_task(self._noting(training))
        try:
            data, to = shelf.folder(training, TAUGHT), shelf.folder(training, RUN)
            await asyncio.to_thread(
                lambda: parts.school().teach(data, start, recipe, to, self._take_step)
            )
        finally:
            noting.cancel()
            with suppress(asyncio.CancelledError):
                await noting
        await parts.trainings.note(training, self._step)
        return await parts.trainings.move(training, Stage.JUDGING)

    def _take_step(self, step: int) -> None:
        self._step = step

    async def _noting(self, training: EncoderTraining) -> None:
        noted = -1
        while True:
            if self._step != noted:
                noted = self._step
                with suppress(MillraceError):
                    await self._parts.trainings.note(training, noted)
            await asyncio.sleep(NOTE_SECONDS)

    async def _judge(self, training: EncoderTraining) -> EncoderTraining:
        """Ask the candidate and the encoder that serves now; add the candidate if it is let pass."""
        parts = self._parts
        folder = parts.shelf.best(training)
        serving = await parts.versions.serving()
        assert serving is not None, "one served when the training began"
        encoder = await parts.load(str(folder))
        data = parts.shelf.folder(training, ALL)
        asked = await asyncio.to_thread(lambda: parts.school().ask(data, folder, serving))
        found = judge(asked)
        known = Known(
            gate=found, against=serving.version, candidate=encoder.version, reason=found.sentence
        )
        if found.answer is not Answer.PASS:
            return await parts.trainings.move(training, Stage.KEPT_OUT, known)
        kept = parts.shelf.keep(training)
        if await self._row(encoder.version) is None:
            await parts.versions.add(
                NewVersion(
                    version=encoder.version,
                    name=parts.shelf.name(training),
                    directory=str(kept),
                    dims=encoder.dims,
                    history=encoder.history,
                    metrics=_metrics(training, found),
                ),
                TRAINER,
            )
        return await parts.trainings.move(training, Stage.EMBEDDING, known)

    async def _serve(self, training: EncoderTraining) -> EncoderTraining:
        """Wait until the candidate is embedded, fit a scorer for it, and promote it."""
        parts, version = self._parts, training.candidate
        row = await self._embedded(version)
        if row is None:
            reason = "it was let go before it was embedded, or cannot be read where that is done"
            return await self._keep_out(training, reason)
        if row.state is not State.SERVING:
            await self._fit(row)
            try:
                await parts.versions.promote(version, TRAINER, instead_of=training.against)
            except ConflictError as exc:
                return await self._keep_out(training, exc.message)
        moved = await parts.trainings.move(training, Stage.PROMOTED)
        await self._retire(version, training.against)
        return moved

    async def _keep_out(self, training: EncoderTraining, reason: str) -> EncoderTraining:
        """Let a candidate go that was let pass, and cannot serve after all."""
        with suppress(MillraceError):
            await self._parts.versions.retire(training.candidate, TRAINER)
        return await self._parts.trainings.move(training, Stage.KEPT_OUT, Known(reason=reason))

    async def _embedded(self, version: str) -> EncoderVersion | None:
        """Wait until an encoder is ready; None where it will not be."""
        while True:
            row = await self._row(version)
            if row is None or row.fault or row.state is State.RETIRED:
                return None
            if row.state in (State.READY, State.SERVING):
                return row
            await asyncio.sleep(self._parts.look_seconds)

    async def _fit(self, row: EncoderVersion) -> None:
        """Fit a scorer for an encoder; without one the prior serves until whoever serves fits one."""
        try:
            encoder = in_form(await self._parts.load(row.directory), row.history)
            self._say(f"{row.name}: {await self._parts.fit(encoder)}")
        except (MillraceError, TimeoutError, RuntimeError, ValueError) as exc:
            logger.warning(
                "no scorer was fitted for encoder %r before it serves: %s", row.name, exc
            )

    # ------------------------------------------------- what is left behind

    async def _retire(self, serving: str, before: str) -> None:
        """Let go of what was trained here and is neither what serves nor what served before it."""
        for one in await self._parts.versions.all():
            ours = one.added_by == TRAINER and one.state is State.READY
            if ours and one.version not in (serving, before):
                await self._parts.versions.retire(one.version, TRAINER)

    async def _tidy(self) -> None:
        """Remove the files of trainings that ended, and of encoders that were let go."""
        known = await self._parts.versions.all()
        kept = [one.directory for one in known if one.state is not State.RETIRED]
        await asyncio.to_thread(self._parts.shelf.tidy, kept)

    async def _row(self, version: str) -> EncoderVersion | None:
        known = await self._parts.versions.all()
        return next((one for one in known if one.version == version), None)

    async def _against(self, training: EncoderTraining) -> EncoderVersion:
        """Return the encoder that served when the training began.

        Raises:
            InvalidError: it is gone.
        """
        found = await self._row(training.against)
        if found is None or found.state is State.RETIRED:
            raise InvalidError(
                f"encoder {training.against} served when this training began, and is gone",
                field="against",
                value=training.against,
                next_step="nothing: the next training begins with the one that serves",
            )
        return found


def _start(serving: EncoderVersion) -> Path | None:
    """Return the model that training begins with: whole, whatever of its vectors serves."""
    return Path(serving.directory) if serving.directory else None


def _metrics(training: EncoderTraining, found: Judgement) -> dict[str, object]:
    """Return what `models list` and `models compare` show of a trained encoder."""
    gate: dict[str, object] = msgspec.to_builtins(found)
    return {
        "recall_10": found.candidate,
        "step": training.step,
        "data": training.data,
        "training": str(training.training_id),
        GATE: gate,
    }


def _said(training: EncoderTraining) -> str:
    """Return where a training stands, in words."""
    recipe = training.way
    match training.state:
        case Stage.TRAINING if recipe is not None:
            return f"learns, {recipe.steps} steps"
        case Stage.EMBEDDING:
            return f"let pass, and embedded beside the one that serves: {training.reason}"
        case Stage.PROMOTED:
            return f"{training.candidate_name} serves"
        case Stage.KEPT_OUT | Stage.FAILED:
            return f"{training.state.value.replace('_', ' ')}: {training.reason}"
        case _:
            return training.state.value
