"""From values to an order: author decay, diversity, a slot for new authors. Pure.

Every change of a score is kept as an Adjustment with before and after.
"""

import numpy as np
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed.run import FRESH, Candidate
from millrace.feed.types import FeedConfig

DECAY, FLOOR = 0.5, 0.25  # author decay (x-algorithm): 1, 0.625, 0.4375, 0.344 ... towards 0.25
NOTED = 1e-9  # a smaller change is no adjustment
EXPLORATION = "exploration"


def ordered(
    candidates: list[Candidate], vectors: NDArray[np.float32], config: FeedConfig
) -> list[Candidate]:
    """Return the candidates in the order of the feed: new ones before delivered and seen ones.

    Args:
        candidates: with their value as score.
        vectors: unit vectors by `row` of a candidate; zeros where there is none.
        config: how strong each adjustment is.
    """
    found: list[Candidate] = []
    for tier in sorted({one.tier for one in candidates}):
        mine = _sorted([one for one in candidates if one.tier == tier])
        mine = decayed(mine)
        mine = diverse(mine, vectors, config)
        found.extend(explored(mine, config) if tier == FRESH else mine)
    return found


def by_recency(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates newest first, tiers kept: for a feed without an embedding."""
    found = sorted(candidates, key=lambda one: (one.tier, -one.key.id, one.key.community_id))
    for rank, one in enumerate(found):
        one.adjust("select", "by recency, because there is no embedding", 1.0 / (1 + rank))
    return found


def decay(earlier: int) -> float:
    """Return what a post keeps of its score behind so many of the same author."""
    return (1 - FLOOR) * DECAY**earlier + FLOOR


def decayed(candidates: list[Candidate]) -> list[Candidate]:
    """Lower an author's second and later posts."""
    earlier: dict[Key, int] = {}
    for one in candidates:
        author = one.shown.post.author
        behind = earlier.get(author, 0)
        earlier[author] = behind + 1
        if behind:
            loss = (1 - decay(behind)) * abs(one.score)  # a score below zero falls, too
            one.adjust("author_decay", f"post {behind + 1} of one author", one.score - loss)
    return _sorted(candidates)


def diverse(
    candidates: list[Candidate], vectors: NDArray[np.float32], config: FeedConfig
) -> list[Candidate]:
    """Lower what is near to a post above: maximal marginal relevance over the best.

    The price of nearness is a share of the spread of scores, so that it means the same whatever
    the weights are. Scores never rise down the list.
    """
    top, rest = candidates[: config.diverse_max], candidates[config.diverse_max :]
    if len(top) < 2 or config.diversity <= 0:
        return candidates
    scores = np.array([one.score for one in top])
    spread = float(scores.max() - scores.min())
    price = config.diversity * spread
    mine = vectors[[one.row for one in top]]
    near = np.zeros(len(top))  # to the nearest post above
    left = np.ones(len(top), dtype=np.bool_)
    chosen: list[Candidate] = []
    for _ in top:
        place = int(np.argmax(np.where(left, scores - price * near, -np.inf)))
        left[place] = False
        one = top[place]
        if price * near[place] > NOTED:
            reason = f"{near[place]:.2f} near to a post above"
            one.adjust("diversity", reason, one.score - price * float(near[place]))
        chosen.append(one)
        near = np.maximum(near, mine @ mine[place])
    last = chosen[-1].score
    for one in rest:
        if one.score - last > NOTED:
            one.adjust("diversity", f"below the {len(top)} best", last)
    return chosen + rest


def explored(candidates: list[Candidate], config: FeedConfig) -> list[Candidate]:
    """Lift one new author into each stretch of the feed that has none up to its slot."""
    found = list(candidates)
    start = 0
    while (slot := start + config.exploration_slot) < len(found):
        here = range(start, slot + 1)
        if not any(_is_new(found[place]) for place in here):
            place = next((p for p in range(slot + 1, len(found)) if _is_new(found[p])), None)
            if place is None:
                break
            one = found.pop(place)
            one.adjust("exploration", f"a new author, lifted to place {slot}", found[slot].score)
            found.insert(slot, one)
        start += config.exploration_every
    return found


def _is_new(one: Candidate) -> bool:
    return any(note.source == EXPLORATION for note in one.sources)


def _sorted(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates by score; ties go to the newest id, so that an order is one order."""
    return sorted(candidates, key=lambda one: (-one.score, -one.key.id, one.key.community_id))
