"""The feed's queries as rows: what it reads of the community, and what it keeps of its own."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from millrace.community.types import Audience, Key, MemberCounts, Role, Viewer
from millrace.store.queries import load

QUERIES = load("millrace.feed")


class MemberRow(Struct, frozen=True, kw_only=True):
    """The member of a feed, with the stored embedding where there is one."""

    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]
    system_version: int
    community_name: str
    community_language: str
    vector: bytes | None
    source_version: int | None
    position: str | None
    prompt_hash: str | None = None


class MemberPromptRow(MemberRow, frozen=True, kw_only=True):
    """The same, of one of several members."""

    community_id: int
    member_id: int

    @property
    def key(self) -> Key:
        """Return the key of the member."""
        return Key(self.community_id, self.member_id)


class LikedRow(Struct, frozen=True):
    """What a member liked to do, the newest first."""

    community_id: int
    member_id: int
    post_communities: list[int]
    post_ids: list[int]

    @property
    def member(self) -> Key:
        """Return the key of the member."""
        return Key(self.community_id, self.member_id)

    @property
    def keys(self) -> list[Key]:
        """Return the keys of the posts; one may repeat."""
        return [Key(*key) for key in zip(self.post_communities, self.post_ids, strict=True)]


class PostKeyRow(Struct, frozen=True):
    """The key of a post."""

    community_id: int
    post_id: int

    @property
    def key(self) -> Key:
        """Return the key."""
        return Key(self.community_id, self.post_id)


class AuthorRow(Struct, frozen=True, kw_only=True):
    """An author's numbers."""

    community_id: int
    author_id: int
    followers: int
    posts: int
    views: int
    likes: int

    @property
    def counts(self) -> MemberCounts:
        """Return the numbers."""
        return MemberCounts(
            followers=self.followers, posts=self.posts, views=self.views, likes=self.likes
        )


class VisibilityRow(Struct, frozen=True, kw_only=True):
    """What decides whether anybody is shown a post."""

    community_id: int
    post_id: int
    author_id: int
    audience: Audience
    removed_at: datetime | None
    hidden_at: datetime | None
    author_removed_at: datetime | None
    author_banned_at: datetime | None
    blocked: bool


class ServedRow(Struct, frozen=True, kw_only=True):
    """A served feed as it is stored."""

    served_feed_id: int
    served_at: datetime
    surface: str
    delivered: int
    record: bytes


class PendingRow(Struct, frozen=True):
    """A post to embed, and how many have no vector at all."""

    community_id: int
    post_id: int
    missing: int

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.post_id)


class MemberKeyRow(Struct, frozen=True):
    """A member to embed, and how many wait in all."""

    community_id: int
    member_id: int
    waiting: int = 0

    @property
    def key(self) -> Key:
        """Return the key."""
        return Key(self.community_id, self.member_id)


def reader(member: Key, token: str = "") -> Viewer:
    """Return the viewer of a feed: the member, never with a moderator's wider view."""
    return Viewer(Role.MEMBER, member, f"member:{member}", token)


def columns(keys: Iterable[Key], communities: str, ids: str) -> dict[str, object]:
    """Return keys as two arrays under the names of their parameters."""
    listed = list(keys)
    return {communities: [key.community_id for key in listed], ids: [key.id for key in listed]}
