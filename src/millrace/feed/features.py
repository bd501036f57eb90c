"""The numbers that the scorer sees: one function, for serving and for fitting alike.

Every feature lies between 0 and 1, or -1 and 1 for the similarity, so that weights compare.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import log1p

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.languages import primary
from millrace.community.types import Key, MemberCounts, PostCounts, PostKind, PostView

HOURS_HALF = 48.0  # after so many hours recency is half
HOURS_MAX = 24 * 365 * 10.0
AFFINITY_FULL = 20.0  # engagements with one author that count as much as can be
POSITION_FULL = 60.0
POSITION_SERVED = 5  # the fixed position of scoring (LinkedIn Feed SR, arXiv 2602.12354)
KINDS = tuple(kind for kind in PostKind if kind is not PostKind.NOTE)  # a note is the base
PERCENTILES = ("views", "likes", "comments", "shares", "engagement_rate")
FEATURES: tuple[str, ...] = (
    "similarity",
    "recency",
    "age",
    *(f"{name}_percentile" for name in PERCENTILES),
    "author_reach_percentile",
    "affinity",
    "follows_author",
    "same_community",
    "topic_match",
    "language_match",
    *(f"kind_{kind.value}" for kind in KINDS),
    "position",
)
COLUMN = {name: place for place, name in enumerate(FEATURES)}
WORD = re.compile(r"[^\W_]+")
Percentile = Callable[[str, float], int]
Matrix = NDArray[np.float64]


class Subject(Struct, frozen=True, kw_only=True):
    """What the features need to know of a member.

    topics: topic to its share among the posts with a positive engagement, the most frequent 1.0.
    words: words of headline and skills, for topics that a new member never met.
    affinity: author to the number of positive engagements.
    """

    community_id: int
    languages: frozenset[str]
    topics: Mapping[str, float]
    words: frozenset[str]
    follows: frozenset[Key]
    affinity: Mapping[Key, float]


class Example(Struct, frozen=True, kw_only=True):
    """A post as it stood at one moment, and where it was shown."""

    author: Key
    community_id: int
    kind: PostKind
    topics: Sequence[str]
    language: str
    created_at: datetime
    counts: PostCounts
    engagement_rate: float
    author_counts: MemberCounts
    similarity: float = 0.0
    position: int = POSITION_SERVED


def example(
    view: PostView, author_counts: MemberCounts, engagement_rate: float, similarity: float
) -> Example:
    """Return a post as a viewer has it now."""
    post = view.post
    return Example(
        author=post.author,
        community_id=post.community_id,
        kind=post.kind,
        topics=post.topics,
        language=primary(post.language),
        created_at=post.created_at,
        counts=view.counts,
        engagement_rate=engagement_rate,
        author_counts=author_counts,
        similarity=similarity,
    )


def matrix(
    subject: Subject,
    examples: Sequence[Example],
    percentiles: Mapping[int, Percentile],
    now: datetime,
) -> Matrix:
    """Return one row of features per post. Shape: (len(examples), len(FEATURES)).

    Args:
        subject: the member.
        examples: posts.
        percentiles: for each community of a post, its scales.
        now: the moment of serving.
    """
    rows = np.zeros((len(examples), len(FEATURES)))
    for row, one in zip(rows, examples, strict=True):
        row[:] = _row(subject, one, percentiles[one.community_id], now)
    return rows


def _row(subject: Subject, one: Example, of: Percentile, now: datetime) -> list[float]:
    """Return the features in the order of FEATURES."""
    hours = min(max((now - one.created_at).total_seconds() / 3600, 0.0), HOURS_MAX)
    counts = one.counts
    return [
        one.similarity,
        0.5 ** (hours / HOURS_HALF),
        log1p(hours) / log1p(HOURS_MAX),
        of("views", counts.views) / 100,
        of("likes", counts.likes) / 100,
        of("comments", counts.comments) / 100,
        of("shares", counts.shares) / 100,
        of("engagement_rate", one.engagement_rate) / 100,
        of("author_followers", one.author_counts.followers) / 100,
        min(log1p(subject.affinity.get(one.author, 0.0)) / log1p(AFFINITY_FULL), 1.0),
        float(one.author in subject.follows),
        float(one.community_id == subject.community_id),
        topic_match(subject, one.topics),
        float(not one.language or not subject.languages or one.language in subject.languages),
        *(float(one.kind is kind) for kind in KINDS),
        position_of(one.position),
    ]


def position_of(position: float) -> float:
    """Return the feature of a place in the feed."""
    return min(log1p(max(position, 0.0)) / log1p(POSITION_FULL), 1.0)


def topic_match(subject: Subject, topics: Sequence[str]) -> float:
    """Return how well the best topic of a post fits what the member liked or says of themself."""
    best = 0.0
    for topic in topics:
        best = max(best, subject.topics.get(topic, 0.0))
        if best < PROFILE_MATCH and _touches(subject.words, topic):
            best = PROFILE_MATCH
    return best


PROFILE_MATCH = 0.5  # a topic that the profile names counts half as much as the favourite


def mentions(profile: frozenset[str], topic: str) -> bool:
    """Return whether a profile names a topic, all of it, so that one may say so to a member.

    "Computer science" does not mention quantum-computer, and "Q&A" does not mention q#.
    """
    return words(topic) <= profile and _touches(profile, topic)


def _touches(profile: frozenset[str], topic: str) -> bool:
    """Return whether a profile has a word of a topic; a single letter says nothing."""
    return any(len(word) > 1 for word in profile & words(topic))


def words(*texts: str) -> frozenset[str]:
    """Return the words of texts, in lower case."""
    return frozenset(word for text in texts for word in WORD.findall(text.lower()))
