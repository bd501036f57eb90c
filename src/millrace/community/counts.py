"""Counters move in the transaction of their cause, by what was really inserted or deleted.

Locks are always taken in the same order, so that two transactions wait and never deadlock: first
the logs and relations in the order of their keys, then post counters by key, then member counters
by key. So a transaction gathers its moves here and applies them once, at its end: nobody waits for
their answer, so they are sent together with the commit.
"""

from collections import defaultdict

import msgspec

from millrace.community.types import Action, Key, MemberCounts, PostCounts
from millrace.store.queries import load
from millrace.store.session import Session, document

QUERIES = load("millrace.community")

POST_COUNTERS = tuple(field.name for field in msgspec.structs.fields(PostCounts))
MEMBER_COUNTERS = tuple(field.name for field in msgspec.structs.fields(MemberCounts))

COUNTER_OF = {
    Action.CLICK: "clicks",
    Action.LONG_DWELL: "long_dwells",
    Action.SHARE: "shares",
    Action.HIDE: "hides",
    Action.REPORT: "reports",
}
"""Actions that are counted as they are logged. Likes count reactions, comments count comments."""


class CounterMoves:
    """What a transaction adds to counters, or takes away."""

    def __init__(self) -> None:
        self._posts: defaultdict[Key, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._members: defaultdict[Key, defaultdict[str, int]] = defaultdict(
            lambda: defaultdict(int)
        )

    def post(self, key: Key, counter: str, by: int) -> None:
        """Move one counter of a post."""
        assert counter in POST_COUNTERS, f"{counter} is no counter of a post"
        self._posts[key][counter] += by

    def member(self, key: Key, counter: str, by: int) -> None:
        """Move one counter of a member as an author."""
        assert counter in MEMBER_COUNTERS, f"{counter} is no counter of a member"
        self._members[key][counter] += by

    def shown(self, post: Key, author: Key, by: int = 1) -> None:
        """Count views, for the post and for its author."""
        self.post(post, "views", by)
        self.member(author, "views", by)

    def liked(self, post: Key, author: Key, by: int) -> None:
        """Count likes given or taken back, for the post and for its author."""
        self.post(post, "likes", by)
        self.member(author, "likes", by)

    def apply(self, session: Session) -> None:
        """Move the rows: posts by key, then members by key. It goes with the commit."""
        posts = [
            {"community_id": key.community_id, "post_id": key.id}
            | {counter: moves[counter] for counter in POST_COUNTERS}
            for key, moves in self._posts.items()
            if any(moves.values())
        ]
        members = [
            {"community_id": key.community_id, "member_id": key.id}
            | {counter: moves[counter] for counter in MEMBER_COUNTERS}
            for key, moves in self._members.items()
            if any(moves.values())
        ]
        if posts:
            session.later(QUERIES["move_post_counters"], rows=document(posts))
        if members:
            session.later(QUERIES["move_member_counters"], rows=document(members))
