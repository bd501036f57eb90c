"""The vectors that members had at past moments, by the rules that serve: for fits of the scorer.

Where the history is in the prompt, a prompt is made and encoded for each moment. Where it is pooled,
a profile is encoded once, if its vector is not stored, and the moments differ by what had been liked
until then: no encoder is asked.

Profiles, texts and what a member may see are those of today; what happened in a moment or after it
is in no vector.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed import averages
from millrace.feed.embeddings import HISTORY_MAX, POSITIVE, Embeddings, Vector, profile_of, unpacked
from millrace.feed.facts import member_facts
from millrace.feed.history import AGAINST, LIKED_MAX
from millrace.feed.index import microseconds
from millrace.feed.parts import FeedParts
from millrace.feed.pooled_history import (
    Averages,
    PooledHistory,
    counted_from,
    days_between,
    member_vector,
)
from millrace.feed.prompts.types import Prompt, prompt_hash
from millrace.feed.replay import Moment
from millrace.feed.repository import QUERIES, MemberRow, columns


class LikedThen(Struct, frozen=True):
    """A post that a member had liked to engage with by a moment; `number` counts from 1."""

    number: int
    post_community_id: int
    post_id: int
    happened_at: datetime

    @property
    def post(self) -> Key:
        """Return the key of the post."""
        return Key(self.post_community_id, self.post_id)


class VectorRow(Struct, frozen=True):
    """A post's vector."""

    community_id: int
    post_id: int
    vector: bytes


Liked = Mapping[int, Sequence[LikedThen]]
Members = Mapping[Key, MemberRow]


class PastMembers:
    """Makes vectors of members as of moments."""

    def __init__(self, parts: FeedParts, embeddings: Embeddings) -> None:
        self._parts = parts
        self._embeddings = embeddings
        self._made: dict[str, Vector] = {}  # by prompt, of the last fit alone

    async def vectors(self, moments: Sequence[Moment], known: Members) -> list[Vector]:
        """Return the vector that the member of each moment had then.

        Args:
            moments: members, at times.
            known: a row for each of the members.
        """
        how = self._parts.encoder.history
        if how is None:
            return await self._prompted(moments, known)
        return await self._pooled(moments, known, how)

    async def posts(self, keys: Iterable[Key]) -> dict[Key, Vector]:
        """Return the vectors of those of some posts that have one."""
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["post_vectors"],
                VectorRow,
                model_version=self._parts.encoder.version,
                **columns(sorted(keys), "communities", "ids"),
            )
        return {Key(row.community_id, row.post_id): unpacked(row.vector) for row in rows}

    async def _pooled(
        self, moments: Sequence[Moment], known: Members, how: PooledHistory
    ) -> list[Vector]:
        """Return vectors of profiles, each with what the member had liked by then."""
        encoder = self._parts.encoder
        liked = await self._liked(moments, LIKED_MAX, sorted(AGAINST))
        posts = await self.posts({one.post for rows in liked.values() for one in rows})
        profiles = await self._profiles({one.member: known[one.member] for one in moments})
        taken, _ = await averages.read(self._parts.router, encoder.version, encoder.dims)
        return await asyncio.to_thread(
            lambda: [
                pooled_at(
                    profiles[one.member], liked.get(number, []), one.time, (posts, taken, how)
                )
                for number, one in enumerate(moments, 1)
            ]
        )

    async def _profiles(self, known: Members) -> dict[Key, Vector]:
        """Return the vector of each member's profile: the stored one where it is of this prompt."""
        prompts = await asyncio.to_thread(
            lambda: {
                key: self._embeddings.member_prompt(member_facts(profile_of(row), [], {}))
                for key, row in known.items()
            }
        )
        found = {
            key: unpacked(row.vector)
            for key, row in known.items()
            if row.vector is not None and row.prompt_hash == prompt_hash(prompts[key])
        }
        new = [key for key in known if key not in found]
        made = await self._encoded([prompts[key] for key in new])
        return found | dict(zip(new, made, strict=True))

    async def _prompted(self, moments: Sequence[Moment], known: Members) -> list[Vector]:
        """Return vectors of prompts that show in words what the member had liked by then."""
        liked = await self._liked(moments, HISTORY_MAX)
        views = await self._embeddings.views(
            sorted({one.post for rows in liked.values() for one in rows})
        )
        prompts = await asyncio.to_thread(
            lambda: [
                self._embeddings.member_prompt(
                    member_facts(
                        profile_of(known[one.member]),
                        [row.post for row in liked.get(number, [])],
                        views,
                    )
                )
                for number, one in enumerate(moments, 1)
            ]
        )
        return await self._encoded(prompts)

    async def _liked(
        self, moments: Sequence[Moment], limit: int, against: Sequence[str] = ()
    ) -> Liked:
        """Return what was liked before each moment, the newest first; one read for all of them."""
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["past_positives"],
                LikedThen,
                **columns((one.member for one in moments), "communities", "members"),
                times=[one.time for one in moments],
                kinds=POSITIVE,
                against=list(against),
                limit=limit,
            )
        found: dict[int, list[LikedThen]] = defaultdict(list)
        for row in rows:
            found[row.number].append(row)
        return found

    async def _encoded(self, prompts: Sequence[Prompt]) -> list[Vector]:
        """Return the vectors of prompts; those that the last fit made are kept for the next."""
        names = [prompt_hash(prompt) for prompt in prompts]
        new = {n: p for n, p in zip(names, prompts, strict=True) if n not in self._made}
        found = dict(zip(new, await self._parts.encoder.embed(list(new.values())), strict=True))
        self._made = {name: found[name] if name in found else self._made[name] for name in names}
        return [self._made[name] for name in names]


def pooled_at(
    profile: Vector,
    liked: Sequence[LikedThen],
    at: datetime,
    known: tuple[Mapping[Key, Vector], Averages, PooledHistory],
) -> NDArray[np.float32]:
    """Return a member's vector as of a moment.

    Args:
        profile: the vector of the profile.
        liked: what they had liked to do, the newest first; a post may be there twice.
        at: the moment.
        known: vectors of posts, the averages, and how a history is pooled.
    """
    vectors, taken, how = known
    newest: dict[Key, datetime] = {}
    for one in liked:
        assert one.happened_at < at, "what happens in a moment or later is not in its vector"
        newest.setdefault(one.post, one.happened_at)
    some = list(newest.items())[: how.posts_max]
    nothing = np.zeros_like(profile)
    posts = np.array([vectors.get(key, nothing) for key, _ in some], np.float32)
    times = np.array([microseconds(when) for _, when in some], np.int64)
    ages = days_between(times, counted_from(microseconds(at), how))
    return member_vector(profile, posts.reshape(len(some), len(profile)), ages, taken, how)
