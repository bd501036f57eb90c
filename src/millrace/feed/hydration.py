"""Hydrates the member: the first stage, and what every request reads. From memory, once known."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import NoReturn, Protocol, TypeAlias

import numpy as np

from millrace.community.types import Key, Relations
from millrace.feed.averages import AveragesBook
from millrace.feed.catalogue import NO_TOPIC, Catalogue
from millrace.feed.embeddings import Embeddings, Made, unpacked
from millrace.feed.features import Subject
from millrace.feed.histories import Histories
from millrace.feed.history import History
from millrace.feed.index import Slots, Vector, microseconds
from millrace.feed.known import KnownSlots, OrderedSlots
from millrace.feed.liked import counting, may_see, pooled
from millrace.feed.parts import FeedParts
from millrace.feed.pooled_history import Pool
from millrace.feed.profiles import Profile, Profiles
from millrace.feed.run import MemberState, Run
from millrace.feed.served import ServedFeeds
from millrace.kernel.errors import MillraceError, NotFoundError
from millrace.store.cache import CacheStatistics
from millrace.store.changes.types import Consumer

TOPICS_LIKED_MAX = 50
Known: TypeAlias = tuple[Profile, Relations, History]


class MemberCaches:
    """All that a process remembers of members, as consumers of its change stream.

    To fit it: hand `consumers` to the process's TemporaryStream, behind the consumer that keeps the
    catalogue, whose keys are borrowed. Before the stream has begun, and while it is interrupted,
    every read goes to the tables, so that a process without a stream is slow and right.
    """

    def __init__(self, parts: FeedParts, embeddings: Embeddings, catalogue: Catalogue) -> None:
        self._router = parts.router
        self.embeddings = embeddings
        self.profiles = Profiles(parts, embeddings)
        self.histories = Histories(parts, catalogue)
        self.slots = KnownSlots(catalogue.index)
        self.ordered = OrderedSlots(catalogue.index)
        self.averages = AveragesBook(parts.encoder.version, parts.encoder.history)

    @property
    def consumers(self) -> Sequence[Consumer]:
        """Return what the stream turns."""
        return (self.averages, self.profiles, self.histories)

    def serve(self, catalogue: Catalogue) -> None:
        """Remember vectors of members of the encoder that serves from now on."""
        self.profiles.serve(catalogue.version)
        self.slots.move(catalogue.index)

    def held(self, member: Key, token: str) -> Known | None:
        """Return what is known, if all of it is held and covers the token: nothing is waited for."""
        asked = self._router.claimed(token) if token else None
        profile, relations = self.profiles.held(member, asked)
        history = self.histories.held(member, asked)
        if profile is None or relations is None or history is None:
            return None
        return profile, relations, history

    async def read(self, member: Key, token: str) -> tuple[Profile | None, Relations, History]:
        """Return what is known; what is not held, or too old for the token, comes from the tables."""
        return await asyncio.gather(
            self.profiles.of(member, token),
            self.profiles.relations(member, token),
            self.histories.of(member, token),
        )

    def statistics(self) -> Mapping[str, CacheStatistics]:
        """Return how every cache does, by what it holds."""
        return {**self.profiles.statistics(), "histories": self.histories.statistics()}


class MemberMaker(Protocol):
    """Makes a member's vector for a request that waits, wherever the model is."""

    async def embed_member(self, member: Key, version: str = "", /) -> Made | None:
        """Make and store it; None where there is no such member."""
        ...


class Hydration:
    """Puts together what a feed needs to know of its member."""

    def __init__(
        self,
        parts: FeedParts,
        maker: MemberMaker,
        served: ServedFeeds,
        members: MemberCaches,
        catalogue: Catalogue,
    ) -> None:
        self._parts = parts
        self._embeddings = members.embeddings
        self._maker = maker
        self._served = served
        self._members = members
        self._catalogue = catalogue

    async def member(self, run: Run) -> MemberState:
        """Return the member's state, never older than the request's token.

        Passes on:
            NotFoundError: there is no such member.
        """
        asked, config = run.request, run.plan.config
        key, token, now = asked.member, asked.token, asked.now
        profile, relations, history = self._members.held(key, token) or (
            await self._members.read(key, token)
        )
        served = await self._served.delivered(
            key,
            now - timedelta(minutes=config.served_minutes),
            now - timedelta(minutes=config.reload_minutes),
        )
        if profile is None:
            unknown_member(key)
        made, failed = await self._vector(run, profile)
        # From here on nothing is waited for.
        seen = history.seen(microseconds(now - timedelta(days=config.seen_days)))
        liked = history.positives()
        liked_slots = self._members.ordered.of(liked)
        there = liked_slots[liked_slots >= 0]
        visible = may_see(self._catalogue, key, relations, there)
        places = counting(run.index, liked_slots, visible, history.against)
        pool = pooled(
            run.index,
            self._members.averages.of(run.encoder, run.index.dims),
            None if made is None else made.vector,
            (liked_slots[places], history.positive_moments()[places]),
            microseconds(now),
        )
        vector = _compared(made, pool)
        if failed:
            run.degraded.append(_without(made, vector))
        return MemberState(
            key=key,
            display_name=profile.row.display_name,
            community_name=profile.row.community_name,
            languages=profile.languages,
            vector=vector,
            pool=None if vector is None else pool,
            embedding_position="" if made is None else made.position,
            relations=relations,
            seen=seen,
            served=served,
            hidden=history.against,
            liked=liked,
            subject=Subject(
                community_id=key.community_id,
                languages=profile.languages,
                topics=_topics(self._catalogue, there[visible]),
                words=profile.words,
                follows=relations.follows,
                affinity=history.affinity(microseconds(now - timedelta(days=config.affinity_days))),
            ),
        )

    async def _vector(self, run: Run, profile: Profile) -> tuple[Made | None, bool]:
        """Return the stored vector, and whether a current one could not be had.

        A missing or outdated one is made now, for a bounded time. What an encoder that fails costs,
        the page says.
        """
        stored, row = None, profile.row
        version = run.encoder or profile.version
        if profile.version != version:  # a flag gave the member another encoder
            found = await self._embeddings.row(run.request.member, run.request.token, version)
            row = found or unknown_member(run.request.member)
        if row.vector is not None:
            vector = profile.vector if row is profile.row else unpacked(row.vector)
            assert vector is not None, "it is unpacked with its row"
            stored = Made(vector=vector, position=row.position or "")
            if row.source_version == row.system_version:
                return stored, False
        try:
            async with asyncio.timeout(self._parts.config.embed_seconds_max):
                return await self._maker.embed_member(run.request.member, version), False
        except (TimeoutError, MillraceError, RuntimeError, OSError, ValueError) as exc:
            what = str(exc) or "it did not answer in time"
            run.versions["encoder_failure"] = f"{type(exc).__name__}: {what}"[:200]
            return stored, True


def _compared(made: Made | None, pool: Pool | None) -> Vector | None:
    """Return the vector that posts are compared with; None where nothing is known of the member."""
    if pool is None:
        return None if made is None else made.vector
    vector = pool.vector
    return vector if vector.any() else None


def _without(made: Made | None, vector: Vector | None) -> str:
    """Return what a feed is like, for which no current vector of the member could be had."""
    how = "ranked for an older profile"
    if vector is None:
        how = "the newest posts, not the nearest ones"
    elif made is None:
        how = "ranked for what you liked, without your profile"
    return f"{how}: the encoder does not answer"


def topics_of(
    catalogue: Catalogue, member: Key, relations: Relations, liked: Slots
) -> dict[str, float]:
    """Return the topics of liked posts that the member still may see; the most frequent has 1.0."""
    return _topics(catalogue, liked[may_see(catalogue, member, relations, liked)])


def _topics(catalogue: Catalogue, slots: Slots) -> dict[str, float]:
    """Return the topics of posts, the most frequent with 1.0."""
    tally = np.bincount(catalogue.topic_numbers(slots).ravel(), minlength=NO_TOPIC + 1)
    tally[NO_TOPIC] = 0
    numbers = np.flatnonzero(tally)
    counted: Iterable[tuple[int, int]] = zip(numbers.tolist(), tally[numbers].tolist(), strict=True)
    names = catalogue.topics.names
    found = sorted((-count, names[number]) for number, count in counted)
    return {name: count / found[0][0] for count, name in found[:TOPICS_LIKED_MAX]}


def unknown_member(key: Key) -> NoReturn:
    """Give the answer for a member who is not there.

    Raises:
        NotFoundError: always.
    """
    raise NotFoundError(
        f"there is no member {key}",
        field="member_id",
        value=str(key),
        limit="a member who has not been removed",
        next_step="check the id",
    )
