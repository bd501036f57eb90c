"""The log of a served feed is read as it was written."""

import base64
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import zstandard
from msgspec.structs import replace

from millrace.community.types import Key, Relations
from millrace.feed import record, select
from millrace.feed.features import COLUMN, FEATURES, Subject
from millrace.feed.history import PostList
from millrace.feed.index import PostIndex
from millrace.feed.linear import LOGIT_MAX, Linear
from millrace.feed.pooled_history import NO_PLACE, Pool, parts
from millrace.feed.records import v2, v3
from millrace.feed.run import (
    BY_RECENCY,
    GRID,
    SEEN,
    SOURCES,
    MemberState,
    Removed,
    Request,
    Run,
    StageNote,
    candidates,
    on_grid,
)
from millrace.feed.types import Adjustment, App, FeedConfig, SourceNote
from millrace.feed.value import ACTIONS
from millrace.feed.variants import Plan
from millrace.kernel.errors import MillraceError
from millrace.kernel.ids import floor_at

NOON = datetime(2026, 3, 1, tzinfo=UTC)
OLD = Path(__file__).parent / "served_feed_v1.txt"
SECOND = Path(__file__).parent / "served_feed_v2.txt"


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
    run = Run(request=Request(member=Key(1, 1), surface="feed", token="", now=NOON,
                              app=App("1.4.0", "android", "DE")))  # fmt: skip
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
    run.plan = Plan(
        variants={"feed.diversity": "more"},
        faults={"feed.ranked_max": "'many' is not a whole number from 1 to 1000"},
    )
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
    assert found.weights == []
    rows = [2, 0, 1, 3]
    np.testing.assert_allclose(found.feature_matrix(), run.features[rows], rtol=1e-6)
    np.testing.assert_allclose(found.probability_matrix(), run.probabilities[rows], rtol=1e-6)
    assert_gone(found)
    assert found.stages[0].removed == {"muted": 1}
    assert found.versions == {"scorer": "prior-2"}
    assert found.variants == {"feed.diversity": "more"}
    assert found.faults == {"feed.ranked_max": "'many' is not a whole number from 1 to 1000"}
    assert found.app == ("1.4.0", "android", "DE")


def test_what_a_vector_was_pooled_from_comes_back():
    """Which posts were liked and when, and what each gives to the posts of the feed."""
    run = pooled_run(liked=5)

    found = record.decode(record.encode(run)).pooled

    pool, told = run.member.pool, run.parts
    assert [[key.id, key.community_id] for key in found.posts] == pool.ids.tolist()
    assert (found.at, found.averages_at) == (pool.at.tolist(), pool.averages_at)
    np.testing.assert_allclose(found.profile, told.profile, atol=0.0006)
    for row in range(len(run.candidates)):
        lines = found.nearest(row)
        assert [place for place, _ in lines] == [p for p in told.places[row] if p != NO_PLACE]
        np.testing.assert_allclose(
            [a for _, a in lines], told.amounts[row, : len(lines)], atol=0.0006
        )
    assert record.of(run).pooled.at == found.at


def test_the_feed_is_told_as_without_what_was_pooled():
    """Format 4 is format 3 with something behind it; who has nothing pooled is written in that."""
    run, without = pooled_run(liked=2), made_run()

    found, plain = record.decode(record.encode(run)), record.decode(record.encode(without))

    assert (found.format, plain.format, plain.pooled) == (4, 3, None)
    assert replace(found, format=3, pooled=None) == plain


def test_a_member_who_liked_nothing_has_their_profile_alone():
    found = record.decode(record.encode(pooled_run(liked=0))).pooled

    assert (found.posts, found.at) == ([], [])
    assert [found.nearest(row) for row in range(3)] == [[], [], []]
    assert np.abs(found.profile).max() > 0


def pooled_run(liked: int) -> Run:
    """The made run, of a member who liked some posts."""
    run, draw = made_run(), np.random.default_rng(liked)
    pool = Pool(
        ids=draw.integers(1, 1 << 50, (liked, 2)),
        at=draw.integers(1 << 50, 1 << 51, liked),
        terms=draw.standard_normal((liked + 1, 8)).astype(np.float32) / 9,
        averages_at=1_772_323_200_000_000,
    )
    run.state = member_state(vector=pool.vector, pool=pool)
    run.parts = parts(pool, draw.standard_normal((3, 8)).astype(np.float32) / 3)
    return run


def member_state(**known) -> MemberState:
    """A member of whom nothing else is known."""
    subject = Subject(
        community_id=1, languages=frozenset(), topics={}, words=frozenset(), follows=frozenset(),
        affinity={},
    )  # fmt: skip
    nothing = PostList()
    return MemberState(
        key=Key(1, 1), display_name="", community_name="", languages=frozenset(),
        embedding_position="", relations=Relations(frozenset(), frozenset(), frozenset(), frozenset()),
        seen=nothing, served=[], hidden=frozenset(),
        liked=nothing, subject=subject, **known,
    )  # fmt: skip


def assert_gone(found: record.Record):
    """The removed posts of the made run are told, in every format."""
    assert [(one.key, one.stage, one.row) for one in found.removed] == [
        (Key(2, 99), "muted", -1), (Key(2, 98), "select", 3),
    ]  # fmt: skip
    assert found.removed[0].reason == "the member muted its author"
    assert found.removed[1].reason == "place 4 of 4; a feed holds 3"
    assert found.removed[1].score == 0.125


def test_what_was_scored_comes_back_to_the_last_bit_and_what_follows_from_it_too():
    """A feed as the pipeline makes it: probabilities, values and decay are not even stored."""
    run = scored_run(60)

    found = record.decode(record.encode(run))

    rows = run.candidates.row
    np.testing.assert_array_equal(
        found.feature_matrix(), run.features.astype(np.float32).astype(np.float64)[rows]
    )
    np.testing.assert_allclose(found.probability_matrix(), run.probabilities[rows], rtol=1e-6)
    assert [one.value for one in found.ranked] == run.candidates.value.astype(np.float32).tolist()
    assert [one.score for one in found.ranked] == run.candidates.score.astype(np.float32).tolist()
    said = run.candidates.scores_there.astype(np.float64)
    for place, one in enumerate(found.ranked):
        assert record.notes(one.sources) == [
            SourceNote(source, int(rank), float(score))
            for source, rank, score in zip(
                SOURCES, run.candidates.ranks[place], said[place], strict=True
            )
            if rank >= 0
        ]
        told = v2.Changed(
            *(getattr(run.candidates, name)[place].item() for name in v2.Changed._fields)
        )
        assert record.changes(one.adjustments) == [
            Adjustment(
                stage, reason, pytest.approx(before, rel=1e-6), pytest.approx(after, rel=1e-6)
            )
            for stage, reason, before, after in v2.adjustments(told)
        ]
    assert len(record.encode(run)) < 5_000  # of 12,000 as numbers


def scored_run(count: int) -> Run:
    """A run whose numbers belong together: features, model, weights, ages, and every adjustment."""
    rng = np.random.default_rng(7)
    run = Run(request=Request(member=Key(1, 1), surface="feed", token="", now=NOON))
    ages = rng.integers(0, 400 * 86_400_000, count)
    columns = rng.integers(0, 100, (count, len(FEATURES))) / 100
    for name in ("similarity", "learned_similarity", "learned_similarity_around"):
        columns[:, COLUMN[name]] = on_grid(rng.uniform(-0.4, 0.8, count))
    columns[:, COLUMN["affinity"]] = np.log1p(rng.integers(0, 9, count))
    hours = ages / 3_600_000
    columns[:, COLUMN["recency"]] = 0.5 ** (hours / 48)
    columns[:, COLUMN["age"]] = np.log1p(hours) / np.log1p(87_600)
    run.ages, run.features = ages, columns
    run.model = Linear(
        rng.normal(size=(len(ACTIONS), len(FEATURES))).astype(np.float32).astype(np.float64),
        rng.normal(size=len(ACTIONS)).astype(np.float32).astype(np.float64),
    )
    run.probabilities = run.model.of(columns)
    run.weights = (0.5, 0.5, 1.0, 2.0, 2.0, -1.0, -2.0, -4.0, -8.0)
    value = run.probabilities @ np.array(run.weights)
    now = int(NOON.timestamp() * 1000)
    ids = [(floor_at(datetime.fromtimestamp((now - age) / 1000, UTC)) + n, 1) for n, age in
           enumerate(ages.tolist())]  # fmt: skip
    ranks = np.full((count, len(SOURCES)), -1, dtype=np.int32)
    ranks[:, 0], ranks[: count // 2, 2] = np.arange(count), np.arange(count // 2)
    scores = np.zeros((count, len(SOURCES)), dtype=np.float32)
    scores[:, 0] = 1 / np.arange(1, count + 1)
    scores[: count // 2, 2] = columns[: count // 2, COLUMN["similarity"]]
    posts = replace(
        candidates(np.zeros(count, dtype=np.int64), PostIndex(1), ranks, scores),
        ids=np.array(ids), authors=rng.integers(0, count // 2, count), value=value, score=value,
        row=np.arange(count, dtype=np.int32),
    )  # fmt: skip
    posts.ranks[::7, 1], posts.scores_there[::7, 1] = 3, 0.25
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    config = FeedConfig(diverse_max=40, diversity=0.3)
    run.candidates = select.ordered(posts, vectors, Plan(config=config))
    run.reasons = ["Because."] * count
    return run


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


def test_a_feed_of_the_second_format_is_still_read():
    """Format 2, as it was written by the release that had it."""
    found = record.decode(base64.b64decode(SECOND.read_text()))

    assert found.format == 2
    assert [one.key for one in found.ranked] == [Key(1, 12), Key(1, 10), Key(1, 11)]
    assert [one.reason for one in found.ranked] == ["Because.", "Because.", "New."]
    assert found.fresh == 2
    assert record.notes(found.ranked[1].sources)[0] == SourceNote("network", 1, 0.5)
    assert record.changes(found.ranked[0].adjustments) == [
        Adjustment("diversity", "0.75 near to a post above", 0.5, 0.25)
    ]
    assert_gone(found)
    assert found.feature_matrix().shape == (4, len(found.feature_names))
    assert (found.variants, found.faults, found.app, found.weights) == ({}, {}, ("", "", ""), [])


def test_another_format_says_so():
    newer = b"\x04" + record.encode(made_run())[1:]
    no_record = zstandard.ZstdCompressor().compress(b"\x81\xa1a\x01")

    for content in (newer, no_record, b"\x02" + no_record, b""):
        with pytest.raises(MillraceError, match="a format that this release cannot read"):
            record.decode(content)


def test_the_frozen_format_still_computes_what_the_passes_do():
    """Where one of these moves, old records stay right, and new ones want a new format."""
    behind = np.arange(9)

    np.testing.assert_array_equal(
        (1 - v3.FLOOR) * v3.DECAY**behind + v3.FLOOR, select.decay(behind)
    )
    assert (v3.BY_RECENCY, v3.planes.GRID) == (BY_RECENCY, GRID)
    assert v3.LOGIT_MAX == LOGIT_MAX
    run = scored_run(9)
    aged, columns = v3._aged(run, np.arange(9), run.candidates.ids[:, 0], 0, run.features)
    assert aged, "recency and age are not what they were: they would be stored as columns"
    assert len(columns) == len(FEATURES) - 2
