"""A served feed as it is logged, version 1: one Struct as MessagePack, compressed with zstd.

Matrices are float32 bytes, row by row: features as they were at serving are what a fit learns
from, and numbers pack better side by side.
"""

from typing import TypeAlias

import msgspec
import numpy as np
import zstandard
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.features import FEATURES, Matrix
from millrace.feed.run import SEEN, Candidate, Run
from millrace.feed.types import Adjustment, Removal, SourceNote
from millrace.feed.value import ACTIONS
from millrace.kernel.errors import MillraceError

FORMAT = 1
LEVEL = 3
BYTES_MAX = 64 << 20

Note: TypeAlias = tuple[str, int, float]
Change: TypeAlias = tuple[str, str, float, float]


class RankedPost(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One post of a served feed, in its place."""

    community_id: int
    post_id: int
    tier: int
    value: float
    score: float
    reason: str
    sources: list[Note]
    adjustments: list[Change] = []

    @property
    def key(self) -> Key:
        """Return the post's key."""
        return Key(self.community_id, self.post_id)

    @property
    def seen(self) -> bool:
        """Return whether the member had seen it when the feed was made."""
        return self.tier == SEEN


class RemovedPost(Struct, frozen=True, kw_only=True):
    """One post that a stage took out; the later stages have no numbers of it.

    row: its row in the matrices behind those of the ranked posts; -1 where it was not scored.
    """

    community_id: int
    post_id: int
    stage: str
    reason: str
    sources: list[Note]
    score: float
    row: int = -1

    @property
    def key(self) -> Key:
        """Return the post's key."""
        return Key(self.community_id, self.post_id)


class StageLine(Struct, frozen=True):
    """What a stage did, and how long it took."""

    stage: str
    taken: int
    left: int
    removed: dict[str, int]
    milliseconds: float


class Record(Struct, frozen=True, kw_only=True):
    """Everything that is known of a served feed.

    features, probabilities: float32, one row per ranked post, then one per scored removed post.
    exhausted: whether no new post was left behind when it was made.
    """

    format: int
    surface: str
    versions: dict[str, str]
    degraded: list[str]
    exhausted: bool
    stages: list[StageLine]
    ranked: list[RankedPost]
    removed: list[RemovedPost]
    feature_names: list[str]
    action_names: list[str]
    features: bytes
    probabilities: bytes

    @property
    def fresh(self) -> int:
        """Return how many posts stand before the first seen one."""
        return next((i for i, one in enumerate(self.ranked) if one.seen), len(self.ranked))

    def feature_matrix(self) -> Matrix:
        """Return the features, one row per scored post."""
        return _matrix(self.features, len(self.feature_names))

    def probability_matrix(self) -> Matrix:
        """Return the probabilities, one row per scored post."""
        return _matrix(self.probabilities, len(self.action_names))


def of(run: Run) -> Record:
    """Return the record of a run that is over."""
    scored = [one for one, _ in run.removed if one.row >= 0]
    rows = [one.row for one in [*run.candidates, *scored]]
    places = {id(one): len(run.candidates) + place for place, one in enumerate(scored)}
    return Record(
        format=FORMAT,
        surface=run.request.surface,
        versions=run.versions,
        degraded=run.degraded,
        exhausted=run.exhausted,
        stages=[
            StageLine(note.stage, note.taken, note.left, note.removed, note.milliseconds)
            for note in run.stages
        ],
        ranked=[_ranked(one) for one in run.candidates],
        removed=[_removed(one, why, places.get(id(one), -1)) for one, why in run.removed],
        feature_names=list(FEATURES),
        action_names=[action.value for action in ACTIONS],
        features=run.features[rows].astype(np.float32).tobytes() if rows else b"",
        probabilities=run.probabilities[rows].astype(np.float32).tobytes() if rows else b"",
    )


def encode(record: Record) -> bytes:
    """Return the bytes of a record."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(msgspec.msgpack.encode(record))


def decode(content: bytes) -> Record:
    """Read a record.

    Raises:
        MillraceError: another release wrote a format that this one does not know.
    """
    plain = zstandard.ZstdDecompressor().decompress(content, max_output_size=BYTES_MAX)
    try:
        found = msgspec.msgpack.decode(plain, type=Record)
    except msgspec.DecodeError as exc:
        raise MillraceError(
            "a served feed has a format that this release cannot read",
            limit=f"format {FORMAT}",
            next_step="ask for a new feed",
        ) from exc
    assert found.format == FORMAT, f"served feed format {found.format} is not {FORMAT}"
    return found


def notes(lines: list[Note]) -> list[SourceNote]:
    """Return sources as they were noted."""
    return [SourceNote(*line) for line in lines]


def changes(lines: list[Change]) -> list[Adjustment]:
    """Return adjustments as they were noted."""
    return [Adjustment(*line) for line in lines]


def _ranked(one: Candidate) -> RankedPost:
    return RankedPost(
        community_id=one.key.community_id,
        post_id=one.key.id,
        tier=one.tier,
        value=one.value,
        score=one.score,
        reason=one.reason,
        sources=_notes(one),
        adjustments=[(a.stage, a.reason, a.before, a.after) for a in one.adjustments],
    )


def _removed(one: Candidate, why: Removal, row: int) -> RemovedPost:
    return RemovedPost(
        community_id=one.key.community_id,
        post_id=one.key.id,
        stage=why.stage,
        reason=why.reason,
        sources=_notes(one),
        score=one.score,
        row=row,
    )


def _notes(one: Candidate) -> list[Note]:
    return [(note.source, note.rank, note.score) for note in one.sources]


def _matrix(content: bytes, columns: int) -> Matrix:
    return np.frombuffer(content, dtype=np.float32).reshape(-1, columns).astype(np.float64)
