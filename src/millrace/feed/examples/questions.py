"""Questions of a later part: what members then engaged with, among what they could be shown."""

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from millrace.feed.examples.batch import ABSENT, Rows, Tokens, joined, nothing
from millrace.feed.examples.pairs import Pairs
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.reading import Examples, Part
from millrace.feed.examples.recalling import MICROS_PER_DAY
from millrace.feed.examples.standing_posts import StandingPosts
from millrace.feed.pooled_history import PooledHistory

MEMBERS_MAX = 400
POSTS_MAX = 2_000
OTHERS_MAX = 2_000  # posts of pooled histories beyond those; then fewer members are asked


class Questions(Struct, frozen=True, kw_only=True):
    """Members at a moment, posts, and which of them each may and should find.

    members: one text each, M. posts: one text each, P.
    allowed: posts that the member could be shown and has not engaged with yet, bool (M, P).
    relevant: those that the member then engaged with; each is allowed, and each member has one.
    others: posts that are only part of a pooled history; one text each.
    history: what each member had engaged with before, the newest, as places in the posts with the
        others behind them; ABSENT where there is no more. int64 (M, posts_max), or (M, 0) where it
        stands in the texts of members.
    ages_days: how long before the question. The same shape.
    """

    members: Tokens
    posts: Tokens
    allowed: NDArray[np.bool_]
    relevant: NDArray[np.bool_]
    others: Tokens = field(default_factory=lambda: joined([]))
    history: Rows = field(default_factory=lambda: nothing().reshape(0, 0))
    ages_days: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


def questions_of(
    part: Part,
    prompted: Prompted,
    seed: int = 0,
    members_max: int = MEMBERS_MAX,
    posts_max: int = POSTS_MAX,
    pooled: PooledHistory | None = None,
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
        pooled: how histories are, None where they stand in the texts of members.
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
    more = _Histories(examples, posts, moments[kept], pooled, draw)
    kept = kept[more.asked]
    others = [standing.state(post, begin) for post in more.others.tolist()]
    in_words = pooled is None
    return Questions(
        members=joined([prompted.member(moment, in_words) for moment in moments[kept].tolist()]),
        posts=joined([prompted.post(state) for state in states.tolist()]),
        allowed=allowed[kept],
        relevant=relevant[kept],
        others=joined([prompted.post(state) for state in others]),
        history=more.places,
        ages_days=more.ages_days,
    )


class _Histories:
    """Pooled histories of members at their moments.

    asked: which of the members are, in their order. others: posts beyond those that are there.
    places: in the posts and the others, of each asked member. ages_days: likewise.
    """

    def __init__(
        self,
        examples: Examples,
        posts: Rows,
        moments: Rows,
        pooled: PooledHistory | None,
        draw: np.random.Generator,
    ) -> None:
        most = pooled.posts_max if pooled is not None else 0
        found = {
            row: examples.post_of[examples.positives[moment]][-most:]
            for row, moment in enumerate(moments.tolist())
            if most
        }
        asked, others = np.ones(len(moments), np.bool_), set[int]()
        for row in draw.permutation(len(moments)).tolist() if most else ():
            more = others.union(np.setdiff1d(found[row], posts).tolist())
            asked[row] = len(more) <= OTHERS_MAX
            others = more if asked[row] else others
        self.asked = np.flatnonzero(asked)
        self.others = np.array(sorted(others), np.int64)
        everything = np.concatenate((posts, self.others))
        order = np.argsort(everything, kind="stable")
        self.places = np.full((len(self.asked), most), ABSENT, np.int64)
        self.ages_days = np.zeros(self.places.shape, np.float32)
        for place, row in enumerate(self.asked.tolist() if most else ()):
            count, moment = len(found[row]), int(moments[row])
            at = np.searchsorted(everything, found[row], sorter=order)
            self.places[place, :count] = order[at]
            passed = examples.at[moment] - examples.positives_at(moment)[-most:]
            self.ages_days[place, :count] = passed / MICROS_PER_DAY


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
