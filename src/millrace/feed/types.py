"""Nouns of the feed."""

from msgspec import Struct

from millrace.community.types import Key, PostView

LIMIT_MAX = 100


class SourceNote(Struct, frozen=True):
    """That a source proposed a post: its name, the post's rank there (from 0) and its score."""

    source: str
    rank: int
    score: float


class ActionNote(Struct, frozen=True):
    """One term of the value: how likely the action is, what it counts, and their product."""

    action: str
    probability: float
    weight: float
    value: float


class Adjustment(Struct, frozen=True):
    """What a stage did to a score after the value: its name, the reason, before and after."""

    stage: str
    reason: str
    before: float
    after: float


class Removal(Struct, frozen=True):
    """The stage that took a post out, and why."""

    stage: str
    reason: str


class FeedItem(Struct, frozen=True, kw_only=True):
    """One post of a page. `reason` is one sentence for the member."""

    view: PostView
    position: int
    score: float
    reason: str
    seen: bool = False


class FeedPage(Struct, frozen=True, kw_only=True):
    """One page of a served feed.

    next_cursor: empty at the end.
    caught_up: nothing new was left; items with `seen` follow, or none.
    degraded: what could not be done as intended, in words; empty when all is well.
    """

    served_feed_id: int
    items: list[FeedItem]
    next_cursor: str
    caught_up: bool
    degraded: list[str]


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a member was, or was not, shown a post.

    position: where it stands in the feed, from 0; None when it was removed or not proposed.
    sentence: for the member; everything else is for the operator.
    """

    member: Key
    post: Key
    shown: bool
    position: int | None
    sentence: str
    sources: list[SourceNote]
    features: dict[str, float]
    actions: list[ActionNote]
    adjustments: list[Adjustment]
    score: float | None
    removed: Removal | None
    served_feed_id: int | None
    versions: dict[str, str]
