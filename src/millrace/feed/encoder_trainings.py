"""Trainings of the encoder that come by themselves: how far each came, and what became of it.

    exporting   examples are cut: those to learn from, and those behind them to judge by
    training    steps are taken
    judging     the candidate and the encoder that serves are asked the same questions
    embedding   the gate let it pass: it is added, embedded beside the one that serves, fitted for
    promoted    it serves
    kept_out    the gate did not let it pass, or what it was compared with does not serve any more
    failed      something broke; the next one begins anew

One goes on at a time. What has ended stays as it is: it is the record of what a gate decided.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from millrace.community.types import POSITIVE_ACTIONS
from millrace.feed.gate import Judgement
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.repository import QUERIES
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError
from millrace.kernel.ids import IdMaker
from millrace.store.router import Router
from millrace.store.session import document

LISTED = 20
REASON_CHARACTERS_MAX = 500
POSITIVE = sorted(action.value for action in POSITIVE_ACTIONS)


class Stage(StrEnum):
    """Where a training stands."""

    EXPORTING = "exporting"
    TRAINING = "training"
    JUDGING = "judging"
    EMBEDDING = "embedding"
    PROMOTED = "promoted"
    KEPT_OUT = "kept_out"
    FAILED = "failed"


MOVES: dict[Stage, tuple[Stage, ...]] = {
    Stage.EXPORTING: (Stage.TRAINING, Stage.KEPT_OUT, Stage.FAILED),
    Stage.TRAINING: (Stage.JUDGING, Stage.FAILED),
    Stage.JUDGING: (Stage.EMBEDDING, Stage.KEPT_OUT, Stage.FAILED),
    Stage.EMBEDDING: (Stage.PROMOTED, Stage.KEPT_OUT, Stage.FAILED),
}
"""From where to where; what is not a key has ended."""


class EncoderTraining(Struct, frozen=True, kw_only=True):
    """One training.

    place: the folder that it writes. engagements: how many there were when it began.
    against: the version that served when it was judged; until then, when it began.
    step: of the recipe's steps. data, cut_at: of the examples that it learns from.
    candidate: the version that came of it, and its name.
    """

    training_id: int
    state: Stage
    began_at: datetime
    changed_at: datetime
    place: str
    engagements: int
    against: str
    step: int
    data: str
    candidate: str
    candidate_name: str
    reason: str
    recipe: dict[str, Any] | None = None
    cut_at: datetime | None = None
    gate: dict[str, Any] | None = None

    @property
    def goes_on(self) -> bool:
        """Return whether it has not ended."""
        return self.state in MOVES

    @property
    def way(self) -> EncoderRecipe | None:
        """Return the recipe; None before it is chosen."""
        return None if self.recipe is None else msgspec.convert(self.recipe, EncoderRecipe)

    @property
    def judgement(self) -> Judgement | None:
        """Return what the gate said; None where it was not asked."""
        return None if self.gate is None else msgspec.convert(self.gate, Judgement)


class Known(Struct, frozen=True, kw_only=True):
    """What becomes known of a training with a move; None is nothing new."""

    recipe: EncoderRecipe | None = None
    data: str | None = None
    cut_at: datetime | None = None
    against: str | None = None
    candidate: str | None = None
    gate: Judgement | None = None
    reason: str | None = None


NOTHING_NEW = Known()


class EncoderTrainings:
    """Reads and changes the table of trainings."""

    def __init__(self, router: Router, clock: Clock, ids: IdMaker) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids

    async def newest(self, limit: int = LISTED) -> list[EncoderTraining]:
        """Return the newest trainings, the newest first."""
        async with self._router.read() as session:
            return await session.rows(QUERIES["encoder_trainings"], EncoderTraining, limit=limit)

    async def begin(self, place: str, engagements: int, against: str) -> EncoderTraining:
        """Begin a training; that another one goes on is a ConflictError."""
        training_id = self._ids.next()
        async with self._router.write() as session:
            await session.run(
                QUERIES["insert_encoder_training"],
                training_id=training_id,
                place=place,
                engagements=engagements,
                against=against,
                now=self._clock.now(),
            )
        return await self._of(training_id)

    async def move(
        self, training: EncoderTraining, state: Stage, known: Known = NOTHING_NEW
    ) -> EncoderTraining:
        """Move a training on.

        Raises:
            ConflictError: somebody else has moved it.
        """
        assert state in MOVES[training.state], f"{training.state} does not become {state}"
        async with self._router.write() as session:
            touched = await session.run(
                QUERIES["move_encoder_training"],
                training_id=training.training_id,
                before=training.state.value,
                state=state.value,
                now=self._clock.now(),
                recipe=_document(known.recipe),
                data=known.data,
                cut_at=known.cut_at,
                against=known.against,
                candidate=known.candidate,
                gate=_document(known.gate),
                reason=None if known.reason is None else known.reason[:REASON_CHARACTERS_MAX],
            )
        if not touched:
            raise ConflictError(
                f"training {training.training_id} is not {training.state} any more",
                field="state",
                value=training.state.value,
                next_step="another process goes on with it: millrace train status",
            )
        return await self._of(training.training_id)

    async def note(self, training: EncoderTraining, step: int) -> None:
        """Note how many steps a training has taken."""
        async with self._router.write() as session:
            await session.run(
                QUERIES["note_step_of_training"],
                training_id=training.training_id,
                step=step,
                now=self._clock.now(),
            )

    async def engagements(self, before: datetime, limit: int) -> int:
        """Return how many engagements are older than a time, but no more than `limit`."""
        async with self._router.read() as session:
            found = await session.value(
                QUERIES["count_engagements"], kinds=POSITIVE, before=before, limit=limit
            )
        return int(found)

    async def texts(self) -> int:
        """Return how many texts a new encoder would have to embed."""
        async with self._router.read() as session:
            return int(await session.value(QUERIES["count_texts"]))

    async def _of(self, training_id: int) -> EncoderTraining:
        found = next(one for one in await self.newest() if one.training_id == training_id)
        return found


def _document(value: Struct | None) -> object:
    return None if value is None else document(msgspec.to_builtins(value))
