"""From values to an order: author decay, diversity, a slot for new authors. Pure.

Every change of a score stays in the columns of the posts: what it was before, what it is after and
why. In words they are the adjustments of a record (records/v3.py).
"""

from collections import deque

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed.index import Mask, Slots
from millrace.feed.run import BY_RECENCY, EXPLORATION, FRESH, SOURCES, Candidates
from millrace.feed.types import FeedConfig
from millrace.feed.variants import Plan

DECAY, FLOOR = 0.5, 0.8  # author decay: 1, 0.9, 0.85, 0.825 ... towards 0.8; decision 0119
NOTED = 1e-9  # a smaller change is no adjustment


def ordered(posts: Candidates, vectors: NDArray[np.float32], plan: Plan) -> Candidates:
    """Return the candidates in the order of the feed: new ones before delivered and seen ones.

    Args:
        posts: with their value as score.
        vectors: unit vectors by `row` of a candidate; zeros where there is none.
        plan: how strong each adjustment is.
    """
    posts, config = _begun(posts), plan.config
    order: list[Slots] = []
    for tier in np.unique(posts.tier).tolist():
        mine = _sorted(posts, np.flatnonzero(posts.tier == tier))
        if plan.author_decay:
            mine = decayed(posts, mine)
        mine = diverse(posts, mine, vectors, config)
        order.append(explored(posts, mine, config) if tier == FRESH else mine)
    return posts.take(np.concatenate(order)) if order else posts


def by_recency(posts: Candidates) -> Candidates:
    """Return the candidates newest first, tiers kept: for a feed without an embedding."""
    order = np.lexsort((posts.ids[:, 1], -posts.ids[:, 0], posts.tier))
    posts = _begun(posts).take(order)
    posts.score = 1.0 / np.arange(1, len(posts) + 1)
    posts.lifted = np.full(len(posts), BY_RECENCY, dtype=np.int32)
    return posts


def decay(earlier: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what a post keeps of its score behind so many of the same author."""
    return (1 - FLOOR) * np.power(DECAY, earlier, dtype=np.float64) + FLOOR


def decayed(posts: Candidates, rows: Slots) -> Slots:
    """Lower an author's second and later posts; return the new order."""
    behind = earlier_alike(posts.authors[rows])
    score = posts.score[rows]
    score -= (1 - decay(behind)) * np.abs(score)  # a score below zero falls, too
    posts.behind[rows] = behind
    posts.score[rows] = posts.decayed[rows] = posts.spread[rows] = score
    return _sorted(posts, rows)


def diverse(
    posts: Candidates, rows: Slots, vectors: NDArray[np.float32], config: FeedConfig
) -> Slots:
    """Lower what is near to a post above: maximal marginal relevance over the best.

    The price of nearness is a share of the spread of scores, so that it means the same whatever
    the weights are. Scores never rise down the list.
    """
    top, rest = rows[: config.diverse_max], rows[config.diverse_max :]
    if len(top) < 2 or config.diversity <= 0:
        return rows
    left = posts.score[top]
    price = config.diversity * float(left.max() - left.min())
    mine = vectors[posts.row[top]]
    alike = (mine @ mine.T).astype(np.float64) * price
    left_beside = left - alike  # what is left of each post below each other one
    best = left.copy()  # what is left below all that were chosen
    order = np.empty(len(top), dtype=np.int64)
    for step in range(len(top)):
        place = int(best.argmax())
        order[step] = place
        np.minimum(best, left_beside[place], out=best)
        best[place] = -np.inf  # and stays so: it is chosen once
    paid = np.zeros(len(top))
    above = np.tri(
        len(top), k=-1, dtype=np.bool_
    ).T  # of each column the rows that were chosen before
    paid[order] = np.where(above, alike[order][:, order], 0.0).max(axis=0)
    noted = paid > NOTED
    posts.near[top[noted]] = paid[noted] / price
    posts.score[top[noted]] -= paid[noted]
    chosen = top[order]
    last = posts.score[chosen[-1]]
    lower = rest[posts.score[rest] - last > NOTED]
    posts.near[lower] = -len(top)
    posts.score[lower] = last
    found = np.concatenate([chosen, rest])
    posts.spread[found] = posts.score[found]
    return found


def explored(posts: Candidates, rows: Slots, config: FeedConfig) -> Slots:
    """Lift one new author into each stretch of the feed that has none up to its slot."""
    column = SOURCES.index(EXPLORATION)
    places: deque[int] = deque(np.flatnonzero(posts.ranks[rows, column] >= 0).tolist())
    found: list[int] = rows.tolist()
    start = 0
    while (slot := start + config.exploration_slot) < len(found):
        while places and places[0] < start:
            places.popleft()
        if not places:
            break
        if places[0] > slot:  # those between move down, and none of them is new
            row = found.pop(places[0])
            places[0] = slot
            posts.score[row] = posts.score[found[slot]]
            posts.lifted[row] = slot
            found.insert(slot, row)
        start += config.exploration_every
    return np.array(found, dtype=np.int64)


def earlier_alike(values: Slots) -> Slots:
    """Return how many equal values stand before each one."""
    order = np.argsort(values, kind="stable")
    ordered_values = values[order]
    new: Mask = np.ones(len(values), dtype=np.bool_)
    new[1:] = ordered_values[1:] != ordered_values[:-1]
    starts = np.flatnonzero(new)
    found = np.empty(len(values), dtype=np.int64)
    found[order] = np.arange(len(values)) - starts[np.cumsum(new) - 1]
    return found


def _begun(posts: Candidates) -> Candidates:
    """Return the posts with columns of their own for what selection writes."""
    return replace(
        posts,
        score=posts.value.copy(),
        decayed=posts.value.copy(),
        spread=posts.value.copy(),
        behind=np.zeros(len(posts), dtype=np.int32),
        near=np.full(len(posts), np.nan),
        lifted=np.full(len(posts), -1, dtype=np.int32),
    )


def _sorted(posts: Candidates, rows: Slots) -> Slots:
    """Return the rows by score; ties go to the newest id, so that an order is one order."""
    ids = posts.ids[rows]
    return rows[np.lexsort((ids[:, 1], -ids[:, 0], -posts.score[rows]))]
