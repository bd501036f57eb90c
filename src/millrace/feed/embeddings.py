"""Makes embeddings and keeps them: fp16 bytes with the versions and the position they are from.

The position is read before the facts: whatever was committed up to there is in the vector, and
maybe more. Equal prompts are not encoded twice.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.percentiles import engagement_rate
from millrace.community.types import (
    KEYS_MAX,
    POSITIVE_ACTIONS,
    Key,
    MemberCounts,
    PostView,
    program,
)
from millrace.feed.facts import Profile, member_facts, post_facts
from millrace.feed.numbers import PromptRow, percentiles
from millrace.feed.parts import FeedParts
from millrace.feed.ports import Encoder
from millrace.feed.prompt_lines import member_said, post_said
from millrace.feed.prompt_log import NewLine, PromptLog, Vectors
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import MemberFacts, Prompt, prompt_hash
from millrace.feed.repository import (
    QUERIES,
    AuthorRow,
    LikedRow,
    MemberPromptRow,
    MemberRow,
    columns,
    reader,
)
from millrace.feed.turns import Line, Turns, Urgency

HISTORY_MAX = 60  # engagements; more do not fit into the prompt
HISTORY_FEW = 10  # of them: three posts fill the default budget, as a rule
PROGRAM = program("feed")
POSITIVE = sorted(kind.value for kind in POSITIVE_ACTIONS)
Vector = NDArray[np.float32]


class Made(Struct, frozen=True, kw_only=True):
    """A member's vector and the place of the log that it is from."""

    vector: Vector
    position: str


class PostPrompt(Struct, frozen=True):
    """A post's prompt, the percentiles in it, and the name of both."""

    row: PromptRow
    percentiles: list[int]
    prompt: Prompt
    hash: str


class MemberPrompt(Struct, frozen=True):
    """A member's prompt and the posts that it could show, the newest engagement first.

    A post that was looked at, and that the member may not see, is not among them.
    """

    prompt: Prompt
    liked: list[Key]


class Embeddings:
    """Embeds posts and members from the tables into the tables."""

    def __init__(self, parts: FeedParts, line: Line | None = None) -> None:
        """Take the surroundings, and the line in which encoders are waited for."""
        self._parts = parts
        self._encoder = parts.encoder
        self.turns = Turns(parts.encoder, line)
        self._log = PromptLog(parts.router, parts.ids)
        self.stored = 0, 0
        """How many vectors of posts and of members were stored since the start."""

    @property
    def encoder(self) -> Encoder:
        """Return what makes the vectors."""
        return self._encoder

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under."""
        return self._encoder.version

    async def row(self, member: Key, token: str = "", version: str = "") -> MemberRow | None:
        """Return a standing member with the stored embedding of an encoder, or None.

        Args:
            member: whose.
            token: of the session that asks.
            version: of the encoder; empty for this one.
        """
        async with self._parts.router.read(token) as session:
            return await session.row(
                QUERIES["member_state"],
                MemberRow,
                community_id=member.community_id,
                member_id=member.id,
                model_version=version or self._encoder.version,
            )

    async def embed_posts(
        self, keys: Sequence[Key], urgency: Urgency = Urgency.POST, *, anew: bool = False
    ) -> int:
        """Make and store the vectors of posts; return how many prompts were encoded.

        The vector of a post that does not stand any more is dropped.

        Args:
            keys: of the posts.
            urgency: whose turn it is at the encoder.
            anew: whether what is stored is thrown away, whatever it says.
        """
        position = await self._position()
        rows = await self.prompt_rows(keys)
        now = self._parts.clock.now()
        made = [await self._post_prompt(row, now) for row in rows]
        new = [one for one in made if anew or one.row.prompt_hash != one.hash]
        prompts = {one.hash: one.prompt for one in new}  # the same prompt is encoded once
        vectors = await self.turns.embed(list(prompts.values()), urgency)
        found = {name: packed(vector) for name, vector in zip(prompts, vectors, strict=True)}
        fallen = set(keys) - {row.key for row in rows}
        same = [one for one in made if not anew and one.row.prompt_hash == one.hash]
        stored_at = self._parts.clock.now()
        await self._log.prepare(stored_at)
        async with self._parts.router.write() as session:
            if fallen:
                session.later(
                    QUERIES["drop_prompts_of_posts"],
                    **columns(sorted(fallen), "communities", "ids"),
                )
            if anew or fallen:
                await session.run(
                    QUERIES["drop_post_embeddings"],
                    **columns(keys if anew else sorted(fallen), "communities", "ids"),
                )
            if new:
                await session.run(
                    QUERIES["store_post_embeddings"],
                    prompt_version=v2.VERSION,
                    position=position,
                    vectors=[found[one.hash] for one in new],
                    **self._lines(new, now),
                )
                lines = [_post_line(one, now) for one in new]
                self._log.write(session, self._vectors(position, now, stored_at), lines)
            if same:
                await session.run(QUERIES["touch_post_embeddings"], **self._lines(same, now))
        self.stored = self.stored[0] + len(new), self.stored[1]
        return len(prompts)

    def _vectors(self, position: str, made_at: datetime, stored_at: datetime) -> Vectors:
        return Vectors(
            model_version=self._encoder.version,
            position=position,
            made_at=made_at,
            stored_at=stored_at,
        )

    def _lines(self, made: Sequence[PostPrompt], now: datetime) -> dict[str, object]:
        return {
            "model_version": self._encoder.version,
            "made_at": now,
            "prompt_hashes": [one.hash for one in made],
            "source_versions": [one.row.system_version for one in made],
            "author_versions": [one.row.author_version for one in made],
            "community_versions": [one.row.community_version for one in made],
            "percentiles": [f"{{{','.join(map(str, one.percentiles))}}}" for one in made],
            **columns((one.row.key for one in made), "communities", "ids"),
        }

    async def embed_member(
        self, member: Key, urgency: Urgency = Urgency.REQUEST, *, anew: bool = False
    ) -> Made | None:
        """Make and store a member's vector from the profile, and what they liked if prompts say that.

        Args:
            member: whose.
            urgency: whose turn it is at the encoder.
            anew: whether it is encoded though the prompt is as it was.
        """
        found = await self.embed_members([member], urgency, anew=anew, known=False)
        return found.get(member)

    async def embed_members(
        self, members: Sequence[Key], urgency: Urgency, *, anew: bool = False, known: bool = True
    ) -> dict[Key, Made]:
        """Make and store the vectors of those of some members who stand.

        Args:
            members: a few; what can be is read and written for all of them at once.
            urgency: whose turn it is at the encoder.
            anew: whether prompts are encoded though they are as they were.
            known: whether only those who have a vector get one: the others never opened a feed.
        """
        position, rows, liked = await self._read_members(members, known)
        prompts = {key: await self._prompt_of(key, rows[key], liked.get(key, ())) for key in rows}
        names = {key: prompt_hash(one.prompt) for key, one in prompts.items()}
        made_at = self._parts.clock.now()
        vectors = {
            key: unpacked(row.vector)  # as it was: only the position moves
            for key, row in rows.items()
            if not anew and row.vector is not None and row.prompt_hash == names[key]
        }
        new = [key for key in rows if key not in vectors]
        made = await self.turns.embed([prompts[key].prompt for key in new], urgency)
        vectors |= dict(zip(new, made, strict=True))
        if not rows:
            return {}
        stored = {key: packed(vectors[key]) for key in rows}
        stored_at = self._parts.clock.now()
        await self._log.prepare(stored_at)
        async with self._parts.router.write() as session:
            await session.run(
                QUERIES["store_member_embeddings"],
                model_version=self._encoder.version,
                prompt_version=v2.VERSION,
                position=position,
                made_at=stored_at,
                prompt_hashes=[names[key] for key in rows],
                source_versions=[row.system_version for row in rows.values()],
                vectors=list(stored.values()),
                **columns(rows, "communities", "ids"),
            )
            lines = [_member_line(key, rows[key], prompts[key], names[key]) for key in new]
            self._log.write(session, self._vectors(position, made_at, stored_at), lines)
        self.stored = self.stored[0], self.stored[1] + len(new)
        return {
            key: Made(vector=unpacked(vector), position=position) for key, vector in stored.items()
        }

    async def _read_members(
        self, members: Sequence[Key], known: bool
    ) -> tuple[str, dict[Key, MemberRow], dict[Key, list[Key]]]:
        """Return the place of the log, then those who stand, and what they liked to do."""
        async with self._parts.router.read() as session:
            position = str(await session.value(QUERIES["log_position"]))
            found = await session.rows(
                QUERIES["members_for_prompts"],
                MemberPromptRow,
                model_version=self._encoder.version,
                known=known,
                **columns(members, "communities", "ids"),
            )
            rows: dict[Key, MemberRow] = {row.key: row for row in found}
            if self._encoder.history is not None:  # it is pooled in each request
                return position, rows, {}
            liked = await session.rows(
                QUERIES["liked_by_members"],
                LikedRow,
                kinds=POSITIVE,
                limit=HISTORY_MAX,
                **columns(rows, "communities", "ids"),
            )
        return position, rows, {row.member: row.keys for row in liked}

    async def prompt_rows(self, keys: Sequence[Key]) -> list[PromptRow]:
        """Return what the prompts of those posts say that stand."""
        async with self._parts.router.read() as session:
            return await session.rows(
                QUERIES["posts_for_prompts"],
                PromptRow,
                model_version=self._encoder.version,
                **columns(keys, "communities", "ids"),
            )

    async def _post_prompt(self, row: PromptRow, now: datetime) -> PostPrompt:
        scales = await self._parts.percentiles.scales(row.community_id)
        found = percentiles(row, engagement_rate(row.counts), scales.of, now)
        prompt = v2.post_prompt(post_facts(row, found))
        return PostPrompt(row=row, percentiles=found, prompt=prompt, hash=prompt_hash(prompt))

    async def prompt_of_member(self, member: Key, row: MemberRow) -> Prompt:
        """Return the prompt of a member; only posts that they may still see are in it."""
        if self._encoder.history is not None:
            return (await self._prompt_of(member, row, ())).prompt
        liked = await self._parts.activity.positives(member, HISTORY_MAX)
        made = await self._prompt_of(member, row, [one.post for one in liked])
        return made.prompt

    async def _prompt_of(self, member: Key, row: MemberRow, liked: Sequence[Key]) -> MemberPrompt:
        """Return the prompt of a member who liked some posts, the newest first.

        A prompt shows the newest few posts of a history, so only those are read first, and the
        others where there is room left: the prompt is the same as if all had been read.
        """
        keys = list(dict.fromkeys(liked))
        views: dict[Key, PostView] = {}
        gone: set[Key] = set()
        for some in (keys[:HISTORY_FEW], keys[HISTORY_FEW:]):
            found = await self._parts.posts.views(reader(member), some) if some else []
            views |= {view.post.key: view for view in found}
            gone |= {key for key in some if key not in views}
            facts = member_facts(profile_of(row), keys, views)
            prompt = await asyncio.to_thread(self.member_prompt, facts)
            if not keys or v2.posts_shown(prompt) < v2.posts_with_words(facts.history):
                break  # what is older found no room
        return MemberPrompt(prompt, [key for key in keys if key not in gone])

    async def views(self, keys: Sequence[Key]) -> dict[Key, PostView]:
        """Return posts for the program's own use, whoever may see them."""
        found: dict[Key, PostView] = {}
        for start in range(0, len(keys), KEYS_MAX):
            for view in await self._parts.posts.views(PROGRAM, keys[start : start + KEYS_MAX]):
                found[view.post.key] = view
        return found

    def member_prompt(self, facts: MemberFacts) -> Prompt:
        """Return the prompt of a member within the encoder's budget. Takes some milliseconds."""
        return v2.member_prompt(facts, self._encoder.tokens_max, self._encoder.count)

    async def author_counts(self, keys: Sequence[Key]) -> dict[Key, MemberCounts]:
        """Return the numbers of the authors of posts, by author."""
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["author_numbers"], AuthorRow, **columns(keys, "communities", "posts")
            )
        return {Key(row.community_id, row.author_id): row.counts for row in rows}

    async def _position(self) -> str:
        async with self._parts.router.read() as session:
            return str(await session.value(QUERIES["log_position"]))


def _post_line(made: PostPrompt, now: datetime) -> NewLine:
    hours = max((now - made.row.created_at).total_seconds() / 3600, 0.0)
    return NewLine(made.row.key, made.hash, post_said(made.row, made.percentiles, hours))


def _member_line(key: Key, row: MemberRow, made: MemberPrompt, name: str) -> NewLine:
    shown = v2.posts_shown(made.prompt)
    return NewLine(key, name, member_said(key.community_id, profile_of(row), made.liked, shown))


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
