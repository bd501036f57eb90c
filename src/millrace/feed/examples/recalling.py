"""What a batch takes from the memory of vectors: histories, and negatives that cost nothing. Pure."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.examples.batch import ABSENT, Rows
from millrace.feed.examples.pairs import Pairs
from millrace.feed.examples.reading import Examples
from millrace.feed.examples.remembered import Remembered
from millrace.feed.examples.standing_posts import StandingPosts
from millrace.feed.recipe import EncoderRecipe

MICROS_PER_DAY = 86_400_000_000


class Recalled(Struct, frozen=True, kw_only=True):
    """What a batch takes from the memory; the fields are those of `Batch`.

    fell: whether a recalled post did not stand at the moment of a pair. Shape: (pairs, recalled).
    also: whether the pair's member engaged with a column afterwards, which stood already. Shape:
        (pairs, columns + recalled).
    """

    recalled: Rows
    history: Rows
    ages_days: NDArray[np.float32]
    columns: Rows
    who: Rows
    fell: NDArray[np.bool_]
    also: NDArray[np.bool_]


class Recalling:
    """Finds what batches take from the memory of a part."""

    def __init__(
        self,
        examples: Examples,
        pairs: Pairs,
        standing: StandingPosts,
        known: Remembered,
        recipe: EncoderRecipe,
    ) -> None:
        """Take the pairs of a part, and what is remembered of it."""
        self._examples = examples
        self._pairs = pairs
        self._standing = standing
        self._known = known
        self._recipe = recipe
        self._by_member = np.argsort(pairs.member, kind="stable")  # in the order of time for each
        self._members = pairs.member[self._by_member]

    def states(self, recalled: Rows) -> Rows:
        """Return the states of posts, by their rows in the memory."""
        return self._known.states[recalled]

    def recall(
        self, pairs: Rows, alone: NDArray[np.bool_], posts: Rows, draw: np.random.Generator
    ) -> Recalled:
        """Return what some pairs take from the memory.

        Args:
            pairs: rows of the pairs.
            alone: which of them are without a history.
            posts: of each column that has a text.
            draw: of the batch.
        """
        known = self._known
        columns = _once(known.row_of_post[posts])
        rows, ages = self._histories(pairs, alone)
        drawn = self._drawn(pairs, draw)
        later = [self._later(pair) for pair in pairs.tolist()]
        wanted = np.unique(np.concatenate((rows[rows != ABSENT], drawn, *later)))
        recalled = np.setdiff1d(wanted, columns)
        everything = np.concatenate((columns, recalled))
        begin = self._standing.begin[self._examples.post_of[known.states[recalled]]]
        at = self._examples.at[self._pairs.moment[pairs]][:, None]
        return Recalled(
            recalled=recalled,
            history=_places(rows, columns, recalled),
            ages_days=ages,
            columns=columns,
            who=_once(known.row_of_member[self._pairs.member[pairs]]),
            fell=(begin >= at) | (begin < at - self._pairs.shown_age_max),
            also=np.stack([np.isin(everything, one) for one in later]),
        )

    def _later(self, pair: int) -> Rows:
        """Return rows of posts that stood at a pair's moment and were engaged with since; not its own."""
        if not self._recipe.later_positives:
            return np.empty(0, np.int64)
        pairs, examples = self._pairs, self._examples
        member = int(pairs.member[pair])
        low = int(np.searchsorted(self._members, member))
        theirs = self._by_member[low : int(np.searchsorted(self._members, member + 1))]
        theirs = theirs[pairs.moment[theirs] >= pairs.moment[pair]]
        posts = examples.post_of[pairs.state[theirs]]
        begin, at = self._standing.begin[posts], examples.at[pairs.moment[pair]]
        stood = (begin < at) & (begin >= at - pairs.shown_age_max)
        rows = self._known.row_of_post[
            posts[stood & (posts != examples.post_of[pairs.state[pair]])]
        ]
        return rows[rows != ABSENT]

    def _histories(self, pairs: Rows, alone: NDArray[np.bool_]) -> tuple[Rows, NDArray[np.float32]]:
        """Return what each member had engaged with, as rows of the memory, and how long ago."""
        shape = (len(pairs), self._recipe.history_posts_max)
        rows, ages = np.full(shape, ABSENT, np.int64), np.zeros(shape, np.float32)
        examples, most = self._examples, shape[1]
        for place in np.flatnonzero(~alone).tolist():
            moment = int(self._pairs.moment[pairs[place]])
            found = self._known.row_of_post[examples.post_of[examples.positives[moment]]]
            passed = (examples.at[moment] - examples.positives_at(moment)) / MICROS_PER_DAY
            kept = np.flatnonzero(found != ABSENT)[-most:]
            rows[place, : len(kept)] = found[kept]
            ages[place, : len(kept)] = passed[kept]
        return rows, ages

    def _drawn(self, pairs: Rows, draw: np.random.Generator) -> Rows:
        """Return rows of posts that stood at moments of the pairs, drawn for them in turn."""
        most = self._recipe.memory_negatives
        each = -(-most // len(pairs))
        found = [np.empty(0, np.int64)]
        for pair in pairs[:most].tolist():
            at = int(self._examples.at[self._pairs.moment[pair]])
            home, age_max = int(self._pairs.community[pair]), self._pairs.shown_age_max
            posts = self._known.row_of_post[self._standing.posts(home, at, age_max)]
            posts = posts[posts != ABSENT]
            few = len(posts) > each
            found.append(draw.choice(posts, each, replace=False) if few else posts)
        return np.unique(np.concatenate(found))


def _once(rows: Rows) -> Rows:
    """Return rows with ABSENT in place of all but the first of equal ones."""
    kept = np.full_like(rows, ABSENT)
    _, first = np.unique(rows, return_index=True)
    kept[first] = rows[first]
    return kept


def _places(rows: Rows, columns: Rows, recalled: Rows) -> Rows:
    """Return the columns that rows of the memory have: of a text, or behind them all."""
    everything = np.concatenate((columns, recalled))
    order = np.argsort(everything, kind="stable")
    found = order[np.searchsorted(everything, rows, sorter=order).clip(max=len(order) - 1)]
    return np.where(rows == ABSENT, ABSENT, found)
