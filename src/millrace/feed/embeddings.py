"""Makes embeddings and keeps them: fp16 bytes with the versions and the position they are from.

The position is read before the facts: whatever was committed up to there is in the vector, and
maybe more. Equal prompts are not encoded twice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.percentiles import Scales, engagement_rate
from millrace.community.types import KEYS_MAX, Key, MemberCounts, PostView, program
from millrace.feed.facts import Profile, member_facts, post_facts
from millrace.feed.parts import FeedParts
from millrace.feed.prompts import v1
from millrace.feed.prompts.types import MemberFacts, Prompt, prompt_hash
from millrace.feed.repository import (
    QUERIES,
    AuthorRow,
    HashRow,
    MemberRow,
    columns,
    reader,
)

HISTORY_MAX = 60  # engagements; more do not fit into the prompt
PROGRAM = program("feed")
Vector = NDArray[np.float32]


class Made(Struct, frozen=True, kw_only=True):
    """A member's vector and the place of the log that it is from."""

    vector: Vector
    position: str


class Embeddings:
    """Embeds posts and members from the tables into the tables."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts
        self._encoder = parts.encoder

    async def row(self, member: Key, token: str = "") -> MemberRow | None:
        """Return a standing member with the stored embedding, or None."""
        async with self._parts.router.read(token) as session:
            return await session.row(
                QUERIES["member_state"],
                MemberRow,
                community_id=member.community_id,
                member_id=member.id,
                model_version=self._encoder.version,
            )

    async def embed_posts(self, keys: Sequence[Key]) -> None:
        """Make and store the vectors of posts; one that is gone meanwhile is left out."""
        position = await self._position()
        views = await self._parts.posts.views(PROGRAM, keys)
        views = [view for view in views if view.post.removed_at is None]
        prompts = await self._post_prompts(views)
        hashes = [prompt_hash(prompt) for prompt in prompts]
        stored = await self._stored([view.post.key for view in views])
        same = [i for i, view in enumerate(views) if stored.get(view.post.key) == hashes[i]]
        new = sorted(set(range(len(views))) - set(same))
        vectors = await self._encoder.embed([prompts[i] for i in new]) if new else np.zeros((0, 1))
        now = self._parts.clock.now()
        await self._store([views[i] for i in new], [hashes[i] for i in new], vectors, position, now)
        await self._touch([views[i] for i in same], now)

    async def embed_member(self, member: Key) -> Made | None:
        """Make and store a member's vector from the profile and what they liked to do."""
        position = await self._position()
        row = await self.row(member)
        if row is None:
            return None
        facts = await self.member_facts(member, row)
        prompt = await asyncio.to_thread(self.member_prompt, facts)
        name = prompt_hash(prompt)
        if row.vector is not None and row.prompt_hash == name:
            vector = unpacked(row.vector)  # as it was: only the position moves
        else:
            vector = (await self._encoder.embed([prompt]))[0]
        async with self._parts.router.write() as session:
            await session.run(
                QUERIES["store_member_embedding"],
                community_id=member.community_id,
                member_id=member.id,
                model_version=self._encoder.version,
                prompt_version=v1.VERSION,
                prompt_hash=name,
                source_version=row.system_version,
                position=position,
                vector=packed(vector),
                made_at=self._parts.clock.now(),
            )
        return Made(vector=unpacked(packed(vector)), position=position)

    async def member_facts(self, member: Key, row: MemberRow) -> MemberFacts:
        """Return what the prompt says of a member; only posts that they may still see are in it."""
        liked = await self._parts.activity.positives(member, HISTORY_MAX)
        keys = list(dict.fromkeys(one.post for one in liked))
        views = await self._parts.posts.views(reader(member), keys)
        return member_facts(profile_of(row), keys, {view.post.key: view for view in views})

    async def views(self, keys: Sequence[Key]) -> dict[Key, PostView]:
        """Return posts for the program's own use, whoever may see them."""
        found: dict[Key, PostView] = {}
        for start in range(0, len(keys), KEYS_MAX):
            for view in await self._parts.posts.views(PROGRAM, keys[start : start + KEYS_MAX]):
                found[view.post.key] = view
        return found

    def member_prompt(self, facts: MemberFacts) -> Prompt:
        """Return the prompt of a member within the encoder's budget. Takes some milliseconds."""
        return v1.member_prompt(facts, self._encoder.tokens_max, self._encoder.count)

    async def author_counts(self, keys: Sequence[Key]) -> dict[Key, MemberCounts]:
        """Return the numbers of the authors of posts, by author."""
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["author_numbers"], AuthorRow, **columns(keys, "communities", "posts")
            )
        return {Key(row.community_id, row.author_id): row.counts for row in rows}

    async def scales(self, views: Sequence[PostView]) -> dict[int, Scales]:
        """Return the percentiles of every community that the posts are from."""
        return {
            community: await self._parts.percentiles.scales(community)
            for community in sorted({view.post.community_id for view in views})
        }

    async def _post_prompts(self, views: Sequence[PostView]) -> list[Prompt]:
        counts = await self.author_counts([view.post.key for view in views])
        scales = await self.scales(views)
        now = self._parts.clock.now()
        return [
            v1.post_prompt(
                post_facts(
                    view,
                    counts.get(view.post.author, MemberCounts()),
                    engagement_rate(view.counts),
                    scales[view.post.community_id].of,
                    now,
                )
            )
            for view in views
        ]

    async def _position(self) -> str:
        async with self._parts.router.read() as session:
            return str(await session.value(QUERIES["log_position"]))

    async def _stored(self, keys: Sequence[Key]) -> Mapping[Key, str]:
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["prompt_hashes"],
                HashRow,
                model_version=self._encoder.version,
                **columns(keys, "communities", "ids"),
            )
        return {Key(row.community_id, row.post_id): row.prompt_hash for row in rows}

    async def _store(
        self,
        views: Sequence[PostView],
        hashes: Sequence[str],
        vectors: NDArray[np.float32] | NDArray[np.float64],
        position: str,
        now: datetime,
    ) -> None:
        if not views:
            return
        count = len(views)
        async with self._parts.router.write() as session:
            await session.run(
                QUERIES["store_post_embeddings"],
                model_versions=[self._encoder.version] * count,
                prompt_versions=[v1.VERSION] * count,
                prompt_hashes=list(hashes),
                source_versions=[view.post.system_version for view in views],
                positions=[position] * count,
                vectors=[packed(vector) for vector in vectors],
                made=[now] * count,
                **columns((view.post.key for view in views), "communities", "ids"),
            )

    async def _touch(self, views: Sequence[PostView], now: datetime) -> None:
        if not views:
            return
        async with self._parts.router.write() as session:
            await session.run(
                QUERIES["touch_embeddings"],
                model_version=self._encoder.version,
                source_versions=[view.post.system_version for view in views],
                made_at=now,
                **columns((view.post.key for view in views), "communities", "ids"),
            )


def profile_of(row: MemberRow) -> Profile:
    """Return what a member says of themself."""
    return Profile(
        display_name=row.display_name,
        headline=row.headline,
        about=row.about,
        skills=row.skills,
        place=row.place,
        languages=row.languages,
    )


def packed(vector: NDArray[np.floating]) -> bytes:
    """Return a vector as it is stored: fp16, little endian."""
    return vector.astype("<f2").tobytes()


def unpacked(content: bytes) -> Vector:
    """Return a stored vector, of length one again: fp16 rounds it a little."""
    vector = np.frombuffer(content, dtype="<f2").astype(np.float32)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector
