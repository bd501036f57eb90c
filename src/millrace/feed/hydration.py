"""Hydrates the member: the first stage, and what every request reads."""

import asyncio
import re
from datetime import timedelta
from typing import NoReturn

from millrace.community.languages import code_of, primary
from millrace.community.types import Key
from millrace.feed.embeddings import Embeddings, Made, unpacked
from millrace.feed.features import Subject, words
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES, MemberRow, TopicRow, asked_by, columns
from millrace.feed.run import MemberState, Run
from millrace.feed.served import ServedFeeds
from millrace.kernel.errors import MillraceError, NotFoundError

LIKED_MAX = 200  # positive engagements that topics and "seen" look at

CODE = re.compile(r"[a-z]{2,3}")


class Hydration:
    """Reads all that a feed needs to know of its member, mostly at the same time."""

    def __init__(self, parts: FeedParts, embeddings: Embeddings, served: ServedFeeds) -> None:
        self._parts = parts
        self._embeddings = embeddings
        self._served = served

    async def member(self, run: Run) -> MemberState:
        """Return the member's state.

        Passes on:
            NotFoundError: there is no such member.
        """
        asked, config = run.request, self._parts.config
        key, now = asked.member, asked.now
        activity = self._parts.activity
        (row, relations, served), (seen, hidden, affinity, taste) = await asyncio.gather(
            asyncio.gather(
                self._embeddings.row(key, asked.token),
                self._parts.relations.of(key, asked.token),
                self._served.delivered(
                    key,
                    now - timedelta(minutes=config.served_minutes),
                    now - timedelta(minutes=config.reload_minutes),
                ),
            ),
            asyncio.gather(
                activity.seen(key, now - timedelta(days=config.seen_days)),
                activity.hidden_posts(key),
                activity.affinity(key, now - timedelta(days=config.affinity_days)),
                self._taste(key),
            ),
        )
        if row is None:
            unknown_member(key)
        liked, topics = taste
        made = await self._vector(run, row)
        languages = languages_of(row)
        return MemberState(
            key=key,
            display_name=row.display_name,
            community_name=row.community_name,
            languages=languages,
            vector=None if made is None else made.vector,
            embedding_position="" if made is None else made.position,
            relations=relations,
            seen=seen,
            served=served - seen,
            hidden=hidden,
            liked=frozenset(liked),
            subject=Subject(
                community_id=key.community_id,
                languages=languages,
                topics=topics,
                words=words(row.headline, *row.skills),
                follows=relations.follows,
                affinity=affinity,
            ),
        )

    async def _taste(self, member: Key) -> tuple[list[Key], dict[str, float]]:
        """Return the liked posts and their topics; the most frequent topic has 1.0."""
        liked = await self._parts.activity.positives(member, LIKED_MAX)
        keys = list(dict.fromkeys(one.post for one in liked))
        if not keys:
            return [], {}
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["topics_liked"],
                TopicRow,
                **asked_by(member),
                **columns(keys, "communities", "posts"),
            )
        most = max((row.posts for row in rows), default=1)
        return keys, {row.topic: row.posts / most for row in rows}

    async def _vector(self, run: Run, row: MemberRow) -> Made | None:
        """Return the member's vector; a missing or outdated one is made now, for a bounded time.

        An encoder that fails costs the retrieval source, or leaves the old vector, and the page
        says so.
        """
        stored = None
        if row.vector is not None:
            stored = Made(vector=unpacked(row.vector), position=row.position or "")
            if row.source_version == row.system_version:
                return stored
        try:
            async with asyncio.timeout(self._parts.config.embed_seconds_max):
                return await self._embeddings.embed_member(run.request.member)
        except (TimeoutError, MillraceError, RuntimeError, OSError, ValueError) as exc:
            what = str(exc) or "it did not answer in time"
            run.degraded.append(
                "the newest posts, not the nearest ones: the encoder does not answer"
                if stored is None
                else "ranked for an older profile: the encoder does not answer"
            )
            run.versions["encoder_failure"] = f"{type(exc).__name__}: {what}"[:200]
            return stored


def languages_of(row: MemberRow) -> frozenset[str]:
    """Return the languages that the member reads, with that of the community; empty for any.

    A word that is not known ("some Klingon") says too little to leave posts out, so then every
    language passes. Regions say nothing about who can read what: `pt` and `pt-BR` are one.
    """
    codes = [code_of(text) or primary(text.strip()) for text in row.languages]
    if not codes or not all(CODE.fullmatch(code) for code in codes):
        return frozenset()
    return frozenset({*codes, primary(row.community_language)}) - {""}


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
