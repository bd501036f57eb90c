"""From candidates to features and sentences, all posts at a time. Reads columns, nothing else."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.community.percentiles import MIDDLE, RATE_PRIOR_VIEWS
from millrace.community.types import Key
from millrace.feed.catalogue import AUTHOR_COUNTS, KINDS, NO_TOPIC, POST_COUNTS, Catalogue
from millrace.feed.features import (
    COLUMN,
    POSITION_SERVED,
    SCALED,
    Batch,
    Matrix,
    Subject,
    assembled,
    topic_share,
)
from millrace.feed.index import Slots, microseconds
from millrace.feed.reasons import AFFINITY, NEAR, POPULAR, RECENT, Tastes, Told, sentence
from millrace.feed.run import EXPLORATION, SOURCES, Candidates, CutsOf

HOUR = 3_600_000_000  # microseconds
ENGAGED = [
    POST_COUNTS.index(name) for name in ("clicks", "long_dwells", "likes", "comments", "shares")
]
COUNTED = [POST_COUNTS.index(name) for name in ("views", "likes", "comments", "shares")]
VIEWS = POST_COUNTS.index("views")
FOLLOWERS = AUTHOR_COUNTS.index("followers")
NOBODY = -1  # in place of an author whom the sentence does not name
# From which value on a feature is worth a word, in the order of `sentences`.
LEAST = {
    "follows_author": 0.5,
    "affinity": AFFINITY,
    "similarity": NEAR,
    "engagement_rate_percentile": POPULAR,
    "recency": RECENT,
}


def features_of(
    catalogue: Catalogue,
    subject: Subject,
    posts: Candidates,
    near: NDArray[np.floating[Any]],
    scales: Mapping[int, CutsOf],
    now: datetime,
) -> Matrix:
    """Return one row of features per post, as they are now. Shape: (len(posts), features).

    Args:
        catalogue: the columns.
        subject: the member.
        posts: where they are.
        near: how near each post's vector is to the member's.
        scales: for each community of a post, its percentiles.
        now: the moment of serving.
    """
    index, slots = catalogue.index, posts.slots
    communities, _, _ = index.classes(slots)
    created = index.created(slots)
    return assembled(
        Batch(
            similarity=near,
            hours=(microseconds(now) - created) / HOUR,
            percentiles=_percentiles(catalogue, slots, communities, scales),
            affinity=_of_authors(catalogue, posts, subject.affinity),
            follows=np.isin(posts.authors, index.author_numbers(subject.follows)),
            same_community=communities == subject.community_id,
            topic_match=_topic_match(catalogue, subject, slots),
            language_match=_language_match(catalogue, subject, slots),
            kinds=catalogue.kinds(slots),
            positions=np.full(len(slots), float(POSITION_SERVED)),
        )
    )


def _percentiles(
    catalogue: Catalogue, slots: Slots, communities: Slots, scales: Mapping[int, CutsOf]
) -> NDArray[np.int64]:
    """Return how many cuts lie below each number, in the order of SCALED."""
    counts = catalogue.counts(slots)
    engaged = counts[:, ENGAGED].sum(axis=1) / (counts[:, VIEWS] + RATE_PRIOR_VIEWS)
    followers = catalogue.author_counts(slots)[:, FOLLOWERS]
    values = np.column_stack([counts[:, COUNTED], engaged, followers]).astype(np.float64)
    found = np.full(values.shape, MIDDLE, dtype=np.int64)
    for community, of in scales.items():
        rows = np.flatnonzero(communities == community)
        for column, metric in enumerate(SCALED):
            cuts = of(metric)
            if cuts is not None:
                found[rows, column] = np.searchsorted(cuts, values[rows, column], side="left")
    return found


def _of_authors(
    catalogue: Catalogue, posts: Candidates, affinity: Mapping[Key, float]
) -> NDArray[np.float64]:
    """Return how often the member engaged with the author of each post."""
    author = catalogue.index.author
    numbers: list[int] = posts.authors.tolist()
    return np.array([affinity.get(author(number), 0.0) for number in numbers])


def _topic_match(catalogue: Catalogue, subject: Subject, slots: Slots) -> NDArray[np.float64]:
    """Return how well the best topic of each post fits; each topic is judged once."""
    numbers = _told_topics(catalogue, slots)
    different, places = np.unique(numbers, return_inverse=True)
    topics = catalogue.topics
    asked: list[int] = different.tolist()
    shares = np.array([topic_share(subject, topics.names[n], topics.words[n]) for n in asked])
    return shares[places].reshape(numbers.shape).max(axis=1, initial=0.0)


def _told_topics(catalogue: Catalogue, slots: Slots) -> NDArray[np.int32]:
    """Return the topics of posts, as many columns as the post with the most topics needs."""
    numbers = catalogue.topic_numbers(slots)
    return numbers[:, : int((numbers != NO_TOPIC).sum(axis=1).max(initial=0))]


def _language_match(catalogue: Catalogue, subject: Subject, slots: Slots) -> NDArray[np.bool_]:
    """Return which posts the member reads; nothing said means yes."""
    if not subject.languages:
        return np.ones(len(slots), dtype=np.bool_)
    _, _, languages = catalogue.index.classes(slots)
    return np.isin(languages, catalogue.index.language_numbers(["", *subject.languages]))


def sentences(
    catalogue: Catalogue, subject: Subject, posts: Candidates, features: Matrix
) -> list[str]:
    """Return one sentence for each post, in their order.

    Args:
        catalogue: the columns.
        subject: the member.
        posts: each with its `row` in the features.
        features: as they were scored.
    """
    topics, tastes = catalogue.topics.names, Tastes(subject)
    strong = features[posts.row][:, [COLUMN[name] for name in LEAST]] >= list(LEAST.values())
    new = posts.ranks[:, SOURCES.index(EXPLORATION)] >= 0
    holds: list[list[bool]] = np.column_stack([strong, new]).tolist()
    kinds: list[int] = catalogue.kinds(posts.slots).tolist()
    numbers: list[list[int]] = _told_topics(catalogue, posts.slots).tolist()
    communities: list[int] = posts.ids[:, 1].tolist()
    authors: list[int] = posts.authors.tolist()
    tastes_of: dict[tuple[int, ...], tuple[str, str]] = {}
    said: dict[tuple[object, ...], str] = {}  # most posts share their reasons with others
    found: list[str] = []
    for place, flags in enumerate(holds):
        its = tuple(numbers[place])
        taste = tastes_of.get(its)
        if taste is None:
            names = [topics[number] for number in its if number != NO_TOPIC]
            liked = tastes.liked(names)
            taste = tastes_of[its] = (liked, "" if liked else tastes.named(names))
        author = authors[place] if flags[0] or flags[1] else NOBODY
        reasons = (*taste, author, communities[place], kinds[place], *flags)
        told = said.get(reasons)
        if told is None:
            told = said[reasons] = sentence(
                _told(catalogue, authors[place], communities[place], kinds[place], taste, flags)
            )
        found.append(told)
    return found


def _told(
    catalogue: Catalogue,
    author: int,
    community: int,
    kind: int,
    taste: tuple[str, str],
    flags: Sequence[bool],
) -> Told:
    """Return what holds of one post; the flags are in the order of LEAST, then the new voice."""
    follows, enjoys, near, popular, recent, is_new = flags
    return Told(
        author=catalogue.author_name(author),
        community=catalogue.communities.get(community, ""),
        kind=KINDS[kind],
        liked=taste[0],
        named=taste[1],
        follows=follows,
        enjoys=enjoys,
        new_voice=is_new,
        near=near,
        popular=popular,
        recent=recent,
    )
