"""What members do with a page of posts: how far they look, and how they react to what they see.

The past of a town and its live mode use the same functions, so that the people are the same.
"""

import numpy as np
from msgspec import Struct

from millrace.community.types import Action, PostKind
from millrace.world.simulator.draws import Bits, Draws, Floats, Whole, places
from millrace.world.simulator.tastes import Truth
from millrace.world.simulator.types import ACTIONS, KINDS

LOOK_FALL = 0.35
"""The chance to be looked at falls with the place k in the page as 1 / (1 + k) to this power."""
POST_SECONDS = 5
"""How long a member takes to go on to the next place of a page."""

READ_CHARACTERS = 18.0
"""Characters read in a second."""
DWELL_MS_MAX = 600_000
LONG_DWELL_MS = 12_000
CLICK = 0.85
LIKE, LIKE_TASTE = 0.2, 0.5
COMMENT = 0.09
COMMENT_QUESTION = 2.0
SHARE = 0.035

ANNOYED = 0.012
"""How often a post of middling quality that meets no interest annoys; more so where it is bad."""
AGAINST = (Action.HIDE, Action.MUTE, Action.BLOCK, Action.REPORT)
AGAINST_SHARES = np.array([0.74, 0.13, 0.05, 0.08])

AFTER_SECONDS = {
    Action.CLICK: 1,
    Action.LONG_DWELL: 0,
    Action.LIKE: 2,
    Action.COMMENT: 25,
    Action.SHARE: 4,
    Action.HIDE: 2,
    Action.MUTE: 3,
    Action.BLOCK: 3,
    Action.REPORT: 6,
}
"""When an action follows: seconds after the member looked, or after the dwell where there was one."""


class Pages(Struct, frozen=True):
    """Who sees what.

    members: one a row. Shape: (S,).
    posts: the page of each. Shape: (S, K).
    at: when each page is opened, in seconds of the town. Shape: (S,).
    """

    members: Whole
    posts: Whole
    at: Whole


class Reaction(Struct, frozen=True):
    """What happened with every post of some pages, each array of shape (S, K).

    engaged: whether there was any positive engagement.
    dwell_ms: how long the member stayed with what they engaged with, else 0.
    done: for each of ACTIONS, whether it was done. Shape: (len(ACTIONS), S, K).
    """

    engaged: Bits
    dwell_ms: Whole
    done: Bits


def looks(count: int) -> Floats:
    """Return the chance that each of the first places of a page is looked at."""
    places_from_one = 1.0 + np.arange(count, dtype=np.float64)
    return places_from_one**-LOOK_FALL


def react(truth: Truth, pages: Pages, looked: Bits, draws: Draws) -> Reaction:
    """Return what members do with the posts of their pages.

    Args:
        truth: the tastes.
        pages: who sees what.
        looked: which places the member looks at. Shape: (S, K).
        draws: chance.
    """
    members, posts = pages.members, pages.posts
    shape = posts.shape
    liking = truth.appeals(members, posts, pages.at)
    engaged = looked & (draws.uniform(shape) < liking)
    dwell_ms = np.where(engaged, _dwell_ms(truth, posts, liking, draws), 0)
    done = np.zeros((len(ACTIONS), *shape), dtype=np.bool_)
    social = truth.minds.sociability[members][:, None]
    question = truth.traits.kind[posts] == KINDS.index(PostKind.QUESTION)
    talk = np.where(question, COMMENT_QUESTION, 1.0) * social

    def mark(action: Action, chance: Floats | float) -> None:
        done[ACTIONS.index(action)] = engaged & (draws.uniform(shape) < chance)

    mark(Action.CLICK, CLICK)
    mark(Action.LIKE, LIKE + LIKE_TASTE * liking)
    mark(Action.COMMENT, np.minimum(COMMENT * talk, 0.5))
    mark(Action.SHARE, np.minimum(SHARE * social, 0.3))
    done[ACTIONS.index(Action.LONG_DWELL)] = engaged & (dwell_ms >= LONG_DWELL_MS)
    silent = engaged & ~done.any(axis=0)
    done[ACTIONS.index(Action.CLICK)] |= silent
    annoyed, which = _annoyed(truth, pages, looked & ~engaged, draws)
    for place, action in enumerate(AGAINST):
        done[ACTIONS.index(action)] = annoyed & (which == place)
    return Reaction(engaged, dwell_ms, done)


def _dwell_ms(truth: Truth, posts: Whole, liking: Floats, draws: Draws) -> Whole:
    """Return how long somebody stays: longer texts and better liked ones hold longer."""
    reading = 2.0 + truth.traits.length[posts] / READ_CHARACTERS
    seconds = reading * (0.35 + 1.1 * liking) * np.exp(0.5 * draws.normal(posts.shape))
    return np.minimum(seconds * 1000.0, DWELL_MS_MAX).astype(np.int64)


def _annoyed(truth: Truth, pages: Pages, open_to: Bits, draws: Draws) -> tuple[Bits, Whole]:
    """Return where members do something against a post that annoys them, and what of AGAINST."""
    misfit = 1.0 - truth.fit(pages.members, pages.posts, pages.at)
    chance = ANNOYED * misfit * np.exp(-0.7 * truth.traits.quality[pages.posts])
    annoyed = open_to & (draws.uniform(open_to.shape) < np.minimum(chance, 0.2))
    return annoyed, places(AGAINST_SHARES, draws.uniform(open_to.shape))
