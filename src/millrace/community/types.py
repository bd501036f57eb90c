"""Nouns of the community. A Struct is the row; wire forms live in `api`."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from millrace.kernel.errors import InvalidError


class Role(StrEnum):
    """What somebody may do. The last three belong to the installation and are not members; a flag
    reader is a program, which reads the flags to decide by them.
    """

    MEMBER = "member"
    MODERATOR = "moderator"
    OPERATOR = "operator"
    RELEASE_MANAGER = "release_manager"
    FLAG_READER = "flag_reader"


OFFICES = (Role.OPERATOR, Role.RELEASE_MANAGER, Role.FLAG_READER)
"""What an account of the installation may be, as `millrace operator create` makes them."""


class PostKind(StrEnum):
    """What a post is."""

    NOTE = "note"
    QUESTION = "question"
    EVENT = "event"
    LISTING = "listing"
    LINK = "link"
    ALERT = "alert"


class Audience(StrEnum):
    """Who may see a post: its community, also the communities near it, or everybody."""

    COMMUNITY = "community"
    NEARBY = "nearby"
    PUBLIC = "public"


class Action(StrEnum):
    """What a member did with a post; the last four are against it."""

    CLICK = "click"
    LONG_DWELL = "long_dwell"
    LIKE = "like"
    COMMENT = "comment"
    SHARE = "share"
    HIDE = "hide"
    MUTE = "mute"
    BLOCK = "block"
    REPORT = "report"


POSITIVE_ACTIONS = frozenset(
    {Action.CLICK, Action.LONG_DWELL, Action.LIKE, Action.COMMENT, Action.SHARE}
)


class Key(Struct, frozen=True, order=True, gc=False):
    """Names a thing of one community. Written `<community_id>-<id>`."""

    community_id: int
    id: int

    def __str__(self) -> str:
        return f"{self.community_id}-{self.id}"


BIGINT_MAX = (1 << 63) - 1

# Limits. A text is counted in characters after trimming.
EXTERNAL_ID_MAX = 200
NAME_MAX = 120
HANDLE_MAX = 60
HEADLINE_MAX = 300
ABOUT_MAX = 10_000
TITLE_MAX = 300
TEXT_MAX = 40_000
COMMENT_MAX = 40_000
LINK_MAX = 2_000
REASON_MAX = 1_000
WORD_MAX = 60
TOPICS_MAX = 20
SKILLS_MAX = 50
LANGUAGES_MAX = 20
NEARBY_MAX = 200
BATCH_MAX = 10_000
KEYS_MAX = 5_000
LIST_MAX = 1_000
FUTURE_SECONDS_MAX = 60  # clocks differ a little


def parse_key(text: str, field: str = "id") -> Key:
    """Read a key as written by `str(key)`.

    Raises:
        InvalidError: the text has another form; names the field and the value.
    """
    community_id, _, identity = text.partition("-")
    if not (_is_id(community_id) and _is_id(identity)):
        raise InvalidError(
            f"{field} {text[:60]!r} is not an id",
            field=field,
            value=text[:60],
            limit="<community>-<id>, two whole numbers",
            next_step="use an id that the API returned",
        )
    return Key(int(community_id), int(identity))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= BIGINT_MAX


class Viewer(Struct, frozen=True):
    """Who asks. Every read of the domain takes one, and visibility is decided by it.

    member: None for an operator, a release manager, a flag reader or the program itself.
    name: for the audit trail, `member:<key>` or `operator:<name>`.
    token: the consistency token that the request carried.
    """

    role: Role
    member: Key | None
    name: str
    token: str = ""

    @property
    def oversees(self) -> bool:
        """Whether this viewer may see everything."""
        return self.role is Role.OPERATOR


def program(name: str = "millrace") -> Viewer:
    """Return the viewer for work that nobody asked for: importers, freshness, benchmarks."""
    return Viewer(Role.OPERATOR, None, f"program:{name}")


class Community(Struct, frozen=True, kw_only=True):
    """The place that posts belong to, and the shard key. country: ISO 3166 alpha-2, empty for unknown."""

    community_id: int
    external_id: str
    name: str
    description: str
    language: str
    place: str
    created_at: datetime
    system_version: int
    country: str = ""


class Member(Struct, frozen=True, kw_only=True):
    """A person of one home community; the profile is text."""

    community_id: int
    member_id: int
    external_id: str
    handle: str
    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]
    role: Role
    joined_at: datetime
    removed_at: datetime | None
    system_version: int
    banned_at: datetime | None = None

    @property
    def key(self) -> Key:
        """Return the member's key."""
        return Key(self.community_id, self.member_id)


class Post(Struct, frozen=True, kw_only=True):
    """What a member wrote for an audience. A hidden one is there for its author, who is told why."""

    community_id: int
    post_id: int
    external_id: str
    author_id: int
    kind: PostKind
    title: str
    text: str
    link: str
    topics: list[str]
    language: str
    audience: Audience
    created_at: datetime
    edited_at: datetime | None
    removed_at: datetime | None
    system_version: int
    hidden_at: datetime | None = None
    hidden_reason: str | None = None

    @property
    def key(self) -> Key:
        """Return the post's key."""
        return Key(self.community_id, self.post_id)

    @property
    def author(self) -> Key:
        """Return the author's key; an author writes in the home community."""
        return Key(self.community_id, self.author_id)


class PostCounts(Struct, frozen=True, kw_only=True):
    """The numbers of a post."""

    views: int = 0
    clicks: int = 0
    long_dwells: int = 0
    likes: int = 0
    comments: int = 0
    shares: int = 0
    hides: int = 0
    reports: int = 0


class MemberCounts(Struct, frozen=True, kw_only=True):
    """The numbers of a member as an author."""

    followers: int = 0
    posts: int = 0
    views: int = 0
    likes: int = 0


class PostView(Struct, frozen=True, kw_only=True):
    """A post as one viewer may see it, with what a card needs."""

    post: Post
    author: Member
    community_name: str
    counts: PostCounts
    liked: bool
    follows_author: bool


class Comment(Struct, frozen=True, kw_only=True):
    """A line of a post's thread; lives with its author's community, wherever its parent does."""

    community_id: int
    comment_id: int
    external_id: str
    author_id: int
    post_community_id: int
    post_id: int
    parent_community_id: int | None
    parent_id: int | None
    text: str
    created_at: datetime
    edited_at: datetime | None
    removed_at: datetime | None
    system_version: int
    hidden_at: datetime | None = None
    hidden_reason: str | None = None

    @property
    def key(self) -> Key:
        """Return the comment's key."""
        return Key(self.community_id, self.comment_id)

    @property
    def parent(self) -> Key | None:
        """Return the key of the comment that this one answers."""
        if self.parent_community_id is None or self.parent_id is None:
            return None
        return Key(self.parent_community_id, self.parent_id)


class CommentView(Struct, frozen=True, kw_only=True):
    """A comment as one viewer may see it, with who wrote it."""

    comment: Comment
    author: Member


class IssuedToken(Struct, frozen=True, kw_only=True):
    """A token just made. The text is shown once; `token_id` is what revokes it."""

    token: str
    token_id: str
    expires_at: datetime


# ------------------------------------------------- what a viewer writes


class NewPost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A post that its author is about to write."""

    text: str
    title: str = ""
    kind: PostKind = PostKind.NOTE
    link: str = ""
    topics: list[str] = []
    language: str = "en"
    audience: Audience = Audience.COMMUNITY


class PostChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different in a post; None leaves a field as it is."""

    text: str | None = None
    title: str | None = None
    kind: PostKind | None = None
    link: str | None = None
    topics: list[str] | None = None
    language: str | None = None
    audience: Audience | None = None


class ProfileChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different in a profile; None leaves a field as it is."""

    display_name: str | None = None
    headline: str | None = None
    about: str | None = None
    skills: list[str] | None = None
    place: str | None = None
    languages: list[str] | None = None


class Relations(Struct, frozen=True):
    """Whom a member follows, and whom they must not meet.

    hidden: blocked in either direction, or muted by this member.
    nearby: communities whose nearby posts this member may see.
    """

    follows: frozenset[Key]
    blocks: frozenset[Key]
    mutes: frozenset[Key]
    nearby: frozenset[int]

    @property
    def hidden(self) -> frozenset[Key]:
        """Return every author whose posts this member does not get."""
        return self.blocks | self.mutes


class Impression(Struct, frozen=True, kw_only=True):
    """A post shown to a member at a position of a served feed."""

    member: Key
    post: Key
    shown_at: datetime
    position: int
    surface: str = "feed"
    served_feed_id: int | None = None
    app_version: str = ""


class Engagement(Struct, frozen=True, kw_only=True):
    """What a member did with a post."""

    member: Key
    post: Key
    kind: Action
    happened_at: datetime
    surface: str = "feed"
    position: int | None = None
    dwell_ms: int | None = None
    app_version: str = ""


# ------------------------------------------------- drafts: what importers and the API bring in
# Everything is named by external ids, so that the same draft twice changes nothing.


class CommunityDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A community to create or bring up to date. `nearby` holds external ids."""

    external_id: str
    name: str
    description: str = ""
    language: str = "en"
    place: str = ""
    country: str = ""
    nearby: list[str] = []
    created_at: datetime | None = None


class MemberDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member to create or bring up to date."""

    external_id: str
    display_name: str
    handle: str = ""
    headline: str = ""
    about: str = ""
    skills: list[str] = []
    place: str = ""
    languages: list[str] = []
    role: Role = Role.MEMBER
    joined_at: datetime | None = None


class PostDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A post to create or bring up to date; `author` is a member's external id."""

    external_id: str
    author: str
    text: str
    title: str = ""
    kind: PostKind = PostKind.NOTE
    link: str = ""
    topics: list[str] = []
    language: str = "en"
    audience: Audience = Audience.COMMUNITY
    created_at: datetime | None = None
    views: int = 0


class CommentDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comment to create or bring up to date; `post` and `parent` are external ids."""

    external_id: str
    author: str
    post: str
    text: str
    parent: str = ""
    created_at: datetime | None = None


class FollowDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member follows another; both by external id."""

    member: str
    target: str
    created_at: datetime | None = None


class ImpressionDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A post shown to a member; both by external id."""

    member: str
    post: str
    shown_at: datetime
    position: int = 0
    surface: str = "feed"
    app_version: str = ""


class EngagementDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member did with a post; both by external id."""

    member: str
    post: str
    kind: Action
    happened_at: datetime
    surface: str = "feed"
    position: int | None = None
    dwell_ms: int | None = None
    app_version: str = ""


class Rejected(Struct, frozen=True):
    """A draft that was not taken: its place in the batch, the field, and why."""

    index: int
    field: str
    reason: str


class BatchResult(Struct, frozen=True):
    """What became of a batch. A draft that said nothing new is `unchanged`.

    ids: external id to id, for those that have one, of everything that was taken.
    """

    created: int
    updated: int
    unchanged: int
    rejected: list[Rejected]
    ids: dict[str, int] = {}
