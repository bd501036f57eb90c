"""Which posts of a community stood at a time, and how they stood: what a member could be shown."""

import numpy as np

from millrace.feed.examples.ragged import Rows
from millrace.feed.examples.reading import Examples


class StandingPosts:
    """Posts of communities by the time from which they were known."""

    def __init__(self, examples: Examples) -> None:
        """Take the states of posts."""
        order = np.lexsort((examples.post_known_at, examples.post_of))
        self._states = order
        self._known_at = examples.post_known_at[order]
        posts = examples.post_of[order]
        self._first = np.searchsorted(posts, np.arange(examples.posts + 1))
        there = np.flatnonzero(np.diff(self._first))
        begins = self._known_at[self._first[there]]
        self._begin = np.full(examples.posts, np.iinfo(np.int64).max)
        self._begin[there] = begins
        community = examples.post_community[order[self._first[there]]]
        by_time = np.argsort(begins, kind="stable")
        self._by_community = {
            home: (there[chosen], begins[chosen])
            for home in np.unique(community).tolist()
            for chosen in [by_time[community[by_time] == home]]
        }

    def count(self, community: int) -> int:
        """Return how many posts a community ever had."""
        return len(self._of(community)[0])

    @property
    def begin(self) -> Rows:
        """Return from when on each post was known; the end of time for a number without a post."""
        return self._begin

    def posts(self, community: int, at: int, age_max: int) -> Rows:
        """Return the posts of a community that were known before a time, not longer than `age_max`."""
        posts, begins = self._of(community)
        low, high = np.searchsorted(begins, (at - age_max, at))
        return posts[low:high]

    def state(self, post: int, at: int) -> int:
        """Return the last state of a post that was known before a time; its first if none was."""
        low, high = int(self._first[post]), int(self._first[post + 1])
        place = low + int(np.searchsorted(self._known_at[low:high], at)) - 1
        return int(self._states[max(place, low)])

    def _of(self, community: int) -> tuple[Rows, Rows]:
        empty = np.empty(0, np.int64)
        return self._by_community.get(community, (empty, empty))
