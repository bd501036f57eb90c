"""Collects examples to fit the scorer on: served feeds with impressions, and what is replayed.

Logged examples have their features from the served feed, as they were at serving, with the
position where the post was seen. Replayed ones come from what an import brought: visits where it
has impressions, engagement beside drawn posts where it has none. The member's vector is made anew
as of each moment (past_members.py).
"""

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import POSITIVE_ACTIONS, Action, Key
from millrace.feed import record
from millrace.feed.embeddings import Embeddings
from millrace.feed.features import COLUMN, FEATURES, Matrix, position_of, words
from millrace.feed.lens import Lens, Meetings, learned
from millrace.feed.parts import FeedParts
from millrace.feed.past_members import PastMembers
from millrace.feed.profiles import languages_of
from millrace.feed.replay import (
    History,
    Moment,
    PastEngagement,
    PastFollow,
    PastImpression,
    PastPost,
)
from millrace.feed.repository import QUERIES, MemberRow
from millrace.feed.scorer_fit import Examples
from millrace.feed.value import ACTIONS
from millrace.kernel.rng import rng

PAGE = 20  # a served feed has about so many impressions
PAST_MAX = 100_000
SEED = 20261121
POSITIVE = sorted(action.value for action in POSITIVE_ACTIONS)
LEARNED = [COLUMN["learned_similarity"], COLUMN["learned_similarity_around"]]
PLACE = {action: place for place, action in enumerate(ACTIONS)}


class ServedToFit(Struct, frozen=True, kw_only=True):
    """A served feed that was looked at."""

    community_id: int
    member_id: int
    served_feed_id: int
    served_at: datetime
    record: bytes


class Outcome(Struct, frozen=True, kw_only=True):
    """What a member did with a shown post; nothing where `kinds` is empty."""

    community_id: int
    member_id: int
    served_feed_id: int
    post_community_id: int
    post_id: int
    position: int
    kinds: list[Action]


class Line(Struct, frozen=True):
    """One example.

    sampled: it comes from a moment whose negatives were drawn. weight: how many it stands for.
    """

    time: datetime
    features: Matrix
    kinds: frozenset[Action]
    sampled: bool
    weight: float = 1.0


class Collected(Struct, frozen=True):
    """Examples in the order of time, and how many of them come from where.

    lens: learned of replayed visits; None where there are none.
    """

    examples: Examples
    logged: int
    replayed: int
    lens: Lens | None


class Training:
    """Reads what members did, and makes examples of it."""

    def __init__(self, parts: FeedParts, embeddings: Embeddings) -> None:
        self._parts = parts
        self._embeddings = embeddings
        self._past = PastMembers(parts, embeddings)

    async def examples(self) -> Collected:
        """Return all examples."""
        logged, (replayed, lens) = await self._logged(), await self._replayed()
        lines = sorted([*logged, *replayed], key=lambda line: line.time)
        labels = np.zeros((len(lines), len(ACTIONS)), dtype=np.bool_)
        for place, line in enumerate(lines):
            labels[place, [PLACE[kind] for kind in line.kinds]] = True
        examples = Examples(
            features=np.array([line.features for line in lines]).reshape(-1, len(FEATURES)),
            labels=labels,
            sampled=np.array([line.sampled for line in lines], dtype=np.bool_),
            weights=np.array([line.weight for line in lines], dtype=np.float64),
        )
        return Collected(examples, len(logged), len(replayed), lens)

    async def _logged(self) -> list[Line]:
        """Return shown posts with their features as they were at serving."""
        config = self._parts.config
        since = self._parts.clock.now() - timedelta(days=config.retention_days)
        async with self._parts.router.read() as session:
            served = await session.rows(
                QUERIES["served_to_fit"],
                ServedToFit,
                since=since,
                limit=max(config.fit_examples_max // PAGE, 1),
            )
            outcomes = await session.rows(
                QUERIES["outcomes"],
                Outcome,
                communities=[one.community_id for one in served],
                members=[one.member_id for one in served],
                feeds=[one.served_feed_id for one in served],
                times=[one.served_at for one in served],
            )
        pooled = self._parts.encoder.history is not None
        return await asyncio.to_thread(_logged_lines, served, outcomes, pooled)

    async def _replayed(self) -> tuple[list[Line], Lens | None]:
        """Return what happened elsewhere: visits, and engagement that no impression goes with."""
        history, most = await self._history(), self._parts.config.fit_moments_max
        moments = history.visits(await self._visits(most))
        moments += history.moments(max(most - len(moments), 0), rng(SEED))
        vectors = await self._past.posts({key for moment in moments for key in moment.posts})
        moments = [moment for moment in moments if all(key in vectors for key in moment.posts)]
        known = await self._members({moment.member for moment in moments})
        moments = [moment for moment in moments if moment.member in known]
        if not moments:
            return [], None
        members = await self._past.vectors(moments, known)
        communities = {key.community_id for moment in moments for key in moment.posts}
        of = {c: (await self._parts.percentiles.scales(c)).of for c in sorted(communities)}
        rows: list[Matrix] = []
        for moment, vector in zip(moments, members, strict=True):
            row = known[moment.member]
            subject = history.subject(moment, languages_of(row), words(row.headline, *row.skills))
            near = [float(vectors[key] @ vector) for key in moment.posts]
            rows.append(history.features(moment, subject, near, of))
        lens = await asyncio.to_thread(self._learned, history, moments, rows, members, vectors)
        lines = [
            line
            for moment, its in zip(moments, rows, strict=True)
            for line in _replayed_lines(moment, its)
        ]
        return lines, lens

    def _learned(
        self,
        history: History,
        moments: Sequence[Moment],
        rows: Sequence[Matrix],
        members: Sequence[NDArray[np.float32]],
        vectors: Mapping[Key, NDArray[np.float32]],
    ) -> Lens | None:
        """Learn a lens of the visits, and write into their rows what it says.

        Engagement without impressions teaches none: beside posts that nobody may have seen, what
        is popular looks like what is near (docs/LOG.md).
        """
        chosen = [place for place, moment in enumerate(moments) if not moment.sampled]
        if not chosen:
            return None
        visits = [moments[place] for place in chosen]
        meetings = _meetings(history, visits, [members[place] for place in chosen], vectors)
        lens, told = learned(meetings, self._parts.encoder.version)
        edges = np.cumsum([len(visit.posts) for visit in visits])[:-1]
        for place, values in zip(chosen, np.split(told, edges), strict=True):
            rows[place][:, LEARNED] = values
        return lens

    async def _history(self) -> History:
        async with self._parts.router.read() as session:
            return History(
                await session.rows(QUERIES["past_posts"], PastPost, limit=PAST_MAX),
                await session.rows(QUERIES["past_engagements"], PastEngagement, limit=PAST_MAX),
                await session.rows(QUERIES["past_follows"], PastFollow, limit=PAST_MAX),
            )

    async def _visits(self, limit: int) -> list[PastImpression]:
        """Return some visits to feeds that were not served here."""
        async with self._parts.router.read() as session:
            return await session.rows(
                QUERIES["past_visits"], PastImpression, limit=limit, kinds=POSITIVE
            )

    async def _members(self, keys: set[Key]) -> dict[Key, MemberRow]:
        rows = {key: await self._embeddings.row(key) for key in sorted(keys)}
        return {key: row for key, row in rows.items() if row is not None}


def _meetings(
    history: History,
    visits: Sequence[Moment],
    members: Sequence[NDArray[np.float32]],
    vectors: Mapping[Key, NDArray[np.float32]],
) -> Meetings:
    """Return visits with their vectors, beside all posts of all visits by the time they came."""
    posts = {key: history.posts[key].created_at for visit in visits for key in visit.posts}
    known = sorted(posts, key=lambda key: (posts[key], key))
    times = [posts[key] for key in known]
    return Meetings(
        members=np.array(members),
        posts=np.array([vectors[key] for visit in visits for key in visit.posts]),
        moment=np.repeat(np.arange(len(visits)), [len(visit.posts) for visit in visits]),
        engaged=np.array(
            [not POSITIVE_ACTIONS.isdisjoint(kinds) for visit in visits for kinds in visit.kinds],
            dtype=np.bool_,
        ),
        known=np.array([vectors[key] for key in known]),
        there=np.array([bisect_right(times, visit.time) for visit in visits], dtype=np.int64),
    )


def _logged_lines(
    served: Sequence[ServedToFit], outcomes: Sequence[Outcome], pooled: bool
) -> list[Line]:
    """Join served feeds with what became of them; takes a while where there are many.

    Args:
        served: what was served.
        outcomes: what members did with it.
        pooled: whether the fit is for vectors of members whose history is pooled. Nearness to
            others begins elsewhere, so feeds that were made with them are left out.
    """
    by_feed: dict[tuple[int, int, int], list[Outcome]] = {}
    for one in outcomes:
        by_feed.setdefault((one.community_id, one.member_id, one.served_feed_id), []).append(one)
    lines: list[Line] = []
    for feed in served:
        found = record.decode(feed.record)
        if found.feature_names != list(FEATURES):
            continue  # of a release with other features
        if (found.pooled is not None) != pooled:
            continue
        rows = {post.key: place for place, post in enumerate(found.ranked)}
        matrix = found.feature_matrix()
        for one in by_feed.get((feed.community_id, feed.member_id, feed.served_feed_id), []):
            row = rows.get(Key(one.post_community_id, one.post_id))
            if row is None:
                continue
            features = matrix[row].copy()
            features[COLUMN["position"]] = position_of(one.position)
            lines.append(Line(feed.served_at, features, frozenset(one.kinds), sampled=False))
    return lines


def _replayed_lines(moment: Moment, rows: Matrix) -> list[Line]:
    return [
        Line(moment.time, row, kinds, sampled=moment.sampled, weight=moment.weight)
        for row, kinds in zip(rows, moment.kinds, strict=True)
    ]
