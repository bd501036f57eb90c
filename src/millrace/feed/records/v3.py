"""Format 3 of a served feed, frozen: what was looked at, and not what follows from it.

Features are written in as few bytes as hold what was scored (planes.py). Probabilities, values and
the decay of an author's later posts are computed again from them and from the weights, which are in
the record too, so that a record explains itself whatever became of the model. Where a column cannot
be had again exactly, it is written as it is. The rows are the ranked posts in their order, then the
removed ones. It also says which variants of which flags were in force, and with which app.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.features import FEATURES
from millrace.feed.index import microseconds
from millrace.feed.linear import Linear
from millrace.feed.records import planes
from millrace.feed.records.types import (
    Change,
    Note,
    RankedPost,
    Record,
    RemovedPost,
    StageLine,
)
from millrace.feed.run import SOURCES, Candidates, Removed, Run
from millrace.feed.value import ACTIONS

FORMAT = 3
IDS_SINCE = 1_262_304_000_000  # milliseconds from 1970 to the beginning of ids, in 2010
ID_TAIL_BITS = 22
HOUR = 3_600_000  # milliseconds
HOURS_HALF, HOURS_MAX = 48.0, 87_600.0
LOGIT_MAX = 30.0
DECAY, FLOOR = 0.5, 0.8
BY_RECENCY = -2  # in place of a place: the whole feed is in the order of time
UNCHANGED = -32_768  # in place of a nearness
AGED = ("recency", "age")
AGED_COLUMNS = [FEATURES.index(name) for name in AGED]
OTHER_COLUMNS = [place for place, name in enumerate(FEATURES) if name not in AGED]
LOOKED_AT = 8  # rows that tell whether features are made of ages as this format does
BEYOND = "select"
SIMILARITY = "similarity"


class Gone(Struct, frozen=True, array_like=True):
    """Posts that one stage removed: how many, and whether their reasons follow from their places."""

    stage: str
    count: int
    counted: bool


class Model(Struct, frozen=True, array_like=True):
    """What made probabilities of features; float32, one row an action."""

    weights: bytes
    intercepts: bytes


class Written(Struct, frozen=True, array_like=True):
    """What is written down where no model makes it: probabilities and values, float32."""

    probabilities: bytes
    values: bytes


class Stored(Struct, frozen=True, array_like=True, kw_only=True):
    """A record as it is stored.

    now: milliseconds since 1970. weights: what each action counts.
    ranked: how many of the rows are ranked posts. gone: the stages of the others, in their order.
    scored: bits, which rows have features. ids: post id and community id.
    ranks: per source, -1 where it is silent. said: scores of sources, as `_said` has them.
    behind, near, lifted, spread: of ranked posts, what each adjustment was about; spread only where
        a post was lifted. score: of scored rows. reasons: places in `texts`.
    aged: how long after their ids posts were created, in milliseconds; empty where recency and age
        are among the columns. model: None where probabilities and values are written.
    """

    surface: str
    app: tuple[str, str, str]
    variants: dict[str, str]
    faults: dict[str, str]
    versions: dict[str, str]
    degraded: list[str]
    exhausted: bool
    now: int
    stages: list[StageLine]
    sources: list[str]
    feature_names: list[str]
    action_names: list[str]
    weights: list[float]
    ranked: int
    gone: list[Gone]
    texts: list[str]
    scored: bytes
    ids: bytes
    tier: bytes
    ranks: bytes
    said: list[bytes]
    behind: bytes
    near: bytes
    lifted: bytes
    spread: bytes
    score: bytes
    reasons: bytes
    aged: bytes
    columns: planes.Columns
    model: Model | None
    written: Written | None


_DECODER = msgspec.msgpack.Decoder(Stored)
_ENCODER = msgspec.msgpack.Encoder()


def encode(run: Run) -> bytes:
    """Return the record of a run that is over."""
    parts = [run.candidates, *(gone.posts for gone in run.removed)]
    gone = [_gone(one, len(run.candidates)) for one in run.removed]
    texts, reasons = _numbered(run, gone)
    rows, ids = _joined(parts, "row"), _joined(parts, "ids")
    scored = rows >= 0
    features = run.features[rows[scored]] if scored.any() else np.zeros((0, len(FEATURES)))
    now = microseconds(run.request.now) // 1000
    aged, features_kept = _aged(run, rows[scored], ids[scored, 0], now, features)
    ranks, ranked = _joined(parts, "ranks"), run.candidates
    lifted = ranked.lifted >= 0
    model, app = run.model, run.request.app
    return _ENCODER.encode(
        Stored(
            surface=run.request.surface,
            app=(app.version, app.platform, app.country),
            variants=run.plan.variants,
            faults=run.plan.faults,
            versions=run.versions,
            degraded=run.degraded,
            exhausted=run.exhausted,
            now=now,
            stages=[
                StageLine(note.stage, note.taken, note.left, note.removed, note.milliseconds)
                for note in run.stages
            ],
            sources=list(SOURCES),
            feature_names=list(FEATURES),
            action_names=[action.value for action in ACTIONS],
            weights=list(run.weights),
            ranked=len(ranked),
            gone=gone,
            texts=texts,
            scored=np.packbits(scored).tobytes(),
            ids=planes.planes(ids, "<i8"),
            tier=planes.planes(_joined(parts, "tier"), "<i1"),
            ranks=planes.planes(ranks, "<i2"),
            said=_said(_joined(parts, "scores_there"), ranks, scored, features),
            behind=planes.planes(ranked.behind, "<i2"),
            near=planes.planes(_near(ranked.near), "<i2"),
            lifted=planes.planes(ranked.lifted, "<i2"),
            spread=ranked.spread[lifted].astype("<f4").tobytes(),
            score=planes.steps(_joined(parts, "score")[scored]),
            reasons=planes.planes(np.array(reasons), "<i2"),
            aged=aged,
            columns=planes.columns(features_kept),
            model=None if model is None else Model(*_model(model)),
            written=None if model is not None else _written(run, rows[scored], parts),
        )
    )


def _gone(one: Removed, limit: int) -> Gone:
    """Return a stage that removed posts; those beyond the end of a feed are only counted."""
    reasons, count = one.reasons, len(one.posts)
    ends = (_beyond(limit, limit + 1, limit + count), _beyond(limit, limit + count, limit + count))
    counted = one.stage == BEYOND and (reasons[0], reasons[-1]) == ends
    return Gone(one.stage, count, counted)


def _beyond(limit: int, place: int, count: int) -> str:
    return f"place {place} of {count}; a feed holds {limit}"


def _numbered(run: Run, gone: Sequence[Gone]) -> tuple[list[str], list[int]]:
    """Return every text once, and for each post that needs one the place of its own."""
    said = [one.reasons for one, how in zip(run.removed, gone, strict=True) if not how.counted]
    told = [*run.reasons, *chain.from_iterable(said)]
    texts = list(dict.fromkeys(told))
    places = dict(zip(texts, range(len(texts)), strict=True))
    return texts, list(map(places.__getitem__, told))


def _aged(
    run: Run, rows: NDArray[Any], ids: NDArray[np.int64], now: int, features: NDArray[np.float64]
) -> tuple[bytes, NDArray[np.float64]]:
    """Return ages beside ids, and the features that do not follow from them, by column."""
    if not len(run.ages) or not len(rows):
        return b"", np.ascontiguousarray(features.T)
    ages = run.ages[rows]
    if (features[:LOOKED_AT, AGED_COLUMNS] != _of_ages(ages[:LOOKED_AT])).any():
        return b"", np.ascontiguousarray(features.T)
    return planes.planes(now - ages - _born(ids), "<i8"), features.T[OTHER_COLUMNS]


def _born(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return IDS_SINCE + (ids >> ID_TAIL_BITS)


def _of_ages(ages: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return recency and age of posts that are so many milliseconds old. Shape: (n, 2)."""
    hours = np.clip(ages / HOUR, 0.0, HOURS_MAX)
    return np.column_stack([0.5 ** (hours / HOURS_HALF), np.log1p(hours) / np.log1p(HOURS_MAX)])


def _said(
    scores: NDArray[np.float32], ranks: NDArray[np.int32], scored: NDArray[Any],
    features: NDArray[np.float64],
) -> list[bytes]:  # fmt: skip
    """Return what each source scored: nothing where it follows from the rank, else the numbers.

    Those on the grid are written as what is between them and the similarity: nothing, mostly.
    """
    near = np.zeros(len(scores))
    near[scored] = features[:, FEATURES.index(SIMILARITY)]
    found: list[bytes] = []
    for rank, score in zip(ranks.T, scores.T, strict=True):
        told = np.flatnonzero(rank >= 0)
        scores = score[told]
        if (scores == _by_rank(rank[told])).all():
            found.append(b"")
            continue
        between = (scores - near[told]) * planes.GRID
        fits = (np.abs(between) < planes.GRID) & (between == np.rint(between))
        found.append(
            b"g" + planes.planes(between, "<i2")
            if fits.all()
            else b"f" + planes.planes(scores, "<f4")
        )
    return found


def _by_rank(rank: NDArray[np.int32]) -> NDArray[np.float32]:
    return (1 / (rank + 1)).astype(np.float32)


def _near(near: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return nearness in hundredths, which is what a reason tells of it."""
    hundredths = np.where(near < 0, near, np.rint(near * 100))
    return np.where(np.isnan(near), UNCHANGED, hundredths).astype(np.int16)


def _model(model: Linear) -> tuple[bytes, bytes]:
    return model.weights.astype("<f4").tobytes(), model.intercepts.astype("<f4").tobytes()


def _written(run: Run, rows: NDArray[Any], parts: Sequence[Candidates]) -> Written:
    values = _joined(parts, "value")[_joined(parts, "row") >= 0]
    chances = run.probabilities[rows] if len(rows) else np.zeros(0)
    return Written(chances.astype("<f4").tobytes(), values.astype("<f4").tobytes())


def _joined(parts: Sequence[Candidates], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(part, name) for part in parts])


def decode(plain: bytes) -> Record:
    """Read a record; what is none is a DecodeError."""
    found = _DECODER.decode(plain)
    rows = found.ranked + sum(one.count for one in found.gone)
    scored = np.unpackbits(np.frombuffer(found.scored, np.uint8), count=rows).astype(np.bool_)
    ids = planes.numbers(found.ids, "<i8", columns=2)
    features = _features(found, ids[scored, 0])
    probabilities = _probabilities(found, features)
    read = _Read(found, ids, scored, features, _values(found, probabilities))
    return Record(
        format=FORMAT,
        surface=found.surface,
        versions=found.versions,
        degraded=found.degraded,
        exhausted=found.exhausted,
        stages=found.stages,
        ranked=read.ranked(),
        removed=read.removed(),
        feature_names=found.feature_names,
        action_names=found.action_names,
        features=features.astype("<f4").tobytes(),
        probabilities=probabilities.astype("<f4").tobytes(),
        variants=found.variants,
        faults=found.faults,
        app=found.app,
        weights=found.weights,
    )


def _features(found: Stored, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(ids):
        return np.zeros((0, len(found.feature_names)))
    kept = planes.matrix(found.columns, len(ids))
    if not found.aged:
        return kept
    ages = found.now - _born(ids) - planes.numbers(found.aged, "<i8")
    columns = [found.feature_names.index(name) for name in AGED]
    others = np.delete(np.arange(len(found.feature_names)), columns)
    rows = np.empty((len(ids), len(found.feature_names)))
    rows[:, others], rows[:, columns] = kept, _of_ages(ages)
    return rows


def _probabilities(found: Stored, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each action: those that were written, or what the model says."""
    if found.model is None:
        written = np.frombuffer(found.written.probabilities if found.written else b"", "<f4")
        return written.reshape(len(features), len(found.action_names)).astype(np.float64)
    weights = np.frombuffer(found.model.weights, "<f4").reshape(len(found.action_names), -1)
    logits = features @ weights.T.astype(np.float64)
    logits += np.frombuffer(found.model.intercepts, "<f4").astype(np.float64)
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -LOGIT_MAX, LOGIT_MAX)))


def _values(found: Stored, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    if found.written is not None:
        return np.frombuffer(found.written.values, "<f4").astype(np.float64)
    return probabilities @ np.array(found.weights)


class Changed(NamedTuple):
    """What changed the score of one post, from its value to its score, in the order of the passes."""

    value: float
    behind: int
    decayed: float
    near: int
    spread: float
    lifted: int
    score: float


def adjustments(one: Changed) -> list[Change]:
    """Return what changed the score of one post, in words."""
    value, behind, decayed, near, spread, lifted, score = one
    found: list[Change] = []
    if behind:
        found.append(("author_decay", f"post {behind + 1} of one author", value, decayed))
    if near >= 0:
        found.append(("diversity", f"{near / 100:.2f} near to a post above", decayed, spread))
    elif near != UNCHANGED:
        found.append(("diversity", f"below the {-near} best", decayed, spread))
    if lifted >= 0:
        found.append(("exploration", f"a new author, lifted to place {lifted}", spread, score))
    elif lifted == BY_RECENCY:
        reason = "by recency, because there is no embedding"
        found.append(("select", reason, spread, score))
    return found


class _Read:
    """A record that is being read, row by row."""

    def __init__(
        self,
        found: Stored,
        ids: NDArray[np.int64],
        scored: NDArray[np.bool_],
        features: NDArray[np.float64],
        values: NDArray[np.float64],
    ) -> None:
        self._found = found
        self._ids: list[list[int]] = ids.tolist()
        self._scored = scored
        self._score = np.zeros(len(ids), dtype=np.float32)
        self._score[scored] = planes.walked(found.score)
        self._value = np.zeros(len(ids))
        self._value[scored] = values
        self._notes = _notes(found, scored, features)
        self._reasons: list[int] = planes.numbers(found.reasons, "<i2").tolist()

    def ranked(self) -> list[RankedPost]:
        """Return the ranked posts."""
        count = self._found.ranked
        tier: list[int] = np.frombuffer(self._found.tier, "<i1", count).tolist()
        score: list[float] = self._score[:count].tolist()
        value: list[float] = self._value[:count].astype(np.float32).tolist()
        changes = self._changes()
        return [
            RankedPost(
                community_id=community,
                post_id=post,
                tier=tier[place],
                value=value[place],
                score=score[place],
                reason=self._found.texts[self._reasons[place]],
                sources=self._notes[place],
                adjustments=changes[place],
            )
            for place, (post, community) in enumerate(self._ids[:count])
        ]

    def _changes(self) -> list[list[Change]]:
        """Return the adjustments of every ranked post, in words."""
        found, count = self._found, self._found.ranked
        value, score = self._value[:count], self._score[:count]
        behind = planes.numbers(found.behind, "<i2")
        lifted = planes.numbers(found.lifted, "<i2")
        kept = (1 - FLOOR) * np.power(DECAY, behind.astype(np.int64), dtype=np.float64) + FLOOR
        decayed = value - (1 - kept) * np.abs(value)
        spread = np.where(lifted == BY_RECENCY, decayed, score)
        spread[lifted >= 0] = np.frombuffer(found.spread, "<f4")
        columns = (
            value.astype(np.float32), behind, decayed.astype(np.float32),
            planes.numbers(found.near, "<i2"), spread.astype(np.float32), lifted, score,
        )  # fmt: skip
        lines = zip(*(column.tolist() for column in columns), strict=True)
        return [adjustments(Changed(*line)) for line in lines]

    def removed(self) -> list[RemovedPost]:
        """Return the removed posts."""
        limit = place = self._found.ranked
        told = iter(self._reasons[limit:])
        score: list[float] = self._score.tolist()
        rows = np.where(self._scored, np.cumsum(self._scored) - 1, -1).tolist()
        made: list[RemovedPost] = []
        for one in self._found.gone:
            for number in range(1, one.count + 1):
                post, community = self._ids[place]
                reason = (
                    _beyond(limit, limit + number, limit + one.count)
                    if one.counted
                    else self._found.texts[next(told)]
                )
                made.append(
                    RemovedPost(
                        community_id=community,
                        post_id=post,
                        stage=one.stage,
                        reason=reason,
                        sources=self._notes[place],
                        score=score[place],
                        row=rows[place],
                    )
                )
                place += 1
        return made


def _notes(
    found: Stored, scored: NDArray[np.bool_], features: NDArray[np.float64]
) -> list[list[Note]]:
    """Return what the sources said of every post."""
    ranks = planes.numbers(found.ranks, "<i2", columns=len(found.sources))
    near = np.zeros(len(scored))
    near[scored] = features[:, found.feature_names.index(SIMILARITY)]
    notes: list[list[Note]] = [[] for _ in range(len(scored))]
    for source, rank, said in zip(found.sources, ranks.T, found.said, strict=True):
        told = np.flatnonzero(rank >= 0)
        if not said:
            scores = _by_rank(rank[told].astype(np.int32))
        elif said[:1] == b"g":
            scores = near[told] + planes.numbers(said[1:], "<i2") / planes.GRID
        else:
            scores = planes.numbers(said[1:], "<f4")
        for row, place, score in zip(
            told.tolist(), rank[told].tolist(), scores.tolist(), strict=True
        ):
            notes[row].append((source, place, score))
    return notes
