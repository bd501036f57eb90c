"""From the pairs of a part to batches: the same ones for the same data, recipe, seed and step.

A batch depends on its step and on none before it, so a run that was killed goes on at its step as
if nothing had been.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed.examples.batch import ABSENT, Batch, Numbers, Rows, joined
from millrace.feed.examples.frequencies import Frequencies
from millrace.feed.examples.pairs import Pairs
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.reading import Examples, Part
from millrace.feed.examples.recalling import Recalling
from millrace.feed.examples.remembered import remembered
from millrace.feed.examples.standing_posts import StandingPosts
from millrace.feed.recipe import EncoderRecipe

LATELY_MAX = 50  # impressions before a moment, among which hard negatives are looked for too
TRIES_MAX = 8  # to draw a post that a member was not shown; after that there is one fewer
MEMBERS_KEPT_MAX = 10_000  # whose engagements are kept as a set
ORDER, DRAWS = 0, 1  # what a seed is used for; the two must not meet
EVERYBODY = 0


class Batches:
    """The batches of a run. An epoch has every pair once, in an order of its own."""

    def __init__(self, part: Part, prompted: Prompted, recipe: EncoderRecipe) -> None:
        """Take the part to learn from, its texts, and the switches."""
        self._examples: Examples = part.examples
        self._prompted = prompted
        self._recipe = recipe
        self._pairs = Pairs(part)
        self._standing = StandingPosts(part.examples)
        community = self._pairs.community
        self._group = community if recipe.same_community else np.full_like(community, EVERYBODY)
        self._frequencies = self._counted()
        self.remembered = None
        self._recalling = None
        if recipe.history_in == "pooled":
            limit = recipe.memory_posts_max
            self.remembered = remembered(part, self._pairs, self._standing, limit, recipe.seed)
            self._recalling = Recalling(
                self._examples, self._pairs, self._standing, self.remembered, recipe
            )
        self._epoch = lru_cache(2)(self._cut)
        self._engaged_set = lru_cache(MEMBERS_KEPT_MAX)(self._engaged_posts)
        self.steps_per_epoch = len(self._epoch(0))

    @property
    def pairs(self) -> int:
        """Return how many pairs an epoch has."""
        return len(self._pairs.moment)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        pairs = self._epoch(epoch)[place]
        draw = np.random.default_rng((self._recipe.seed, DRAWS, step))
        moments = self._pairs.moment[pairs]
        alone = draw.random(len(pairs)) < self._recipe.empty_history_share
        in_words = ~alone & (self._recalling is None)
        members = [
            self._prompted.member(moment, history=shown)
            for moment, shown in zip(moments.tolist(), in_words.tolist(), strict=True)
        ]
        positive = self._pairs.state[pairs]
        hard = self._hard(pairs, draw)
        random = self._random(pairs, draw)
        wanted = (positive, hard[hard != ABSENT], random)
        columns, place_of = np.unique(np.concatenate(wanted), return_inverse=True)
        ends = np.cumsum([len(one) for one in wanted])
        hard[hard != ABSENT] = place_of[ends[0] : ends[1]]
        posts: list[Numbers] = [self._prompted.post(state) for state in columns.tolist()]
        batch = Batch(
            step=step,
            members=joined(members),
            posts=joined(posts),
            positive=place_of[: ends[0]],
            hard=hard,
            random=np.unique(place_of[ends[1] :]),
            barred=self._barred(pairs, columns, place_of[: ends[0]]),
            log_q=self._frequencies.log_q(
                int(self._group[pairs[0]]), self._examples.post_of[columns]
            ),
            moments=moments,
        )
        return self._with_memory(batch, pairs, alone, columns, draw)

    def _with_memory(
        self,
        batch: Batch,
        pairs: Rows,
        alone: NDArray[np.bool_],
        states: Rows,
        draw: np.random.Generator,
    ) -> Batch:
        """Return a batch with what its pairs take from the memory of vectors, where there is one."""
        if self._recalling is None:
            return batch
        found = self._recalling.recall(pairs, alone, self._examples.post_of[states], draw)
        more = self._recalling.states(found.recalled)
        group, posts = int(self._group[pairs[0]]), self._examples.post_of[more]
        return replace(
            batch,
            barred=np.hstack((batch.barred, self._barred(pairs, more) | found.fell)),
            log_q=np.concatenate((batch.log_q, self._frequencies.log_q(group, posts))),
            recalled=found.recalled,
            also=found.also,
            history=found.history,
            ages_days=found.ages_days,
            columns=found.columns,
            who=found.who,
        )

    def _cut(self, epoch: int) -> list[Rows]:
        """Return the pairs of each batch of an epoch; batches of a group differ by one at most."""
        draw = np.random.default_rng((self._recipe.seed, ORDER, epoch))
        batches: list[Rows] = []
        for group in np.unique(self._group).tolist():
            pairs = draw.permutation(np.flatnonzero(self._group == group))
            batches += np.array_split(pairs, -(-len(pairs) // self._recipe.batch))
        order: list[int] = draw.permutation(len(batches)).tolist()
        return [batches[place] for place in order]

    def _hard(self, pairs: Rows, draw: np.random.Generator) -> Rows:
        """Return states that each pair's member was shown and never engaged with, or ABSENT."""
        found = np.full((len(pairs), self._recipe.hard), ABSENT, np.int64)
        if not self._recipe.hard:
            return found
        for row, pair in enumerate(pairs.tolist()):
            kept: dict[int, int] = {}
            without = self._engaged_set(int(self._pairs.member[pair]))
            for state in self._passed(int(self._pairs.moment[pair]), draw):
                post = int(self._examples.post_of[state])
                if post not in without:
                    kept.setdefault(post, state)
                if len(kept) == self._recipe.hard:
                    break
            found[row, : len(kept)] = list(kept.values())
        return found

    def _passed(self, moment: int, draw: np.random.Generator) -> Iterator[int]:
        """Yield states that a member passed by: in the moment, by chance, then the newest before."""
        examples = self._examples
        now = examples.shown[moment][~examples.engaged[moment]]
        yield from draw.permutation(now).tolist()
        past, done = examples.past[moment], examples.past_engaged[moment]
        yield from past[-LATELY_MAX:][~done[-LATELY_MAX:]][::-1].tolist()

    def _random(self, pairs: Rows, draw: np.random.Generator) -> Rows:
        """Return states that were drawn for members in turn: shown to none of them, though standing."""
        found: list[int] = []
        for number in range(self._recipe.random):
            pair = pairs[number % len(pairs)]
            moment = int(self._pairs.moment[pair])
            at = int(self._examples.at[moment])
            posts = self._standing.posts(
                int(self._pairs.community[pair]), at, self._pairs.shown_age_max
            )
            if not len(posts):
                continue
            tried = posts[draw.integers(0, len(posts), TRIES_MAX)]
            fresh = tried[~np.isin(tried, self._shown_or_engaged(pair, moment))]
            states = (self._standing.state(post, at) for post in fresh.tolist())
            author = self._examples.post_author
            found += [one for one in states if author[one] != self._pairs.member[pair]][:1]
        return np.array(found, np.int64)

    def _shown_or_engaged(self, pair: int, moment: int) -> Rows:
        """Return the posts of a pair's member that are no strangers to them."""
        examples = self._examples
        states = np.concatenate((examples.past[moment], examples.shown[moment]))
        return np.concatenate((examples.post_of[states], self._engaged(pair)))

    def _engaged_posts(self, member: int) -> frozenset[int]:
        return frozenset(self._pairs.engaged_by(member).tolist())

    def _engaged(self, pair: int) -> Rows:
        return self._pairs.engaged_by(int(self._pairs.member[pair]))

    def _barred(
        self, pairs: Rows, columns: Rows, positive: Rows | None = None
    ) -> NDArray[np.bool_]:
        """Return which columns may not be a pair's negatives."""
        examples = self._examples
        posts = examples.post_of[columns]
        homes = self._pairs.community[pairs]
        barred = ~self._pairs.met(homes, examples.post_community[columns])
        barred |= self._pairs.member[pairs][:, None] == examples.post_author[columns]
        theirs = np.zeros(examples.posts, np.bool_)
        for row, pair in enumerate(pairs.tolist()):
            engaged = self._engaged(pair)
            theirs[engaged] = True
            barred[row] |= theirs[posts]
            theirs[engaged] = False
        if positive is not None:
            barred[np.arange(len(pairs)), positive] = False
        return barred

    def _counted(self) -> Frequencies:
        """Return how often posts are in batches."""
        recipe, pairs = self._recipe, self._pairs
        drawn = recipe.random + (recipe.memory_negatives if recipe.history_in == "pooled" else 0)
        frequencies = Frequencies((recipe.batch, recipe.batch * recipe.hard, drawn))
        same = recipe.same_community
        passed = pairs.passed_community if same else np.full_like(pairs.passed_community, EVERYBODY)
        frequencies.count(0, self._group, self._examples.post_of[pairs.state])
        frequencies.count(1, passed, pairs.passed_post)
        for group in np.unique(self._group).tolist():
            count = self._standing.count(group) if same else self._examples.posts
            frequencies.stand(group, count)
        return frequencies
