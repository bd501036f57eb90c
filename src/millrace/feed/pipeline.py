"""How a feed is made: one page of named stages. Each keeps what it removed, and why.

    hydrate_member      profile, embedding, relations, what was seen, served, liked and hidden
    sources             network, retrieval (with every filter that can be a mask), exploration
    hydrate_candidates  rows and numbers, read through the one rule of visibility
    filters             audience, blocks, mutes, age, language; seen and delivered posts wait
    score               the probability of each action
    value               the sum over actions of probability times weight
    select              author decay, diversity, a slot for new authors, the length of a feed
    explain             one sentence for the member

The room records what comes out (room.py, record.py).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from millrace.community.percentiles import engagement_rate
from millrace.community.types import MemberCounts
from millrace.feed import features, filters, reasons, select
from millrace.feed.embeddings import Embeddings
from millrace.feed.hydration import Hydration
from millrace.feed.index import PostIndex
from millrace.feed.parts import FeedParts
from millrace.feed.prompts import v1
from millrace.feed.repository import reader
from millrace.feed.run import FRESH, SEEN, SERVED, Candidate, Request, Run, StageNote
from millrace.feed.scorer import Scorer
from millrace.feed.served import ServedFeeds
from millrace.feed.sources import EPOCH, Sources
from millrace.feed.types import Removal, StageTotal
from millrace.feed.value import Values

Stage = Callable[[Run], Awaitable[None]]
WAITING = {SEEN: "seen", SERVED: "served"}
MISSING_SHARE = 0.05  # of all posts; with more of them not embedded, the page says so
WAITING_REASONS = {
    SEEN: "the member has seen it, or did something with it",
    SERVED: "it was delivered a while ago, and waits behind what is new",
}


class Pipeline:
    """Makes one feed for one member."""

    def __init__(
        self,
        parts: FeedParts,
        index: PostIndex,
        embeddings: Embeddings,
        values: Values,
        progress: Callable[[], tuple[int, int]],
    ) -> None:
        """Take the feed's parts; `progress` says how many posts have a vector, and how many are."""
        self.served = ServedFeeds(parts.router)
        self.sources = Sources(parts, index)
        self.scorer: Scorer | None = None
        self._parts = parts
        self._index = index
        self._embeddings = embeddings
        self._hydration = Hydration(parts, embeddings, self.served)
        self._values = values
        self._progress = progress
        self._totals: dict[str, StageTotal] = {}
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
        for name, stage in self._stages:
            began, taken, gone = (
                self._parts.clock.monotonic(),
                len(run.candidates),
                len(run.removed),
            )
            await stage(run)
            removed = Counter(why.stage for _, why in run.removed[gone:])
            spent = (self._parts.clock.monotonic() - began) * 1000
            run.stages.append(StageNote(name, taken, len(run.candidates), dict(removed), spent))
        for note in run.stages:
            self._count(note)
        return run

    def totals(self) -> list[StageTotal]:
        """Return what every stage did since the start."""
        return list(self._totals.values())

    def _count(self, note: StageNote) -> None:
        before = self._totals.get(note.stage, StageTotal(stage=note.stage))
        self._totals[note.stage] = StageTotal(
            stage=note.stage,
            runs=before.runs + 1,
            seconds=before.seconds + note.milliseconds / 1000,
            taken=before.taken + note.taken,
            left=before.left + note.left,
            removed=dict(Counter(before.removed) + Counter(note.removed)),
        )

    async def _hydrate_member(self, run: Run) -> None:
        run.state = await self._hydration.member(run)
        run.versions |= {
            "encoder": self._parts.encoder.version,
            "prompt": v1.VERSION,
            "value": self._values.version,
            "member_embedding_position": run.state.embedding_position,
        }

    async def _sources(self, run: Run) -> None:
        run.candidates = await self.sources.propose(run)
        done, total = self._progress()
        if total - done > max(self._parts.config.embed_batch, MISSING_SHARE * total):
            run.degraded.append(
                f"nearness is known for {done:,} of {total:,} posts so far: the others are being read"
            )
        followed = run.request.follow
        if followed is None:
            return
        run.retrieved = self.sources.rank_of(run, followed)
        if all(one.key != followed for one in run.candidates):
            run.candidates.append(Candidate(key=followed))

    async def _hydrate_candidates(self, run: Run) -> None:
        keys = [one.key for one in run.candidates]
        viewer = reader(run.member.key, run.request.token)
        views, counts = await asyncio.gather(
            self._parts.posts.views(viewer, keys), self._embeddings.author_counts(keys)
        )
        found = {view.post.key: view for view in views}
        for one in run.candidates:
            one.view = found.get(one.key)
            if one.view is not None:
                one.author_counts = counts.get(one.view.post.author, MemberCounts())
        gone = "the member may not see it: removed, for another audience, or a block"
        run.candidates, missing = (
            [one for one in run.candidates if one.view is not None],
            [one for one in run.candidates if one.view is None],
        )
        run.removed.extend((one, Removal("visibility", gone)) for one in missing)

    async def _filters(self, run: Run) -> None:
        """Remove what is not for this member; keep seen and served posts only where new are few."""
        oldest = filters.oldest_at(run.request.now, self._parts.config.age_days_max, EPOCH)
        kept: list[Candidate] = []
        for one in run.candidates:
            found = filters.judged(run.member, one.shown, oldest)
            if found is not None:
                run.removed.append((one, Removal(*found)))
                continue
            one.tier = filters.tier_of(run.member, one.shown)
            if one.tier != FRESH and not run.exhausted:
                run.removed.append((one, Removal(WAITING[one.tier], WAITING_REASONS[one.tier])))
            elif not one.sources:
                run.removed.append((one, Removal("sources", self._not_proposed(run))))
            else:
                kept.append(one)
        run.candidates = kept

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
        """Compute features and probabilities; some hundred posts take a few milliseconds."""
        scales = await self._embeddings.scales([one.shown for one in run.candidates])
        self._similarities(run)
        scorer = self.scorer
        assert scorer is not None, "the room gives a scorer before the first run"
        run.versions["scorer"] = scorer.version
        near = self._near(run)
        examples = [
            features.example(
                one.shown,
                one.author_counts,
                engagement_rate(one.shown.counts),
                float(near[one.row]),
            )
            for one in run.candidates
        ]
        of = {community: found.of for community, found in scales.items()}
        run.features = await asyncio.to_thread(
            features.matrix, run.member.subject, examples, of, run.request.now
        )
        run.probabilities = scorer.probabilities(run.features)

    def _similarities(self, run: Run) -> None:
        """Give every candidate its row, and the run the vectors; zeros where there is none yet."""
        run.vectors = np.zeros((len(run.candidates), self._index.dims), dtype=np.float32)
        for row, one in enumerate(run.candidates):
            one.row = row
            slot = self._index.find(one.key)
            if slot is not None:
                run.vectors[row] = self._index.vectors([slot])[0]

    def _near(self, run: Run) -> NDArray[np.float32] | NDArray[np.float64]:
        vector = run.member.vector
        return np.zeros(len(run.candidates)) if vector is None else run.vectors @ vector

    async def _value(self, run: Run) -> None:
        for one, value in zip(run.candidates, self._values.of(run.probabilities), strict=True):
            one.value = one.score = float(value)

    async def _select(self, run: Run) -> None:
        config = self._parts.config
        if run.member.vector is None:
            found = select.by_recency(run.candidates)
        else:
            found = select.ordered(run.candidates, run.vectors, config)
        limit = config.ranked_max
        run.candidates = found[:limit]
        run.removed.extend(
            (one, Removal("select", f"place {place + 1} of {len(found)}; a feed holds {limit}"))
            for place, one in enumerate(found[limit:], limit)
        )
        run.exhausted = run.exhausted and len(found) <= limit

    async def _explain(self, run: Run) -> None:
        subject = run.member.subject
        for one in run.candidates:
            row = reasons.named(run.features[one.row].tolist())
            sources = frozenset(note.source for note in one.sources)
            one.reason = reasons.sentence(subject, one.shown, row, sources)
