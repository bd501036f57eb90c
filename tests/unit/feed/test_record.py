"""The log of a served feed is read as it was written."""

import base64
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import zstandard
from msgspec.structs import replace

from millrace.community.types import Key
from millrace.feed import record
from millrace.feed.features import FEATURES
from millrace.feed.index import PostIndex
from millrace.feed.run import SEEN, SOURCES, Removed, Request, Run, StageNote, candidates
from millrace.feed.types import Adjustment, SourceNote
from millrace.feed.value import ACTIONS
from millrace.kernel.errors import MillraceError

NOON = datetime(2026, 3, 1, tzinfo=UTC)
OLD = Path(__file__).parent / "served_feed_v1.txt"


def posts(*ids: tuple[int, int], **columns):
    """Candidates with these ids (post, community); network proposed each, at its place."""
    count = len(ids)
    ranks = np.full((count, len(SOURCES)), -1, dtype=np.int32)
    ranks[:, 0] = np.arange(count)
    scores = np.full((count, len(SOURCES)), 0.5, dtype=np.float32)
    made = candidates(np.zeros(count, dtype=np.int64), PostIndex(1), ranks, scores)
    return replace(made, ids=np.array(ids), **{n: np.array(c) for n, c in columns.items()})


def made_run() -> Run:
    """Three ranked posts, one removed by a filter, and one that was scored and did not fit."""
    run = Run(request=Request(member=Key(1, 1), surface="feed", token="", now=NOON))
    run.features = np.random.default_rng(1).random((4, len(FEATURES)))
    run.probabilities = np.random.default_rng(2).random((4, len(ACTIONS)))
    run.candidates = posts(
        (12, 1), (10, 1), (11, 1), row=[2, 0, 1], tier=[0, 0, SEEN], value=[0.5] * 3,
        decayed=[0.5] * 3, near=[0.75, np.nan, np.nan], spread=[0.25, 0.5, 0.5],
        score=[0.25, 0.5, 0.5],
    )  # fmt: skip
    run.reasons = ["Because.", "Because.", "New."]
    run.removed = [
        Removed("muted", posts((99, 2)), ["the member muted its author"]),
        Removed("select", posts((98, 2), row=[3], score=[0.125]), ["place 4 of 4; a feed holds 3"]),
    ]
    run.stages.append(StageNote("filters", 5, 4, {"muted": 1}, 0.5))
    run.versions["scorer"] = "prior-2"
    return run


def test_everything_comes_back():
    run = made_run()

    found = record.decode(record.encode(run))

    assert [one.key for one in found.ranked] == [Key(1, 12), Key(1, 10), Key(1, 11)]
    assert [one.reason for one in found.ranked] == ["Because.", "Because.", "New."]
    assert found.fresh == 2
    assert found.ranked[2].seen
    assert record.notes(found.ranked[1].sources) == [SourceNote("network", 1, 0.5)]
    assert record.changes(found.ranked[0].adjustments) == [
        Adjustment("diversity", "0.75 near to a post above", 0.5, 0.25)
    ]
    assert found.ranked[1].adjustments == []
    rows = [2, 0, 1, 3]
    np.testing.assert_allclose(found.feature_matrix(), run.features[rows], rtol=1e-6)
    np.testing.assert_allclose(found.probability_matrix(), run.probabilities[rows], rtol=1e-6)
    assert [(one.key, one.stage, one.row) for one in found.removed] == [
        (Key(2, 99), "muted", -1), (Key(2, 98), "select", 3),
    ]  # fmt: skip
    assert found.removed[1].reason == "place 4 of 4; a feed holds 3"
    assert found.removed[1].score == 0.125
    assert found.stages[0].removed == {"muted": 1}
    assert found.versions == {"scorer": "prior-2"}


def test_an_empty_feed_is_a_record_too():
    run = Run(request=Request(member=Key(1, 1), surface="feed", token="", now=NOON))

    found = record.decode(record.encode(run))

    assert found.ranked == []
    assert found.removed == []
    assert found.fresh == 0
    assert len(found.feature_matrix()) == 0


def test_a_feed_that_an_older_release_served_is_still_read():
    """Format 1, as it was written by the release that had it."""
    found = record.decode(base64.b64decode(OLD.read_text()))

    assert found.format == 1
    (one,) = found.ranked
    assert (one.key, one.tier, one.value, one.score) == (Key(1, 10), SEEN, 0.5, 0.25)
    assert record.notes(one.sources) == [SourceNote("network", 3, 0.5)]
    assert record.changes(one.adjustments) == [
        Adjustment("diversity", "0.50 near to a post above", 0.5, 0.25)
    ]
    assert [(gone.key, gone.stage, gone.row) for gone in found.removed] == [
        (Key(2, 99), "muted", -1), (Key(2, 98), "select", 1),
    ]  # fmt: skip
    assert found.feature_matrix().shape == (2, len(found.feature_names))
    assert found.probability_matrix()[1, 0] == len(ACTIONS) / 64


def test_another_format_says_so():
    newer = b"\x03" + record.encode(made_run())[1:]
    no_record = zstandard.ZstdCompressor().compress(b"\x81\xa1a\x01")

    for content in (newer, no_record, b"\x02" + no_record, b""):
        with pytest.raises(MillraceError, match="a format that this release cannot read"):
            record.decode(content)
