"""Format 2 of a served feed, frozen: columns as bytes, as MessagePack, under zstd.

A feed has some hundred posts, and one number of all of them packs better and is written faster
than all numbers of one. Texts that repeat are stored once. Numbers are float32 and int32, little
endian; the rows are the ranked posts in their order, then the removed ones. Nothing writes it any
more.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.records.types import (
    Change,
    Note,
    RankedPost,
    Record,
    RemovedPost,
    StageLine,
)
from millrace.feed.run import BY_RECENCY

FORMAT = 2


class Stored(Struct, frozen=True, kw_only=True):
    """A record as it is stored.

    ranked: how many of the rows are ranked posts.
    ids: post id and community id. ranks, scores_there: per source; rank -1 where it is silent.
    behind, near, lifted: what each adjustment was about; see `_changes`.
    value, decayed, spread, score: the score before and after each adjustment.
    row: the row in the matrices. stages_of, reasons_of: places in `removed_by` and `texts`.
    features, probabilities: column by column.
    """

    surface: str
    versions: dict[str, str]
    degraded: list[str]
    exhausted: bool
    stages: list[StageLine]
    sources: list[str]
    feature_names: list[str]
    action_names: list[str]
    ranked: int
    removed_by: list[str]
    texts: list[str]
    ids: bytes
    ranks: bytes
    scores_there: bytes
    tier: bytes
    value: bytes
    behind: bytes
    decayed: bytes
    near: bytes
    spread: bytes
    lifted: bytes
    score: bytes
    row: bytes
    stages_of: bytes
    reasons_of: bytes
    features: bytes
    probabilities: bytes


_DECODER = msgspec.msgpack.Decoder(Stored)


def decode(plain: bytes) -> Record:
    """Read a record; what is none is a DecodeError."""
    found = _DECODER.decode(plain)
    return Record(
        format=FORMAT,
        surface=found.surface,
        versions=found.versions,
        degraded=found.degraded,
        exhausted=found.exhausted,
        stages=found.stages,
        ranked=_ranked(found),
        removed=_removed(found),
        feature_names=found.feature_names,
        action_names=found.action_names,
        features=_by_rows(found.features, len(found.feature_names)),
        probabilities=_by_rows(found.probabilities, len(found.action_names)),
    )


def _ranked(found: Stored) -> list[RankedPost]:
    count = found.ranked
    ids = _list(np.frombuffer(found.ids, "<i8").reshape(2, -1)[:, :count])
    tier = _list(np.frombuffer(found.tier, "<i1", count))
    reasons: list[int] = _list(np.frombuffer(found.reasons_of, "<i4", count))
    value = _list(np.frombuffer(found.value, "<f4", count))
    score = _list(np.frombuffer(found.score, "<f4", count))
    return [
        RankedPost(
            community_id=community,
            post_id=post,
            tier=tier[place],
            value=value[place],
            score=score[place],
            reason=found.texts[reasons[place]],
            sources=notes,
            adjustments=changes,
        )
        for place, (post, community, notes, changes) in enumerate(
            zip(*ids, _notes(found)[:count], _changes(found), strict=True)
        )
    ]


def _removed(found: Stored) -> list[RemovedPost]:
    start = found.ranked
    ids = _list(np.frombuffer(found.ids, "<i8").reshape(2, -1)[:, start:])
    score = _list(np.frombuffer(found.score, "<f4")[start:])
    row = _list(np.frombuffer(found.row, "<i4")[start:])
    stages: list[int] = _list(np.frombuffer(found.stages_of, "<i4"))
    reasons: list[int] = _list(np.frombuffer(found.reasons_of, "<i4")[start:])
    notes = _notes(found)[start:]
    return [
        RemovedPost(
            community_id=community,
            post_id=post,
            stage=found.removed_by[stages[place]],
            reason=found.texts[reasons[place]],
            sources=notes[place],
            score=score[place],
            row=row[place],
        )
        for place, (post, community) in enumerate(zip(*ids, strict=True))
    ]


def _notes(found: Stored) -> list[list[Note]]:
    """Return what the sources said of every post."""
    ranks = _list(np.frombuffer(found.ranks, "<i4").reshape(len(found.sources), -1).T)
    scores = _list(np.frombuffer(found.scores_there, "<f4").reshape(len(found.sources), -1).T)
    return [
        [
            (source, rank, score)
            for source, rank, score in zip(found.sources, ranks_of, scores_of, strict=True)
            if rank >= 0
        ]
        for ranks_of, scores_of in zip(ranks, scores, strict=True)
    ]


def _changes(found: Stored) -> list[list[Change]]:
    """Return the adjustments of every ranked post, in words."""
    columns = [
        _list(np.frombuffer(content, kind, found.ranked))
        for content, kind in (
            (found.value, "<f4"),
            (found.behind, "<i4"),
            (found.decayed, "<f4"),
            (found.near, "<f4"),
            (found.spread, "<f4"),
            (found.lifted, "<i4"),
            (found.score, "<f4"),
        )
    ]
    return [adjustments(Changed(*line)) for line in zip(*columns, strict=True)]


class Changed(NamedTuple):
    """What changed the score of one post, from its value to its score, in the order of the passes."""

    value: float
    behind: int
    decayed: float
    near: float
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
        found.append(("diversity", f"{near:.2f} near to a post above", decayed, spread))
    elif near < 0:
        found.append(("diversity", f"below the {-near:.0f} best", decayed, spread))
    if lifted >= 0:
        found.append(("exploration", f"a new author, lifted to place {lifted}", spread, score))
    elif lifted == BY_RECENCY:
        reason = "by recency, because there is no embedding"
        found.append(("select", reason, spread, score))
    return found


def _list(numbers: NDArray[Any]) -> list[Any]:
    """Return numbers as Python has them."""
    return numbers.tolist()


def _by_rows(content: bytes, columns: int) -> bytes:
    """Return a matrix that was stored column by column, row by row."""
    return np.frombuffer(content, "<f4").reshape(columns, -1).T.tobytes()
