"""From candidates to features and sentences, all posts at a time. Reads columns, nothing else."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.community.percentiles import RATE_PRIOR_VIEWS
from millrace.community.types import Key
from millrace.feed.catalogue import (
    AUTHOR_COUNTS,
    KINDS,
    NO_TOPIC,
    POST_COUNTS,
    Catalogue,
    Topics,
)
from millrace.feed.features import (
    COLUMN,
    POSITION_SERVED,
    PROFILE_MATCH,
    Batch,
    Matrix,
    Subject,
    assembled,
)
from millrace.feed.index import Mask, Slots, microseconds
from millrace.feed.reasons import (
    AFFINITY,
    LIKED_SHARE,
    NEAR,
    NEAR_POOLED,
    POPULAR,
    RECENT,
    Tastes,
    Told,
    sentence,
)
from millrace.feed.run import EXPLORATION, SOURCES, Candidates
from millrace.feed.standing import Standings

HOUR = 3_600_000  # milliseconds
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
FLAG_BITS = 1 << np.arange(4)  # of what a sentence may say where nothing begins with "because"


def features_of(
    catalogue: Catalogue,
    subject: Subject,
    posts: Candidates,
    near: NDArray[np.floating[Any]],
    standings: Standings,
    ages: NDArray[np.int64],
) -> Matrix:
    """Return one row of features per post, as they are now. Shape: (len(posts), features).

    Args:
        catalogue: the columns.
        subject: the member.
        posts: where they are.
        near: how near each post's vector is to the member's, as it is and through the lens, and
            how near what is around it is. Shape: (n, 3).
        standings: the percentiles of every community that a post is from.
        ages: milliseconds since each was written.
    """
    index, slots = catalogue.index, posts.slots
    communities, _, _ = index.classes(slots)
    return assembled(
        Batch(
            similarity=near[:, 0],
            learned=near[:, 1],
            around=near[:, 2],
            hours=ages / HOUR,
            percentiles=standings.percentiles(communities, _scaled(catalogue, slots)),
            affinity=_of_authors(catalogue, posts, subject.affinity),
            follows=np.isin(posts.authors, index.author_numbers(subject.follows)),
            same_community=communities == subject.community_id,
            topic_match=_topic_match(catalogue, subject, slots),
            language_match=_language_match(catalogue, subject, slots),
            kinds=catalogue.kinds(slots),
            positions=np.full(len(slots), float(POSITION_SERVED)),
        )
    )


def ages_of(catalogue: Catalogue, posts: Candidates, now: datetime) -> NDArray[np.int64]:
    """Return how many milliseconds ago posts were written."""
    return microseconds(now) // 1000 - catalogue.index.created(posts.slots) // 1000


def _scaled(catalogue: Catalogue, slots: Slots) -> Matrix:
    """Return the numbers of posts that percentiles are of, in the order of SCALED."""
    counts = catalogue.counts(slots)
    engaged = counts[:, ENGAGED].sum(axis=1) / (counts[:, VIEWS] + RATE_PRIOR_VIEWS)
    followers = catalogue.author_counts(slots)[:, FOLLOWERS]
    return np.column_stack([counts[:, COUNTED], engaged, followers]).astype(np.float64)


def _of_authors(
    catalogue: Catalogue, posts: Candidates, affinity: Mapping[Key, float]
) -> NDArray[np.float64]:
    """Return how often the member engaged with the author of each post."""
    index, of = catalogue.index, np.zeros(catalogue.index.authors)
    numbers = index.author_numbers(affinity)
    if len(numbers) < len(affinity):
        affinity = {a: c for a, c in affinity.items() if index.number_of(a) is not None}
    of[numbers] = list(affinity.values())
    return of[posts.authors]


class Fits:
    """How the topics of the catalogue fit one member, by their numbers.

    shares: how well each fits, as `topic_share` has it. telling: which are worth naming.
    """

    def __init__(self, topics: Topics, subject: Subject) -> None:
        count = len(topics.names)
        self.shares = np.zeros(count)
        self.telling = np.zeros(count, dtype=np.bool_)
        touched = topics.touched(subject.words)
        self.shares[touched] = PROFILE_MATCH
        self.telling[[one for one in touched if topics.words[one] <= subject.words]] = True
        met = {topics.known(name): share for name, share in subject.topics.items()}
        met.pop(NO_TOPIC, None)
        numbers, shares = np.array([*met], dtype=np.int64), np.array([*met.values()])
        self.shares[numbers] = np.maximum(self.shares[numbers], shares)
        self.telling[numbers[shares >= LIKED_SHARE]] = True


def _topic_match(catalogue: Catalogue, subject: Subject, slots: Slots) -> NDArray[np.float64]:
    """Return how well the best topic of each post fits."""
    fits = Fits(catalogue.topics, subject)
    return fits.shares[_told_topics(catalogue, slots)].max(axis=1, initial=0.0)


def _told_topics(catalogue: Catalogue, slots: Slots) -> NDArray[np.int32]:
    """Return the topics of posts, as many columns as the post with the most topics needs."""
    numbers = catalogue.topic_numbers(slots)
    return numbers[:, : int(np.count_nonzero(numbers.any(axis=0)))]


def _language_match(catalogue: Catalogue, subject: Subject, slots: Slots) -> NDArray[np.bool_]:
    """Return which posts the member reads; nothing said means yes."""
    if not subject.languages:
        return np.ones(len(slots), dtype=np.bool_)
    _, _, languages = catalogue.index.classes(slots)
    return np.isin(languages, catalogue.index.language_numbers(["", *subject.languages]))


def sentences(
    catalogue: Catalogue,
    subject: Subject,
    posts: Candidates,
    features: Matrix,
    *,
    pooled: bool = False,
) -> list[str]:
    """Return one sentence for each post, in their order.

    Args:
        catalogue: the columns.
        subject: the member.
        posts: each with its `row` in the features.
        features: as they were scored.
        pooled: whether nearness is to a vector that the history was pooled into.
    """
    least = LEAST | {"similarity": NEAR_POOLED} if pooled else LEAST
    strong = features[posts.row][:, [COLUMN[name] for name in least]] >= list(least.values())
    new = posts.ranks[:, SOURCES.index(EXPLORATION)] >= 0
    flags = np.column_stack([strong, new])
    numbers = _told_topics(catalogue, posts.slots)
    telling = numbers * Fits(catalogue.topics, subject).telling[numbers]
    first, like = _different(_reasons(catalogue, posts, flags, telling))
    told = _Teller(catalogue, subject, posts.take(first), telling[first], flags[first])
    texts = [sentence(told.of(place)) for place in range(len(first))]
    return [texts[one] for one in like]


def _different(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
    """Return the places of rows that are different, and for each row the one that it is like.

    Most posts share their reasons with others. Rows are compared as bytes: to make tuples of their
    numbers would take longer than all sentences.
    """
    content, width = rows.tobytes(), rows.shape[1] * rows.itemsize
    known: dict[bytes, int] = {}
    first: list[int] = []
    like: list[int] = []
    for place, start in enumerate(range(0, len(content), width)):
        number = known.setdefault(content[start : start + width], len(first))
        if number == len(first):
            first.append(place)
        like.append(number)
    return np.array(first, dtype=np.int64), like


class _Teller:
    """Says what holds of single posts, from columns as lists: numbers alone are slow there."""

    def __init__(
        self,
        catalogue: Catalogue,
        subject: Subject,
        posts: Candidates,
        telling: NDArray[np.int32],
        flags: Mask,
    ) -> None:
        """Take the posts, the topics of each that are worth naming, and flags as in LEAST."""
        self._catalogue = catalogue
        self._tastes = Tastes(subject)
        self._topics: list[list[int]] = telling.tolist()
        self._flags: list[list[bool]] = flags.tolist()
        self._authors: list[int] = posts.authors.tolist()
        self._communities: list[int] = posts.ids[:, 1].tolist()
        self._kinds: list[int] = catalogue.kinds(posts.slots).tolist()

    def of(self, place: int) -> Told:
        """Return what holds of the post in a place."""
        catalogue = self._catalogue
        follows, enjoys, near, popular, recent, is_new = self._flags[place]
        topics = catalogue.topics.names
        names = [topics[number] for number in self._topics[place] if number != NO_TOPIC]
        return Told(
            author=catalogue.author_name(self._authors[place]),
            community=catalogue.communities.get(self._communities[place], ""),
            kind=KINDS[self._kinds[place]],
            liked=self._tastes.liked(names),
            named=self._tastes.named(names),
            follows=follows,
            enjoys=enjoys,
            new_voice=is_new,
            near=near,
            popular=popular,
            recent=recent,
        )


def _reasons(
    catalogue: Catalogue, posts: Candidates, flags: Mask, telling: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return all that the sentence of each post is made of; equal rows have equal sentences.

    What a stronger reason leaves unsaid is left out, so that few rows differ.
    """
    follows, enjoys = flags[:, 0], flags[:, 1]
    named = follows | enjoys
    because = named | telling.any(axis=1)
    rows = np.empty((len(posts), 4 + telling.shape[1]), dtype=np.int64)
    rows[:, 0] = np.where(because, -1 - follows, flags[:, 2:] @ FLAG_BITS)
    rows[:, 1] = np.where(named, posts.authors, NOBODY)
    rows[:, 2] = np.where(because, 0, posts.ids[:, 1])
    rows[:, 3] = np.where(because, 0, catalogue.kinds(posts.slots))
    rows[:, 4:] = telling
    return rows
