"""The pairs of a part: a member in a moment, and a post that they then engaged with. Pure.

With what follows from the whole part: who engaged with what, what was passed by, which communities
are shown each other's posts, and how old posts are when they are shown.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.feed.examples.ragged import Ragged, Rows
from millrace.feed.examples.reading import Examples, Part
from millrace.kernel.errors import InvalidError

USUAL_SHARE = 0.5
SHOWN_AGE_SHARE = 0.99
"""Posts are drawn that are no older than so large a share of those that were shown."""

EMPTY = np.empty(0, np.int64)


class Pairs:
    """The pairs of a part, in the order of their moments.

    moment: row of each pair's moment. state: of its post. member, community: of its member.
    passed_community, passed_post: of each post that was shown and not engaged with.
    shown_age_max: microseconds; hardly any post was older when it was shown.
    shown_age_usual: the median.
    """

    def __init__(self, part: Part) -> None:
        """Take a part.

        Raises:
            InvalidError: nobody engages with anything in it.
        """
        examples = part.examples
        moment, state, engaged = _shown(part)
        self.moment, self.state = moment[engaged], state[engaged]
        if not len(self.moment):
            raise InvalidError(
                f"the examples in {examples.folder} have no engagement in this part",
                field="examples",
                value=str(examples.folder),
                limit="1 engagement with a post that was shown",
                next_step="export examples of a longer time, or move the time of the split",
            )
        self.posts = examples.posts
        self.member = _member(examples, self.moment)
        self.community = _community(examples, self.moment)
        self._engaged = self._engagements(part)
        self.passed_community = _community(examples, moment[~engaged])
        self.passed_post = examples.post_of[state[~engaged]]
        self._meets = _meets(examples, moment, state)
        ages = _shown_ages(examples, moment, state)
        self.shown_age_max = int(np.quantile(ages, SHOWN_AGE_SHARE, method="higher"))
        self.shown_age_usual = int(np.quantile(ages, USUAL_SHARE, method="lower"))

    def engaged_by(self, member: int) -> Rows:
        """Return the posts that a member engaged with at any time of the part, or before it."""
        low, high = np.searchsorted(self._engaged, (member * self.posts, (member + 1) * self.posts))
        return self._engaged[low:high] - member * self.posts

    def liked_posts(self) -> Rows:
        """Return the posts that anybody engaged with at any time of the part, or before it."""
        return np.unique(self._engaged % self.posts)

    def met(self, members: Rows, posts: Rows) -> NDArray[np.bool_]:
        """Return whether members of communities are ever shown posts of communities.

        Args:
            members: communities of members. Shape: (n,).
            posts: communities of posts. Shape: (m,).

        Returns:
            Shape: (n, m).
        """
        either = np.unique(np.concatenate((members, posts)))
        known = np.zeros((len(either), len(either)), np.bool_)
        for place, other in enumerate(either.tolist()):
            known[place] = [(other, one) in self._meets for one in either.tolist()]
        return known[np.searchsorted(either, members)[:, None], np.searchsorted(either, posts)]

    def _engagements(self, part: Part) -> Rows:
        """Return member and post as one number, sorted, of everything anybody engaged with."""
        examples = part.examples
        known = [np.unique(self.member * self.posts + examples.post_of[self.state])]
        for rows, states in _stretches(part, examples.positives):
            member = _member(examples, rows)
            known.append(np.unique(member * self.posts + examples.post_of[states]))
        return np.unique(np.concatenate(known))


def _shown(part: Part) -> tuple[Rows, Rows, NDArray[np.bool_]]:
    """Return moment and state of each post that was shown, and whether it was engaged with."""
    examples = part.examples
    moments, states, engaged = [EMPTY], [EMPTY], [EMPTY.astype(np.bool_)]
    shown = _stretches(part, examples.shown)
    for (rows, found), (_, done) in zip(shown, _stretches(part, examples.engaged), strict=True):
        moments.append(rows)
        states.append(found.astype(np.int64))
        engaged.append(done.astype(np.bool_))
    return np.concatenate(moments), np.concatenate(states), np.concatenate(engaged)


def _stretches(part: Part, column: Ragged) -> Iterator[tuple[Rows, NDArray[Any]]]:
    """Yield the values of a column over the moments of a part, each with its moment."""
    complete = np.zeros(part.examples.moments, np.bool_)
    complete[part.rows] = True
    for rows, values in column.stretches(part.first, part.last):
        chosen = complete[rows]
        yield rows[chosen], values[chosen]


def _member(examples: Examples, moments: Rows) -> Rows:
    return examples.member_of[examples.member_state[moments]]


def _community(examples: Examples, moments: Rows) -> Rows:
    return examples.member_community[examples.member_state[moments]]


def _meets(examples: Examples, moments: Rows, states: Rows) -> frozenset[tuple[int, int]]:
    """Return which communities are shown posts of which, those of their own always."""
    pairs = np.stack((_community(examples, moments), examples.post_community[states]), axis=1)
    own = np.repeat(pairs[:, :1], 2, axis=1)
    both: list[list[int]] = np.unique(np.concatenate((pairs, own)), axis=0).tolist()
    return frozenset((member, post) for member, post in both)


def _shown_ages(examples: Examples, moments: Rows, states: Rows) -> Rows:
    """Return how old posts were when they were shown, in microseconds."""
    first = np.full(examples.posts, np.iinfo(np.int64).max)
    np.minimum.at(first, examples.post_of, examples.post_known_at)
    return examples.at[moments] - first[examples.post_of[states]]
