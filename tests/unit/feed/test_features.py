"""Features: one function for serving and fitting."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from millrace.community.types import Key, MemberCounts, PostCounts, PostKind
from millrace.feed.features import (
    COLUMN,
    FEATURES,
    PROFILE_MATCH,
    Example,
    Subject,
    matrix,
    position_of,
    topic_match,
    words,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AUTHOR = Key(1, 7)


def subject(**changes):
    fields = {
        "community_id": 1,
        "languages": frozenset(),
        "topics": {"boats": 1.0, "soup": 0.4},
        "words": words("Head gardener, likes Quantum-Computing, Q&A"),
        "follows": frozenset(),
        "affinity": {},
    }
    return Subject(**(fields | changes))


def one(**changes):
    fields = {
        "author": AUTHOR,
        "community_id": 1,
        "kind": PostKind.NOTE,
        "topics": [],
        "language": "en",
        "created_at": NOW,
        "counts": PostCounts(),
        "engagement_rate": 0.0,
        "author_counts": MemberCounts(),
    }
    return Example(**(fields | changes))


def row(member, post, percentile=lambda _name, value: min(int(value), 99), now=NOW):
    found = matrix(member, [post], {post.community_id: percentile}, now)[0]
    return {name: found[place] for name, place in COLUMN.items()}


def test_every_feature_has_a_column_and_a_bounded_value():
    wild = one(
        created_at=NOW - timedelta(days=9_999),
        counts=PostCounts(views=10**9, likes=10**9, comments=10**9, shares=10**9),
        author_counts=MemberCounts(followers=10**9),
        engagement_rate=5.0,
        similarity=-1.0,
        position=10**6,
        topics=["boats"],
    )
    found = row(subject(affinity={AUTHOR: 10**6}, follows=frozenset({AUTHOR})), wild)

    assert list(found) == list(FEATURES)
    assert all(-1 <= value <= 1 for value in found.values())
    assert np.isfinite(list(found.values())).all()


def test_recency_halves_and_age_rises():
    young, old = row(subject(), one()), row(subject(), one(created_at=NOW - timedelta(hours=48)))

    assert young["recency"] == 1.0
    assert old["recency"] == pytest.approx(0.5)
    assert old["age"] > young["age"] == 0.0


def test_a_post_from_the_future_is_as_new_as_now():
    assert row(subject(), one(created_at=NOW + timedelta(seconds=50)))["recency"] == 1.0


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ([], 0.0),
        (["soup"], 0.4),
        (["soup", "boats"], 1.0),
        (["unknown"], 0.0),
        (["quantum-gates"], PROFILE_MATCH),
        (["soup", "gardener"], PROFILE_MATCH),
        (["q#"], 0.0),
    ],
)
def test_topic_match(topics, expected):
    assert topic_match(subject(), topics) == expected


def test_relations_and_kind():
    member = subject(follows=frozenset({AUTHOR}), affinity={AUTHOR: 20.0})
    found = row(member, one(kind=PostKind.EVENT))

    assert found["follows_author"] == 1.0
    assert found["affinity"] == pytest.approx(1.0)
    assert found["kind_event"] == 1.0
    assert found["kind_question"] == 0.0
    assert found["same_community"] == 1.0
    assert row(member, one(community_id=2))["same_community"] == 0.0


def test_language_matches_where_nothing_is_said():
    assert row(subject(), one())["language_match"] == 1.0
    assert row(subject(languages=frozenset({"de"})), one())["language_match"] == 0.0
    assert row(subject(languages=frozenset({"de"})), one(language=""))["language_match"] == 1.0


def test_position_rises_and_ends():
    values = [position_of(place) for place in (0, 1, 5, 60, 10**6)]

    assert values == sorted(values)
    assert values[0] == 0.0
    assert values[-1] == 1.0
