"""How a feed is made: one page of named stages. Each keeps what it removed, and why.

    hydrate_member      profile, embedding, relations, what was seen, served, liked and hidden
    sources             network, retrieval (with every filter that can be a mask), exploration
    hydrate_candidates  the columns that filters look at, from memory
    filters             audience, blocks, mutes, age, language; seen and delivered posts wait
    score               the probability of each action
    value               the sum over actions of probability times weight
    select              author decay, diversity, a slot for new authors, the length of a feed
    explain             one sentence for the member

Everything about posts is read from the catalogue, which follows the change stream. The room
records what comes out, and reads the posts of the page through the one rule of visibility
(room.py, record.py).
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed import filters, ranking, select
from millrace.feed.catalogue import Catalogue
from millrace.feed.embeddings import Embeddings
from millrace.feed.hydration import Hydration, MemberCaches, MemberMaker
from millrace.feed.parts import FeedParts
from millrace.feed.pooled_history import parts
from millrace.feed.prompts import v2
from millrace.feed.ranking_turn import RankingTurn
from millrace.feed.run import SEEN, SERVED, Removed, Request, Run, StageNote, on_grid
from millrace.feed.scorer import Scorer
from millrace.feed.scorers import Scorers
from millrace.feed.served import ServedFeeds
from millrace.feed.sources import EPOCH, Sources
from millrace.feed.standing import Standings
from millrace.feed.types import StageTotal
from millrace.feed.value import Values
from millrace.feed.variants import ENCODER_FLAG, NEWEST, SCORER_FLAG, Fault, Variants

Stage = Callable[[Run], Awaitable[None]]
WAITING = (
    (SEEN, "seen", "the member has seen it, or did something with it"),
    (SERVED, "served", "it was delivered a while ago, and waits behind what is new"),
)
MISSING_SHARE = 0.05  # of all posts; with more of them not embedded, the page says so


class Pipeline:
    """Makes one feed for one member."""

    def __init__(
        self,
        parts: FeedParts,
        catalogue: Catalogue,
        embeddings: Embeddings,
        maker: MemberMaker,
        values: Values,
    ) -> None:
        self.served = ServedFeeds(parts.router)
        self.scorers = Scorers(parts)
        self.variants = Variants(parts.config, values, parts.switches)
        self._parts = parts
        self._catalogue = catalogue
        self._embeddings = embeddings
        self.members = MemberCaches(parts, embeddings, catalogue)
        self.sources = Sources(catalogue, self.members.slots)
        self._hydration = Hydration(parts, maker, self.served, self.members, catalogue)
        self._values = values
        self._standings = Standings()
        self._totals: dict[str, StageTotal] = {}
        self._turn = RankingTurn()
        self._stages: tuple[tuple[str, Stage], ...] = (
            ("hydrate_member", self._hydrate_member),
            ("sources", self._sources),
            ("hydrate_candidates", self._hydrate_candidates),
            ("filters", self._filters),
            ("score", self._score),
            ("value", self._value),
            ("select", self._select),
            ("explain", self._explain),
        )

    async def run(self, request: Request) -> Run:
        """Run every stage. Nothing is recorded.

        Passes on:
            NotFoundError: there is no such member.
        """
        run = Run(request=request)
        hydrate, *rank = self._stages
        await self._staged(run, [hydrate])
        async with self._turn:
            await self._staged(run, rank)
        for note in run.stages:
            self._count(note)
        return run

    async def _staged(self, run: Run, stages: Sequence[tuple[str, Stage]]) -> None:
        """Run some stages, and note what each took, left and removed."""
        monotonic = self._parts.clock.monotonic
        for name, stage in stages:
            began, taken, gone = monotonic(), len(run.candidates), len(run.removed)
            await stage(run)
            removed: dict[str, int] = {}
            for one in run.removed[gone:]:
                removed[one.stage] = removed.get(one.stage, 0) + len(one.posts)
            spent = (monotonic() - began) * 1000
            run.stages.append(StageNote(name, taken, len(run.candidates), removed, spent))

    def totals(self) -> list[StageTotal]:
        """Return what every stage did since the start."""
        return list(self._totals.values())

    def _count(self, note: StageNote) -> None:
        before = self._totals.get(note.stage) or StageTotal(stage=note.stage)
        removed = before.removed
        if note.removed:
            names = before.removed.keys() | note.removed.keys()
            removed = {n: before.removed.get(n, 0) + note.removed.get(n, 0) for n in names}
        self._totals[note.stage] = StageTotal(
            stage=note.stage,
            runs=before.runs + 1,
            seconds=before.seconds + note.milliseconds / 1000,
            taken=before.taken + note.taken,
            left=before.left + note.left,
            removed=removed,
        )

    async def _hydrate_member(self, run: Run) -> None:
        run.plan = self.variants.plan(run.request.member, run.request.app)
        self._choose_encoder(run)
        run.state = await self._hydration.member(run)
        pooled = run.state.pool is not None
        scorer = await self.scorers.of(run.plan.scorer, run.encoder, pooled=pooled)
        if scorer is None:
            scorer = await self._unscored(run)
        run.scorer = scorer
        run.versions |= {
            "encoder": run.encoder,
            "prompt": v2.VERSION,
            "value": (run.plan.values or self._values).version,
            "scorer": scorer.version,
            "member_embedding_position": run.state.embedding_position,
        }

    def _choose_encoder(self, run: Run) -> None:
        """Choose whose vectors this feed compares: of its member, and of every post."""
        catalogue, named = self._catalogue, run.plan.encoder
        version = catalogue.called.get(named) if named else catalogue.version
        if version is None:
            told = f"the encoder {named!r} is not ready, or there is none of that name"
            self._disobey(run, ENCODER_FLAG, told)
        run.encoder = version or catalogue.version
        run.index = catalogue.indexes[run.encoder]

    def _disobey(self, run: Run, flag: str, told: str) -> None:
        """Note that a flag names what there is not, and why it was not obeyed."""
        plan = run.plan
        left = {key: one for key, one in plan.variants.items() if key != flag}
        run.plan = replace(plan, variants=left, faults=plan.faults | {flag: told})
        self.variants.count_fault(flag, Fault.UNKNOWN)

    async def _unscored(self, run: Run) -> Scorer:
        """Return the scorer that serves, because the one that a flag names is not there."""
        told = f"there is no scorer {run.plan.scorer!r} that this release understands"
        self._disobey(run, SCORER_FLAG, told)
        pooled = run.member.pool is not None
        found = await self.scorers.of(NEWEST, run.encoder, pooled=pooled)
        assert found is not None, "one always serves"
        return found

    async def _sources(self, run: Run) -> None:
        run.candidates = await self.sources.propose(run)
        done, total = len(run.index), run.index.posts
        if total - done > max(self._parts.config.embed_batch, MISSING_SHARE * total):
            run.degraded.append(
                f"nearness is known for {done:,} of {total:,} posts so far: the others are being read"
            )
        followed = run.request.follow
        if followed is None or run.candidates.place(followed) is not None:
            return
        slot = self._catalogue.slot(followed)
        if slot is None:
            run.unknown = "the index has not heard of it yet"
            return
        run.retrieved = self.sources.rank_of(run, followed)
        run.candidates = self.sources.followed(run, slot)

    async def _hydrate_candidates(self, run: Run) -> None:
        """Put beside the candidates what the member knows of them; the rest is in the columns.

        From here on nothing is waited for: slots and columns belong together until the next await.
        """
        communities = np.unique(run.candidates.ids[:, 1]).tolist()
        self._standings.put({c: await self._parts.percentiles.scales(c) for c in communities})
        run.candidates.tier = filters.tiers_of(run.known, run.candidates, run.index.capacity)

    async def _filters(self, run: Run) -> None:
        """Remove what is not for this member; keep seen and served posts only where new are few."""
        oldest = filters.oldest_at(run.request.now, run.plan.config.age_days_max, EPOCH)
        found = run.candidates
        posts = filters.judging(run, self._catalogue, oldest)
        gone = [
            (name, mask, [filters.reason(name, posts, int(at)) for at in np.flatnonzero(mask)])
            for name, mask in filters.judged(posts)
        ]
        left = np.ones(len(found), dtype=np.bool_)
        for _, mask, _ in gone:
            left &= ~mask
        if not run.exhausted:
            for tier, name, reason in WAITING:
                mask = left & (found.tier == tier)
                gone.append((name, mask, [reason] * int(mask.sum())))
                left &= ~mask
        unsaid = left & (found.ranks < 0).all(axis=1)
        gone.append(("sources", unsaid, [self._not_proposed(run)] * int(unsaid.sum())))
        run.removed.extend(
            Removed(name, found.take(mask), reasons) for name, mask, reasons in gone if reasons
        )
        left &= ~unsaid
        run.candidates = found if left.all() else found.take(left)

    def _not_proposed(self, run: Run) -> str:
        """Return why no source proposed the post that is followed."""
        found = run.retrieved
        if found is None:
            return "no source proposed it, and it has no embedding to be retrieved by"
        return (
            f"no source proposed it: rank {found.rank + 1} in retrieval "
            f"(cosine {found.score:.3f}), and the first {found.cutoff} are taken"
        )

    async def _score(self, run: Run) -> None:
        """Compute features and probabilities of all candidates."""
        posts, member, scorer = run.candidates, run.member, run.scorer
        assert scorer is not None, "hydrate_member comes first"
        posts.row = np.arange(len(posts), dtype=np.int32)
        run.vectors = run.index.vectors(posts.slots)
        near = _unknown_in_the_middle(scorer.near(run.vectors, member.vector), run.vectors)
        run.ages = ranking.ages_of(self._catalogue, posts, run.request.now)
        run.features = ranking.features_of(
            self._catalogue, member.subject, posts, on_grid(near), self._standings, run.ages
        )
        run.model = self.scorers.linear(scorer, run.plan.off, pooled=member.pool is not None)
        run.probabilities = run.model.of(run.features)

    async def _value(self, run: Run) -> None:
        values = run.plan.values or self._values
        run.weights = values.weights
        run.candidates.value = run.candidates.score = values.of(run.probabilities)

    async def _select(self, run: Run) -> None:
        config = run.plan.config
        if run.member.vector is None:
            found = select.by_recency(run.candidates)
        else:
            found = select.ordered(run.candidates, run.vectors, run.plan)
        limit, count = config.ranked_max, len(found)
        run.candidates = found.take(slice(limit))
        if count > limit:
            reasons = _beyond(limit, count)
            run.removed.append(Removed("select", found.take(slice(limit, None)), reasons))
        run.exhausted = run.exhausted and count <= limit

    async def _explain(self, run: Run) -> None:
        pool = run.member.pool
        if pool is not None:
            run.parts = parts(pool, run.vectors[run.candidates.row])
        run.reasons = ranking.sentences(
            self._catalogue,
            run.member.subject,
            run.candidates,
            run.features,
            pooled=pool is not None,
        )


def _unknown_in_the_middle(
    near: NDArray[np.float64], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return nearness where a post without a vector stands in the middle of those with one.

    It was written a moment ago, and nobody knows yet what it is near to; nought would call it the
    farthest, and hold back what followers wait for until it is embedded.

    Args:
        near: of each post, in its columns. Shape: (n, columns).
        vectors: of the same posts, zeros where there is none. Shape: (n, dims).
    """
    unknown = ~vectors.any(axis=1)
    if unknown.any() and not unknown.all():
        near[unknown] = np.median(near[~unknown], axis=0)
    return near


@lru_cache(maxsize=64)  # a few hundred sentences, and the same ones in most feeds
def _beyond(limit: int, count: int) -> list[str]:
    """Return why each post behind the end of a feed is not in it. Nobody may change the list."""
    return [
        f"place {place} of {count}; a feed holds {limit}" for place in range(limit + 1, count + 1)
    ]
