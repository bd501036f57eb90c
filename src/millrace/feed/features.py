"""The numbers that the scorer sees: one function, for serving and for fitting alike.

Every feature lies between 0 and 1, or -1 and 1 for similarities, so that weights compare.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from math import log1p
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Key, MemberCounts, PostCounts, PostKind

HOURS_HALF = 48.0  # after so many hours recency is half
HOURS_MAX = 24 * 365 * 10.0
AFFINITY_FULL = 20.0  # engagements with one author that count as much as can be
POSITION_FULL = 60.0
POSITION_SERVED = 5  # the fixed position of scoring (LinkedIn Feed SR, arXiv 2602.12354)
KINDS = tuple(kind for kind in PostKind if kind is not PostKind.NOTE)  # a note is the base
KIND_NUMBER = {kind: number for number, kind in enumerate(PostKind)}
PERCENTILES = ("views", "likes", "comments", "shares", "engagement_rate")
SCALED = (*PERCENTILES, "author_followers")  # metrics of the percentiles, in the order of features
FEATURES: tuple[str, ...] = (
    "similarity",
    "learned_similarity",
    "learned_similarity_around",
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


class Batch(Struct, frozen=True, kw_only=True):
    """What is known of some posts, one array per quantity, before it becomes features.

    learned, around: similarity through the lens, of a post and of what is around it (lens.py);
        zeros where there is none.
    percentiles: in the order of SCALED, 0 to 99. Shape: (n, len(SCALED)).
    kinds: numbers of the kinds, as in PostKind. positions: places in the feed.
    """

    similarity: NDArray[np.floating[Any]]
    learned: NDArray[np.floating[Any]]
    around: NDArray[np.floating[Any]]
    hours: NDArray[np.floating[Any]]
    percentiles: NDArray[np.integer[Any]]
    affinity: NDArray[np.floating[Any]]
    follows: NDArray[np.bool_]
    same_community: NDArray[np.bool_]
    topic_match: NDArray[np.floating[Any]]
    language_match: NDArray[np.bool_]
    kinds: NDArray[np.integer[Any]]
    positions: NDArray[np.floating[Any]]


def assembled(batch: Batch) -> Matrix:
    """Return one row of features per post. Shape: (n, len(FEATURES)).

    The one definition of what a feature is, for serving and for fitting.
    """
    hours = np.clip(batch.hours, 0.0, HOURS_MAX)
    rows = np.empty((len(hours), len(FEATURES)))
    rows[:, COLUMN["similarity"]] = batch.similarity
    rows[:, COLUMN["learned_similarity"]] = batch.learned
    rows[:, COLUMN["learned_similarity_around"]] = batch.around
    rows[:, COLUMN["recency"]] = 0.5 ** (hours / HOURS_HALF)
    rows[:, COLUMN["age"]] = np.log1p(hours) / log1p(HOURS_MAX)
    first = COLUMN[f"{PERCENTILES[0]}_percentile"]
    rows[:, first : first + len(SCALED)] = batch.percentiles / 100
    rows[:, COLUMN["affinity"]] = np.minimum(np.log1p(batch.affinity) / log1p(AFFINITY_FULL), 1.0)
    rows[:, COLUMN["follows_author"]] = batch.follows
    rows[:, COLUMN["same_community"]] = batch.same_community
    rows[:, COLUMN["topic_match"]] = batch.topic_match
    rows[:, COLUMN["language_match"]] = batch.language_match
    for kind in KINDS:
        rows[:, COLUMN[f"kind_{kind.value}"]] = batch.kinds == KIND_NUMBER[kind]
    rows[:, COLUMN["position"]] = _positions(batch.positions)
    return rows


def matrix(
    subject: Subject,
    examples: Sequence[Example],
    percentiles: Mapping[int, Percentile],
    now: datetime,
) -> Matrix:
    """Return one row of features per example. Shape: (len(examples), len(FEATURES)).

    Without a lens: whoever learns one fills in what it says (training.py).

    Args:
        subject: the member.
        examples: posts.
        percentiles: for each community of a post, its scales.
        now: the moment of serving.
    """
    batch = Batch(
        similarity=np.array([one.similarity for one in examples]),
        learned=np.zeros(len(examples)),
        around=np.zeros(len(examples)),
        hours=np.array([(now - one.created_at).total_seconds() / 3600 for one in examples]),
        percentiles=np.array(
            [_percentiles(one, percentiles[one.community_id]) for one in examples], dtype=np.int64
        ).reshape(-1, len(SCALED)),
        affinity=np.array([subject.affinity.get(one.author, 0.0) for one in examples]),
        follows=np.array([one.author in subject.follows for one in examples], dtype=np.bool_),
        same_community=np.array(
            [one.community_id == subject.community_id for one in examples], dtype=np.bool_
        ),
        topic_match=np.array([topic_match(subject, one.topics) for one in examples]),
        language_match=np.array(
            [reads(subject.languages, one.language) for one in examples], dtype=np.bool_
        ),
        kinds=np.array([KIND_NUMBER[one.kind] for one in examples], dtype=np.int64),
        positions=np.array([one.position for one in examples], dtype=np.float64),
    )
    return assembled(batch)


def _percentiles(one: Example, of: Percentile) -> list[int]:
    """Return where the numbers of a post stand, in the order of SCALED."""
    counts = one.counts
    return [
        of("views", counts.views),
        of("likes", counts.likes),
        of("comments", counts.comments),
        of("shares", counts.shares),
        of("engagement_rate", one.engagement_rate),
        of("author_followers", one.author_counts.followers),
    ]


def reads(languages: Collection[str], language: str) -> bool:
    """Return whether somebody with these languages reads a post; nothing said means yes."""
    return not language or not languages or language in languages


def position_of(position: float) -> float:
    """Return the feature of a place in the feed."""
    return float(_positions(np.array([position]))[0])


def _positions(places: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return np.minimum(np.log1p(np.maximum(places, 0.0)) / log1p(POSITION_FULL), 1.0)


def topic_match(subject: Subject, topics: Sequence[str]) -> float:
    """Return how well the best topic of a post fits what the member liked or says of themself."""
    return max((topic_share(subject, topic, long_words(topic)) for topic in topics), default=0.0)


def topic_share(subject: Subject, topic: str, its_words: frozenset[str]) -> float:
    """Return how well one topic fits; `its_words` are what `long_words` says of it."""
    share = subject.topics.get(topic, 0.0)
    return PROFILE_MATCH if share < PROFILE_MATCH and its_words & subject.words else share


PROFILE_MATCH = 0.5  # a topic that the profile names counts half as much as the favourite


def mentions(profile: frozenset[str], topic: str) -> bool:
    """Return whether a profile names a topic, all of it, so that one may say so to a member.

    "Computer science" does not mention quantum-computer, and "Q&A" does not mention q#.
    """
    return words(topic) <= profile and bool(long_words(topic) & profile)


def long_words(topic: str) -> frozenset[str]:
    """Return the words of a topic that say something; a single letter does not."""
    return frozenset(word for word in words(topic) if len(word) > 1)


def words(*texts: str) -> frozenset[str]:
    """Return the words of texts, in lower case."""
    return frozenset(word for text in texts for word in WORD.findall(text.lower()))
