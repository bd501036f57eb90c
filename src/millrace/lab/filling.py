"""A community as large as a benchmark says, brought in by COPY and by the server itself.

Posts, numbers, vectors and histories are made from a seed; nobody wrote the texts. Vectors are
clustered as those of texts are. Everything passes the same triggers as any other write.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.percentiles import METRICS, RATE_PRIOR_VIEWS, Percentiles
from millrace.community.types import Key
from millrace.feed.prompts import v2
from millrace.kernel.ids import id_at
from millrace.store.queries import load
from millrace.store.session import Session
from millrace.wiring import Domain

QUERIES = load("millrace.lab")
Matrix: TypeAlias = NDArray[np.float32]

COMMUNITIES = 10
TOPICS = 400
CLUSTERS = 500
TOPICS_EACH = 3
STRETCH = 1_000
DAYS = 30.0
JOINED_DAYS = 400
FOLLOWS_EACH = 20
WORDS = [
    "bridge", "garden", "market", "river", "station", "engine", "orchestra", "kitchen", "harbour",
    "library", "winter", "school", "council", "bicycle", "festival", "workshop", "letter", "museum",
    "forest", "season", "clinic", "theatre", "square", "bakery",
]  # fmt: skip


class Size(Struct, frozen=True, kw_only=True):
    """How much there is.

    posts: live posts, all public, so that every one may be shown to everybody: the hardest case
        for retrieval. members: who have a history and ask for feeds. authors: who wrote the posts.
    events: posts that each member was shown, a quarter of them engaged with.
    """

    posts: int
    members: int
    authors: int
    events: int


class Filled(Struct, frozen=True, kw_only=True):
    """What there is now."""

    members: list[Key]
    authors: list[Key]
    posts: list[Key]


class Encoding(Struct, frozen=True):
    """The encoder that the vectors pretend to be from."""

    version: str
    dims: int


class _Posts(Struct, frozen=True, kw_only=True):
    """The posts, column by column."""

    keys: list[Key]
    author: NDArray[np.int64]
    created: list[datetime]
    counts: NDArray[np.int64]
    cluster: NDArray[np.int64]


async def fill(domain: Domain, size: Size, encoding: Encoding, seed: int) -> Filled:
    """Fill an empty database.

    Args:
        domain: the community, migrated and empty.
        size: how much.
        encoding: the encoder's name and length.
        seed: of everything that is drawn.
    """
    rng, now = np.random.default_rng(seed), domain.clock.now()
    joined = now - timedelta(days=JOINED_DAYS)
    people = [
        Key(1 + number % COMMUNITIES, id_at(joined + timedelta(seconds=number), f"member-{number}"))
        for number in range(size.members + size.authors)
    ]
    members, authors = people[: size.members], people[size.members :]
    followers = rng.zipf(1.6, len(people)).clip(0, 5_000)
    posts = _posts(rng, size, authors, now)
    async with domain.router.write() as session:
        await _people(session, people, followers.tolist(), now)
        await session.copy_in(QUERIES["copy_follows"], _follows(rng, members, authors, now))
        await _written(session, posts, authors)
    await domain.percentiles.refresh()
    reach = followers[size.members :][posts.author]
    said = await _said(domain.percentiles, posts, reach, now)
    async with domain.router.write() as session:
        position = str(await session.value(QUERIES["fill_position"]))
        made = _Made(rng, encoding, position, now)
        await session.copy_in(QUERIES["copy_post_embeddings"], made.of_posts(posts, said))
        await session.copy_in(QUERIES["copy_member_embeddings"], made.of_members(members))
    await _histories(domain, size, members, seed, now)
    return Filled(members=members, authors=authors, posts=posts.keys)


def _posts(rng: np.random.Generator, size: Size, authors: Sequence[Key], now: datetime) -> _Posts:
    """Return posts by authors of whom few write much, newest last, with numbers to match."""
    weights = 1.0 / np.arange(1, size.authors + 1) ** 0.7
    author = rng.choice(size.authors, size.posts, p=weights / weights.sum())
    ages = np.sort(rng.exponential(DAYS / 3, size.posts).clip(0.01, 3 * DAYS))[::-1]
    created = [now - timedelta(days=float(age)) for age in ages]
    views = rng.lognormal(3.0, 1.2, size.posts).astype(np.int64)
    shares = [views, *(rng.binomial(views, chance) for chance in (0.2, 0.1, 0.06, 0.02, 0.01))]
    wrote: list[int] = author.tolist()
    return _Posts(
        keys=[
            Key(authors[who].community_id, id_at(when, f"post-{number}"))
            for number, (who, when) in enumerate(zip(wrote, created, strict=True))
        ],
        author=author,
        created=created,
        counts=np.column_stack(shares),
        cluster=rng.integers(0, CLUSTERS, size.posts),
    )


async def _people(
    session: Session, people: Sequence[Key], followers: Sequence[int], now: datetime
) -> None:
    joined = now - timedelta(days=JOINED_DAYS)
    communities = [(n, f"lab-{n}", f"Lab {n}", joined) for n in range(1, COMMUNITIES + 1)]
    await session.copy_in(QUERIES["copy_communities"], communities)
    lines = [
        (
            key.community_id, key.id, f"m{number}", f"m{number}", f"Member {number}",
            f"{WORDS[number % len(WORDS)]} person", [f"topic-{number % TOPICS}"], joined,
        )
        for number, key in enumerate(people)
    ]  # fmt: skip
    await session.copy_in(QUERIES["copy_members"], lines)
    counters = [
        (key.community_id, key.id, followers[number], 1, 1, 1) for number, key in enumerate(people)
    ]
    await session.copy_in(QUERIES["copy_member_counters"], counters)


def _follows(
    rng: np.random.Generator, members: Sequence[Key], authors: Sequence[Key], when: datetime
) -> Iterable[tuple[object, ...]]:
    each = min(FOLLOWS_EACH, len(authors))
    for member in members:
        chosen: list[int] = rng.choice(len(authors), each, replace=False).tolist()
        for target in (authors[number] for number in chosen):
            yield member.community_id, member.id, target.community_id, target.id, when


async def _written(session: Session, posts: _Posts, authors: Sequence[Key]) -> None:
    cluster: list[int] = posts.cluster.tolist()
    author: list[int] = posts.author.tolist()
    lines = (
        (
            key.community_id, key.id, f"p{number}", authors[who].id, "note",
            f"{WORDS[cluster[number] % len(WORDS)]} {number}", _text(number, cluster[number]),
            _topics(number, cluster[number]), "public", posts.created[number],
        )
        for number, (key, who) in enumerate(zip(posts.keys, author, strict=True))
    )  # fmt: skip
    await session.copy_in(QUERIES["copy_posts"], lines)
    counts: list[list[int]] = posts.counts.tolist()
    counters = (
        (key.community_id, key.id, *numbers)
        for key, numbers in zip(posts.keys, counts, strict=True)
    )
    await session.copy_in(QUERIES["copy_post_counters"], counters)


def _text(number: int, cluster: int) -> str:
    """Return some sixty words, different for every post."""
    return " ".join(
        WORDS[(cluster * 7 + number * place + place) % len(WORDS)] for place in range(60)
    )


def _topics(number: int, cluster: int) -> list[str]:
    return [f"topic-{(cluster * 5 + number % 3 * place) % TOPICS}" for place in range(TOPICS_EACH)]


class _Made:
    """Vectors around the centres of clusters, as rows of the tables."""

    def __init__(
        self, rng: np.random.Generator, encoding: Encoding, position: str, now: datetime
    ) -> None:
        self._rng = rng
        self._centres = rng.standard_normal((CLUSTERS, encoding.dims), dtype=np.float32)
        self._names = (encoding.version, v2.VERSION, "made up", 1, position)
        self._now = now

    def of_posts(
        self, posts: _Posts, said: Sequence[Sequence[int]]
    ) -> Iterable[tuple[object, ...]]:
        """Yield the rows of posts, each around the centre of its cluster."""
        for start in range(0, len(posts.keys), STRETCH):
            packed = self._packed(posts.cluster[start : start + STRETCH])
            for place, vector in enumerate(packed, start):
                key = posts.keys[place]
                yield (
                    key.community_id, key.id, *self._names, vector, self._now, said[place], 1, 1,
                )  # fmt: skip

    def of_members(self, members: Sequence[Key]) -> Iterable[tuple[object, ...]]:
        """Yield the rows of members, each around some centre."""
        packed = self._packed(self._rng.integers(0, CLUSTERS, len(members)))
        for key, vector in zip(members, packed, strict=True):
            yield key.community_id, key.id, *self._names, vector, self._now

    def _packed(self, clusters: NDArray[np.int64]) -> list[bytes]:
        rows = self._centres[clusters]
        rows = rows + self._rng.standard_normal(rows.shape, dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return [row.tobytes() for row in rows.astype("<f2")]


async def _said(
    percentiles: Percentiles, posts: _Posts, reach: NDArray[np.int64], now: datetime
) -> list[list[int]]:
    """Return the percentiles that a prompt would say of each post, so that none is out of date."""
    hours = np.array([(now - created).total_seconds() / 3600 for created in posts.created])
    views, clicks, dwells, likes, comments, shares = posts.counts.T
    rate = (clicks + dwells + likes + comments + shares) / (views + RATE_PRIOR_VIEWS)
    found = np.zeros((len(hours), 6), dtype=np.int64)
    communities = np.array([key.community_id for key in posts.keys])
    for community in np.unique(communities).tolist():
        rows = np.flatnonzero(communities == community)
        scales = await percentiles.scales(community)
        values: dict[str, NDArray[Any]] = {
            "age_hours": hours, "views": views, "likes": likes, "comments": comments,
            "engagement_rate": rate, "author_followers": reach,
        }  # fmt: skip
        assert values.keys() <= set(METRICS)
        for column, (metric, value) in enumerate(values.items()):
            cuts = scales.cuts(metric)
            found[rows, column] = 50 if cuts is None else np.searchsorted(cuts, value[rows])
    found[:, 0] = 99 - found[:, 0]
    return found.tolist()


async def _histories(
    domain: Domain, size: Size, members: Sequence[Key], seed: int, now: datetime
) -> None:
    async with domain.router.write() as session:
        await session.run(QUERIES["number_posts"])
        await session.run(QUERIES["index_posts"])
    for start in range(
        0, len(members), 100
    ):  # each statement stays below the time that it may take
        async with domain.router.write() as session:
            await session.run(
                QUERIES["fill_impressions"],
                now=now,
                every=timedelta(days=25) / size.events,
                each=size.events,
                posts=size.posts,
                seed=seed,
                members=[key.id for key in members[start : start + 100]],
            )
    async with domain.router.write() as session:
        for name in ("drop_numbers", "fill_engagements", "fill_reactions", "analyse"):
            await session.run(QUERIES[name])
