"""What the tables tell of the past, row by row. A time is an Instant: microseconds since 1970."""

from datetime import datetime

from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.examples.types import Instant


class LineRow(Struct, frozen=True, kw_only=True):
    """A line of the log of prompts. at: when the vector was stored. position: in the log of changes."""

    at: Instant
    made_at: Instant
    thing_kind: str
    community_id: int
    thing_id: int
    model_version: str
    position: int
    facts: bytes

    @property
    def key(self) -> Key:
        """Return the key of the post or the member."""
        return Key(self.community_id, self.thing_id)


class BirthRow(Struct, frozen=True, kw_only=True):
    """A post that comes into being. said: the first line of the log of prompts, if there is one."""

    at: Instant
    community_id: int
    post_id: int
    author_id: int
    kind: str
    title: str
    text: str
    topics: list[str]
    author_name: str
    headline: str
    community_name: str
    said: bytes | None

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.post_id)


class DeedRow(Struct, frozen=True):
    """Something that a member did with a post, `shown` where it was done to them; or a follow.

    other_id: of the post, or of the member who is followed.
    """

    at: Instant
    community_id: int
    member_id: int
    other_community_id: int
    other_id: int
    deed: str


class MomentRow(Struct, frozen=True, kw_only=True):
    """A member is shown some posts, with what came of it.

    served_at: None where no feed was logged; `at` may be a little later, see the query.
    """

    at: Instant
    community_id: int
    member_id: int
    post_communities: list[int]
    post_ids: list[int]
    positions: list[int]
    engaged: list[bool]
    labelled_until: Instant
    served_feed_id: int = 0
    served_at: datetime | None = None
    lone: bool = False

    @property
    def member(self) -> Key:
        """Return the key of the member."""
        return Key(self.community_id, self.member_id)


class ProfileRow(Struct, frozen=True, kw_only=True):
    """A member as the table has them. said: the first line of the log of prompts, if there is one."""

    community_id: int
    member_id: int
    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]
    said: bytes | None

    @property
    def key(self) -> Key:
        """Return the key."""
        return Key(self.community_id, self.member_id)


class FeedRow(Struct, frozen=True):
    """The record of a served feed."""

    community_id: int
    member_id: int
    served_feed_id: int
    record: bytes

    @property
    def name(self) -> tuple[Key, int]:
        """Return what tells it apart: a feed's number is its member's."""
        return Key(self.community_id, self.member_id), self.served_feed_id


class Logged(Struct, frozen=True, kw_only=True):
    """What the record of a served feed says for examples.

    position: of the member's vector in the log of changes; -1 where there was none.
    liked: the posts that the vector was pooled from, the newest engagement first, and when each was
        engaged with; None where the prompt showed them.
    features: of the posts that were shown; None where another release made them.
    """

    encoder: str
    position: int
    features: dict[Key, list[float]] | None
    liked: list[tuple[Key, Instant]] | None = None
