"""Proves that vectors are what a rebuild would make: reads one moment, and writes nothing.

A prompt is made again from the rows, with the percentiles that the stored vector says it was made
with, and the two fingerprints are compared: text is followed at once, numbers by and by. What the
tables themselves call out of date is counted and not compared. Of a sample the vectors are made
again too, and compared by cosine: the order of a batch and 16 bits move them a little.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from heapq import nsmallest

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from millrace.community.activity import Activity
from millrace.community.percentiles import Percentiles
from millrace.community.posts import Posts
from millrace.community.recount import Compared, Difference, Recount
from millrace.community.types import Key
from millrace.feed.embeddings import Embeddings, unpacked
from millrace.feed.facts import post_facts
from millrace.feed.numbers import PromptRow
from millrace.feed.parts import FeedParts
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Prompt, prompt_hash
from millrace.feed.repository import QUERIES, PostKeyRow, columns
from millrace.feed.turns import Urgency
from millrace.kernel.hashing import hash64
from millrace.store.snapshot import FrozenRouter, frozen

STRETCH = 500
SHOWN_MAX = 10
SAMPLE = 32
AGAIN_SECONDS = 3.0  # a visit of a member is over after one
COSINE_MIN = 0.995

Watch = Callable[[str, int], None]
"""Is told what is compared, and how many of it are done."""


class StoredRow(Struct, frozen=True, kw_only=True):
    """A stored vector, with what it was made from."""

    community_id: int
    post_id: int
    prompt_hash: str
    percentiles: list[int]
    source_version: int
    author_version: int
    community_version: int
    vector: bytes

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.post_id)

    def is_behind(self, row: PromptRow) -> bool:
        """Return whether the versions say that it is out of date."""
        return (
            self.source_version < row.system_version
            or self.author_version < row.author_version
            or self.community_version < row.community_version
            or not self.percentiles
        )


class EmbeddedRow(Struct, frozen=True):
    """A member who has a vector."""

    community_id: int
    member_id: int
    stale: bool

    @property
    def key(self) -> Key:
        """Return the key of the member."""
        return Key(self.community_id, self.member_id)


class Tally:
    """Counts what a comparison finds."""

    def __init__(self, part: str) -> None:
        self._part = part
        self.compared = 0
        self.waiting = 0
        self.differing: list[Difference] = []
        self.keys: set[Key] = set()  # of what differs
        self.sampled: list[tuple[Prompt, bytes, Key]] = []

    def differs(self, key: Key, field: str, live: str, rebuilt: str) -> None:
        """Note a difference."""
        self.differing.append(Difference(str(key), field, live, rebuilt))
        self.keys.add(key)

    def keep(self, prompt: Prompt, vector: bytes, key: Key) -> None:
        """Offer a vector for the sample: the keys with the smallest hashes are in it."""
        self.sampled = nsmallest(
            SAMPLE, [*self.sampled, (prompt, vector, key)], key=lambda one: hash64(str(one[2]))
        )

    def judged(self, later: "Tally") -> None:
        """Take what differed from a later look at the same keys."""
        self.differing, self.keys = later.differing, later.keys

    def done(self) -> Compared:
        """Return what was found."""
        return Compared(
            part=self._part,
            compared=self.compared,
            differing=len(self.differing),
            waiting=self.waiting,
            first=self.differing[:SHOWN_MAX],
        )


async def proved(parts: FeedParts, watch: Watch, *, looks: int = 1) -> list[Compared]:
    """Compare everything derived in the tables with what a rebuild would make.

    Args:
        parts: the feed's surroundings.
        watch: hears how far it is.
        looks: how often a vector that differs is looked at, a moment apart: more than once where
            somebody may just be making it.
    """
    async with frozen(parts.router) as moment:
        recount = Recount(router=moment, percentiles=parts.percentiles)
        found = await recount.compared()
        proof = Proof(parts, moment)
        posts, members = await proof.posts(watch), await proof.members(watch)
    for _ in range(looks - 1):
        if not posts.keys and not members.keys:
            break
        await asyncio.sleep(AGAIN_SECONDS)
        async with frozen(parts.router) as moment:
            proof = Proof(parts, moment)
            posts.judged(await proof.posts(watch, posts.keys))
            members.judged(await proof.members(watch, members.keys))
    return [*found, posts.done(), members.done()]


class Proof:
    """Compares the vectors of one moment."""

    def __init__(self, parts: FeedParts, moment: FrozenRouter) -> None:
        """Take the feed's surroundings, all of which then read the same moment."""
        self._parts = replace(
            parts,
            router=moment,
            posts=Posts(router=moment, clock=parts.clock, ids=parts.ids),
            activity=Activity(router=moment, clock=parts.clock),
            percentiles=Percentiles(router=moment, clock=parts.clock),
        )
        self._embeddings = Embeddings(self._parts)
        self._model = parts.encoder.version

    async def posts(self, watch: Watch, only: Collection[Key] | None = None) -> Tally:
        """Compare the vectors of posts; of these alone where some are named."""
        tally = Tally("vectors of posts")
        if only is None:
            await self._fallen(tally)
            after = Key(0, 0)
            while keys := await self._standing(after):
                await self._post_stretch(keys, tally)
                after = keys[-1]
                watch("posts", tally.compared + tally.waiting)
        elif only:
            await self._post_stretch(sorted(only), tally)
        await self._sample(tally)
        return tally

    async def _fallen(self, tally: Tally) -> None:
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["vectors_of_the_fallen"], PostKeyRow, model_version=self._model
            )
        for row in rows:
            tally.differs(row.key, "vector", "stored", "none: the post does not stand")

    async def _standing(self, after: Key) -> list[Key]:
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["standing_posts"],
                PostKeyRow,
                community_id=after.community_id,
                id=after.id,
                limit=STRETCH,
            )
        return [row.key for row in rows]

    async def _post_stretch(self, keys: Sequence[Key], tally: Tally) -> None:
        async with self._parts.router.read() as session:
            found = await session.rows(
                QUERIES["stored_vectors"],
                StoredRow,
                model_version=self._model,
                **columns(keys, "communities", "ids"),
            )
        stored = {row.key: row for row in found}
        for row in await self._embeddings.prompt_rows(keys):
            one = stored.get(row.key)
            if one is None or one.is_behind(row):
                tally.waiting += 1
                continue
            tally.compared += 1
            prompt = v2.post_prompt(post_facts(row, one.percentiles))
            if (rebuilt := prompt_hash(prompt)) != one.prompt_hash:
                tally.differs(row.key, "prompt", one.prompt_hash, rebuilt)
            tally.keep(prompt, one.vector, row.key)

    async def members(self, watch: Watch, only: Collection[Key] | None = None) -> Tally:
        """Compare the vectors of members; of these alone where some are named."""
        tally = Tally("vectors of members")
        after = Key(0, 0)
        while rows := await self._embedded(after):
            for row in rows:
                if row.stale:
                    tally.waiting += 1
                elif only is None or row.key in only:
                    await self._member(row.key, tally)
            after = rows[-1].key
            watch("members", tally.compared + tally.waiting)
        await self._sample(tally)
        return tally

    async def _embedded(self, after: Key) -> list[EmbeddedRow]:
        async with self._parts.router.read() as session:
            return await session.rows(
                QUERIES["embedded_members"],
                EmbeddedRow,
                model_version=self._model,
                community_id=after.community_id,
                id=after.id,
                limit=STRETCH,
            )

    async def _member(self, key: Key, tally: Tally) -> None:
        row = await self._embeddings.row(key)
        assert row is not None, "who is there at a moment is there"
        assert row.vector is not None, "and what is not stale is made"
        prompt = await self._embeddings.prompt_of_member(key, row)
        tally.compared += 1
        if (rebuilt := prompt_hash(prompt)) != row.prompt_hash:
            tally.differs(key, "prompt", row.prompt_hash or "none", rebuilt)
        tally.keep(prompt, row.vector, key)

    async def _sample(self, tally: Tally) -> None:
        """Make the vectors of the sample again."""
        prompts = [prompt for prompt, _, _ in tally.sampled]
        made = await self._embeddings.turns.embed(prompts, Urgency.BACKLOG)
        for vector, (_, content, key) in zip(made, tally.sampled, strict=True):
            cosine = float(np.dot(vector, unpacked(content)))
            if cosine < COSINE_MIN and key not in tally.keys:
                tally.differs(key, "vector", f"cosine {cosine:.3f}", f"at least {COSINE_MIN}")
