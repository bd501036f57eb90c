"""Questions of a later part: what members then engaged with, among what they could be shown."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.examples.batch import Rows, Tokens, joined
from millrace.feed.examples.pairs import Pairs
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.reading import Part
from millrace.feed.examples.standing_posts import StandingPosts

MEMBERS_MAX = 400
POSTS_MAX = 2_000


class Questions(Struct, frozen=True, kw_only=True):
    """Members at a moment, posts, and which of them each may and should find.

    members: one text each, M. posts: one text each, P.
    allowed: posts that the member could be shown and has not engaged with yet, bool (M, P).
    relevant: those that the member then engaged with; each is allowed, and each member has one.
    """

    members: Tokens
    posts: Tokens
    allowed: NDArray[np.bool_]
    relevant: NDArray[np.bool_]


def questions_of(
    part: Part,
    prompted: Prompted,
    seed: int = 0,
    members_max: int = MEMBERS_MAX,
    posts_max: int = POSTS_MAX,
) -> Questions:
    """Return a question for each member who engages with something in a part.

    A member is asked once, at their first moment of the part. Posts are in the state that they had
    when the part began, or in their first. Where there are more members or posts than are asked
    for, they are drawn; posts that an asked member engaged with are all there.

    Args:
        part: later than what was learned from.
        prompted: texts of its examples.
        seed: of what is drawn.
        members_max: members that are asked.
        posts_max: posts among which they look.
    """
    examples, pairs = part.examples, Pairs(part)
    draw = np.random.default_rng(seed)
    moments = _first_moments(part, _some(np.unique(pairs.member), members_max, draw))
    member = examples.member_of[examples.member_state[moments]]
    done = examples.post_of[pairs.state]
    wanted = np.unique(done[np.isin(pairs.member, member)])
    standing, begin = StandingPosts(examples), int(examples.at[part.rows[0]])
    homes: list[int] = np.unique(pairs.community).tolist()
    stood = [standing.posts(one, begin, pairs.shown_age_max) for one in homes]
    others = np.setdiff1d(np.concatenate([done, pairs.passed_post, *stood]), wanted)
    posts = np.union1d(wanted, _some(others, max(posts_max - len(wanted), 0), draw))
    states = np.array([standing.state(post, begin) for post in posts.tolist()], np.int64)
    home = examples.member_community[examples.member_state[moments]]
    allowed = pairs.met(home, examples.post_community[states])
    relevant = np.zeros_like(allowed)
    for row, moment in enumerate(moments.tolist()):
        before = examples.post_of[examples.positives[moment]]
        allowed[row] &= ~np.isin(posts, before)
        relevant[row] = np.isin(posts, done[pairs.member == member[row]])
    relevant &= allowed
    kept = np.flatnonzero(relevant.any(axis=1))
    return Questions(
        members=joined([prompted.member(moment) for moment in moments[kept].tolist()]),
        posts=joined([prompted.post(state) for state in states.tolist()]),
        allowed=allowed[kept],
        relevant=relevant[kept],
    )


def _first_moments(part: Part, members: Rows) -> Rows:
    """Return each member's first moment in a part."""
    rows = part.rows
    owners = part.examples.member_of[part.examples.member_state[rows]]
    found, first = np.unique(owners, return_index=True)
    return rows[first[np.isin(found, members)]]


def _some(values: Rows, count: int, draw: np.random.Generator) -> Rows:
    """Return at most so many of the values, drawn, in their order."""
    if len(values) <= count:
        return values
    return np.sort(draw.choice(values, count, replace=False))
