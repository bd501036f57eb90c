"""Makers of candidates: network, retrieval, exploration."""

import asyncio
from datetime import UTC, datetime

from millrace.community.types import Key
from millrace.feed.filters import oldest_at
from millrace.feed.index import PostIndex, Scope
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES, ProposedRow, asked_by, columns
from millrace.feed.run import Candidate, Retrieved, Run
from millrace.feed.types import SourceNote
from millrace.store.queries import Query

NETWORK, RETRIEVAL, EXPLORATION = "network", "retrieval", "exploration"
FOLLOWED = "followed"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOLLOWED_EACH = 5  # newest posts of one followed author
FOLLOWED_AUTHORS_MAX = 500


class Sources:
    """Proposes posts. Each source gives its own order, and a note says how it got there."""

    def __init__(self, parts: FeedParts, index: PostIndex) -> None:
        self._parts = parts
        self._index = index

    async def propose(self, run: Run) -> list[Candidate]:
        """Return candidates of all sources: new posts, and where they are few the earlier ones."""
        member, config = run.member, self._parts.config
        earlier = member.seen | member.liked | member.served
        found: dict[Key, Candidate] = {}
        await self._all(run, found, earlier | member.hidden)
        # Fewer than a feed holds, though no source came to its limit: nothing new is left behind.
        most = config.network_max if member.vector is None else config.retrieval_max
        run.exhausted = len(found) < min(config.ranked_max, most)
        if run.exhausted and earlier:
            await self._all(run, found, member.hidden)
        return list(found.values())

    async def _all(self, run: Run, found: dict[Key, Candidate], without: frozenset[Key]) -> None:
        network, exploration = await asyncio.gather(
            self._network(run, without), self._exploration(run, without)
        )
        for rank, row in enumerate(network):
            _note(found, row.key, FOLLOWED if row.followed else NETWORK, rank, 1 / (1 + rank))
        for rank, row in enumerate(exploration):
            _note(found, row.key, EXPLORATION, rank, 1 / (1 + rank))
        for rank, (key, source, score) in enumerate(self._retrieval(run, without)):
            _note(found, key, source, rank, score)

    async def _network(self, run: Run, without: frozenset[Key]) -> list[ProposedRow]:
        """Return the newest posts of the own community and of followed authors."""
        follows = sorted(run.member.relations.follows - run.member.relations.hidden)
        return await self._rows(
            QUERIES["network_posts"],
            run,
            without,
            limit=self._parts.config.network_max,
            each=FOLLOWED_EACH,
            **columns(follows[:FOLLOWED_AUTHORS_MAX], "follow_communities", "follows"),
        )

    async def _exploration(self, run: Run, without: frozenset[Key]) -> list[ProposedRow]:
        """Return recent posts with few views by authors whom few know."""
        config = self._parts.config
        return await self._rows(
            QUERIES["new_author_posts"],
            run,
            without,
            limit=config.exploration_max,
            views_max=config.new_views_max,
            followers_max=config.new_followers_max,
            posts_max=config.new_posts_max,
        )

    async def _rows(
        self, query: Query, run: Run, without: frozenset[Key], **params: object
    ) -> list[ProposedRow]:
        member = run.member
        home = member.key.community_id
        mutes = member.relations.mutes
        async with self._parts.router.read(run.request.token) as session:
            return await session.rows(
                query,
                ProposedRow,
                **asked_by(member.key),
                **columns(sorted(without), "without_communities", "without_posts"),
                oldest=oldest_at(run.request.now, self._parts.config.age_days_max, EPOCH),
                languages=sorted(member.languages),
                muted=sorted(author.id for author in mutes if author.community_id == home),
                **params,
            )

    def _retrieval(self, run: Run, without: frozenset[Key]) -> list[tuple[Key, str, float]]:
        """Return the nearest posts; without a vector the newest ones, as a part of the network."""
        index, config = self._index, self._parts.config
        mask = index.mask(self.scope(run, without))
        vector = run.member.vector
        if vector is None:
            slots = index.newest(config.network_max, mask)
            return [(key, NETWORK, 1 / (1 + i)) for i, key in enumerate(index.keys(slots))]
        hits = index.search(vector, config.retrieval_max, mask)
        keys = index.keys(hits.slots)
        return [(key, RETRIEVAL, float(s)) for key, s in zip(keys, hits.scores, strict=True)]

    def scope(self, run: Run, without: frozenset[Key]) -> Scope:
        """Return what may be retrieved: every filter that can be a mask."""
        member = run.member
        return Scope(
            community_id=member.key.community_id,
            nearby=member.relations.nearby,
            languages=member.languages,
            created_after=oldest_at(run.request.now, self._parts.config.age_days_max, EPOCH),
            hidden_authors=member.relations.hidden | {member.key},
            without=without,
        )

    def rank_of(self, run: Run, key: Key) -> Retrieved | None:
        """Return where a post stands among all that retrieval could give; None if not among them."""
        member = run.member
        slot = self._index.find(key)
        if slot is None or member.vector is None:
            return None
        scope = self.scope(
            run, (member.seen | member.liked | member.served | member.hidden) - {key}
        )
        mask = self._index.mask(scope)
        if not mask[slot]:
            return None
        hits = self._index.search(member.vector, len(self._index), mask)
        places = (hits.slots == slot).nonzero()[0]
        place = int(places[0])
        return Retrieved(place, float(hits.scores[place]), self._parts.config.retrieval_max)


def _note(found: dict[Key, Candidate], key: Key, source: str, rank: int, score: float) -> None:
    """Add a source's note to a post's candidate; a source that proposed it before adds none."""
    one = found.get(key)
    if one is None:
        one = found[key] = Candidate(key=key)
    name = NETWORK if source == FOLLOWED else source
    if all(note.source != name for note in one.sources):
        one.sources.append(SourceNote(name, rank, score))
