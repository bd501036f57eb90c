"""Makers of candidates: network, retrieval, exploration. All from memory.

Each gives its own order, and a note says how a post got there. Who may be shown what is a mask
over the slots, made once per request.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import numpy as np
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.catalogue import AUTHOR_COUNTS, POST_COUNTS, Catalogue
from millrace.feed.filters import oldest_at
from millrace.feed.index import Mask, PostIndex, Slots, Vector
from millrace.feed.known import KnownSlots
from millrace.feed.run import (
    NETWORK,
    SOURCES,
    Candidates,
    Known,
    Retrieved,
    Run,
    candidates,
    on_grid,
)
from millrace.feed.scanning import Scanner, end, search_thread
from millrace.feed.select import earlier_alike
from millrace.feed.slot_table import Scope
from millrace.feed.types import FeedConfig

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOLLOWED_EACH = 5  # newest posts of one followed author
FOLLOWED_AUTHORS_MAX = 500
RECENT = 500  # newest posts of the own community among which exploration looks
VIEWS = POST_COUNTS.index("views")
FOLLOWERS, POSTS = AUTHOR_COUNTS.index("followers"), AUTHOR_COUNTS.index("posts")


class Proposal(Struct):
    """What one source gives: slots in its order, with its scores."""

    source: str
    slots: Slots
    scores: Vector


class Sources:
    """Proposes posts."""

    def __init__(self, catalogue: Catalogue, slots: KnownSlots) -> None:
        self._catalogue = catalogue
        self._thread = search_thread()  # one for all indexes: whoever is dropped leaves nothing
        self._slots = slots

    def close(self) -> None:
        """End the thread that searches."""
        end(self._thread)

    async def propose(self, run: Run) -> Candidates:
        """Return candidates of all sources: new posts, and where they are few the earlier ones."""
        member, config = run.member, run.plan.config
        index = run.index
        run.known = known = Known(
            seen=np.concatenate([self._slots.of(member.seen), self._slots.of(member.liked)]),
            served=_every([self._slots.of(one) for one in member.served]),
            hidden=index.slots(member.hidden),
        )
        earlier = np.concatenate([known.seen, known.served])
        found = await self._all(run, np.concatenate([earlier, known.hidden]))
        # Fewer than a feed holds, though no source came to its limit: nothing new is left behind.
        most = config.network_max if member.vector is None else config.retrieval_max
        run.exhausted = len(found) < min(config.ranked_max, most)
        if run.exhausted and len(earlier):
            found = _joined(found, await self._all(run, known.hidden), index)
        return found

    async def _all(self, run: Run, without: Slots) -> Candidates:
        index, config = run.index, run.plan.config
        mask, births = index.mask(self.scope(run)), index.births
        mask[without] = False
        home = index.home(run.member.key.community_id)
        home &= mask
        newest = index.latest(max(RECENT, config.network_max), np.flatnonzero(home))
        proposals = [self._network(run, mask, newest), self._exploration(newest[:RECENT], config)]
        vector = run.member.vector
        if vector is None:
            proposals.append(_ranked(NETWORK, index.newest(config.network_max, mask)))
        else:
            hits = await Scanner(index, thread=self._thread).search(
                vector, config.retrieval_max, mask
            )
            proposals.append(Proposal(SOURCES[2], hits.slots, on_grid(hits.scores)))
        return self._merged(proposals, births, index)

    def _network(self, run: Run, mask: Mask, newest: Slots) -> Proposal:
        """Return the newest posts of followed authors, then those of the own community."""
        index, config = run.index, run.plan.config
        follows: Collection[Key] = run.member.relations.follows - run.member.relations.hidden
        if len(follows) > FOLLOWED_AUTHORS_MAX:  # the same ones each time
            follows = sorted(follows)[:FOLLOWED_AUTHORS_MAX]
        slots: list[int] = []
        for number in index.author_numbers(follows).tolist():
            slots.extend(index.slots_of_author(number))
        followed = np.array(slots, dtype=np.int64)
        followed = followed[mask[followed]]
        followed = self._newest_each(index.latest(len(followed), followed))
        newest = newest[: config.network_max]
        rest = newest[~np.isin(newest, followed)]
        return _ranked(NETWORK, np.concatenate([followed, rest])[: config.network_max])

    def _newest_each(self, slots: Slots) -> Slots:
        """Return the first few of each author, in the order that they have."""
        authors = self._catalogue.index.authors_of(slots)
        return slots[earlier_alike(authors) < FOLLOWED_EACH]

    def _exploration(self, recent: Slots, config: FeedConfig) -> Proposal:
        """Return recent posts with few views by authors whom few know."""
        catalogue = self._catalogue
        author = catalogue.author_counts(recent)
        new = catalogue.counts(recent)[:, VIEWS] <= config.new_views_max
        new &= author[:, FOLLOWERS] <= config.new_followers_max
        new &= author[:, POSTS] <= config.new_posts_max
        return _ranked(SOURCES[1], recent[new][: config.exploration_max])

    def _merged(self, proposals: list[Proposal], births: int, index: PostIndex) -> Candidates:
        """Return every proposed post once, with what each source said of it.

        Of two lists of one source the first one counts. What was cleared or given away while a
        search ran is left out.
        """
        slots, places = np.unique(
            np.concatenate([one.slots for one in proposals]), return_inverse=True
        )
        ranks = np.full((len(slots), len(SOURCES)), -1, dtype=np.int32)
        scores = np.zeros((len(slots), len(SOURCES)), dtype=np.float32)
        start = 0
        for one in proposals:
            rows = places[start : start + len(one.slots)]
            start += len(one.slots)
            column = SOURCES.index(one.source)
            unsaid = ranks[rows, column] < 0
            ranks[rows[unsaid], column] = np.flatnonzero(unsaid)
            scores[rows[unsaid], column] = one.scores[unsaid]
        there = index.still(slots, births)
        slots = slots[there]
        return candidates(slots, index, ranks[there], scores[there])

    def followed(self, run: Run, slot: int) -> Candidates:
        """Return the candidates with a post among them that no source proposed."""
        slots = np.append(run.candidates.slots, slot)
        unsaid = np.full((1, len(SOURCES)), -1, dtype=np.int32)
        return candidates(
            slots,
            self._catalogue.index,
            np.concatenate([run.candidates.ranks, unsaid]),
            np.concatenate(
                [run.candidates.scores_there, np.zeros((1, len(SOURCES)), dtype=np.float32)]
            ),
        )

    def scope(self, run: Run) -> Scope:
        """Return what may be proposed: every filter that can be a mask, single posts aside."""
        member = run.member
        return Scope(
            community_id=member.key.community_id,
            nearby=member.relations.nearby,
            languages=member.languages,
            created_after=oldest_at(run.request.now, run.plan.config.age_days_max, EPOCH),
            hidden_authors=member.relations.hidden | {member.key},
        )

    def rank_of(self, run: Run, key: Key) -> Retrieved | None:
        """Return where a post stands among all that retrieval could give; None if not among them."""
        member, index = run.member, run.index
        slot = index.find(key)
        if slot is None or member.vector is None:
            return None
        mask = index.mask(self.scope(run))
        if not mask[slot]:
            return None
        mask[run.known.every] = False
        mask[slot] = True
        hits = index.search(member.vector, index.posts, mask)
        place = int((hits.slots == slot).nonzero()[0][0])
        return Retrieved(place, float(hits.scores[place]), run.plan.config.retrieval_max)


def _every(parts: Sequence[Slots]) -> Slots:
    """Return the slots of all parts."""
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _ranked(source: str, slots: Slots) -> Proposal:
    """Return a proposal of a source that has an order and no scores of its own."""
    return Proposal(source, slots, (1 / np.arange(1, len(slots) + 1)).astype(np.float32))


def _joined(first: Candidates, second: Candidates, index: PostIndex) -> Candidates:
    """Return what either has; of a post in both, what the first said, where it said something."""
    slots = np.concatenate([first.slots, second.slots])
    _, places = np.unique(slots, return_index=True)
    found = candidates(
        slots[places],
        index,
        np.concatenate([first.ranks, second.ranks])[places],
        np.concatenate([first.scores_there, second.scores_there])[places],
    )
    # A post of the first that the second pass found by another source gets that note, too.
    rows = np.searchsorted(found.slots, second.slots)
    more = (found.ranks[rows] < 0) & (second.ranks >= 0)
    found.ranks[rows] = np.where(more, second.ranks, found.ranks[rows])
    found.scores_there[rows] = np.where(more, second.scores_there, found.scores_there[rows])
    return found
