"""Throws vectors away and makes them anew, a stretch at a time, beside whoever serves.

Each stretch is one transaction, so at no moment a post is without a vector. A rebuild that was
interrupted is run again from its beginning: what it made is right, and made once more.
"""

from collections.abc import Callable

from millrace.community.types import Key
from millrace.feed.embeddings import Embeddings
from millrace.feed.parts import FeedParts
from millrace.feed.proof import EmbeddedRow
from millrace.feed.repository import QUERIES, PostKeyRow
from millrace.feed.turns import Urgency

STRETCH = 16  # posts of one transaction
MEMBERS = 200  # of one read

Watch = Callable[[str, int], None]
"""Is told what is made, and how many of it are done."""


class Rebuild:
    """Makes every vector of one model anew, and drops those of others."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts
        self._embeddings = Embeddings(parts)
        self._model = parts.encoder.version

    async def vectors(self, watch: Watch) -> tuple[int, int]:
        """Make the vectors of all standing posts, and of the members who have one; return how many.

        A member who never opened a feed has none, and gets one then.
        """
        posts = await self._posts(watch)
        members = await self._members(watch)
        for query in (
            "drop_other_models",
            "drop_other_models_of_members",
            "drop_fallen_posts",
            "drop_fallen_members",
        ):
            async with self._parts.router.write() as session:
                await session.run(QUERIES[query], model_version=self._model)
        return posts, members

    async def _posts(self, watch: Watch) -> int:
        after, done = Key(0, 0), 0
        while True:
            async with self._parts.router.read() as session:
                rows = await session.rows(
                    QUERIES["standing_posts"],
                    PostKeyRow,
                    community_id=after.community_id,
                    id=after.id,
                    limit=STRETCH,
                )
            if not rows:
                return done
            keys = [row.key for row in rows]
            await self._embeddings.embed_posts(keys, Urgency.BACKLOG, anew=True)
            after, done = keys[-1], done + len(keys)
            watch("posts", done)

    async def _members(self, watch: Watch) -> int:
        after, done = Key(0, 0), 0
        while True:
            async with self._parts.router.read() as session:
                rows = await session.rows(
                    QUERIES["embedded_members"],
                    EmbeddedRow,
                    model_version=self._model,
                    community_id=after.community_id,
                    id=after.id,
                    limit=MEMBERS,
                )
            if not rows:
                return done
            for row in rows:
                await self._embeddings.embed_member(row.key, Urgency.BACKLOG, anew=True)
            after, done = rows[-1].key, done + len(rows)
            watch("members", done)
