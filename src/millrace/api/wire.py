"""What the API answers. Apart from the domain, so that an interface stays while the inside moves.

Ids are text: `<community>-<id>`, since a 64-bit number does not survive JavaScript.
"""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from millrace.community import types as community
from millrace.community.communities import CommunitySize
from millrace.community.members import MemberProfile
from millrace.community.types import Audience, Key, PostKind, Role
from millrace.feed import types as feed

T = TypeVar("T")
KeyText = Annotated[str, Meta(pattern=r"^[0-9]{1,19}-[0-9]{1,19}$", examples=["7-4311810305"])]
NumberText = Annotated[str, Meta(pattern=r"^[0-9]{1,19}$", examples=["7"])]


class Page(Struct, Generic[T], frozen=True):
    """One page of a list. `next_cursor` is empty at the end."""

    items: list[T]
    next_cursor: str


# ------------------------------------------------------------------------------------- answers


class Me(Struct, frozen=True, kw_only=True):
    """Who the token says is asking."""

    name: str
    role: Role
    member_id: KeyText | None


class CommunityCounts(Struct, frozen=True, kw_only=True):
    """How large a community is."""

    members: int
    posts: int


class Community(Struct, frozen=True, kw_only=True):
    """A community. `country` is empty where nobody said; `counts` where it is only named."""

    id: NumberText
    name: str
    description: str
    language: str
    place: str
    country: str
    created_at: datetime
    version: int
    counts: CommunityCounts | None = None


class MemberCard(Struct, frozen=True, kw_only=True):
    """A member in one line, as beside a post."""

    id: KeyText
    handle: str
    display_name: str
    headline: str


class CommunityPage(Struct, frozen=True, kw_only=True):
    """A community with who is there.

    sees, seen_by: communities whose nearby posts are seen here, and where those of this one are.
    newest_members: for those at home and for operators.
    """

    community: Community
    moderators: list[MemberCard]
    newest_members: list[MemberCard]
    sees: list[Community]
    seen_by: list[Community]


class MemberCounts(Struct, frozen=True, kw_only=True):
    """A member's numbers as an author, and how many they follow."""

    followers: int
    posts: int
    views: int
    likes: int
    following: int = 0


class BetweenUs(Struct, frozen=True, kw_only=True):
    """What the caller did about a member, and whether the member follows the caller."""

    followed: bool
    follows_me: bool
    blocked: bool
    muted: bool


class HiddenNote(Struct, frozen=True, kw_only=True):
    """Why a post or comment is hidden: for its author and for those who judge."""

    at: datetime
    reason: str


class Member(Struct, frozen=True, kw_only=True):
    """A member's profile. `external_id` is shown to operators, `banned_at` to those who judge."""

    id: KeyText
    community_id: NumberText
    handle: str
    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]
    role: Role
    joined_at: datetime
    version: int
    external_id: str | None = None
    counts: MemberCounts | None = None
    community_name: str | None = None
    between_us: BetweenUs | None = None
    banned_at: datetime | None = None


class PostCounts(Struct, frozen=True, kw_only=True):
    """A post's numbers."""

    views: int
    likes: int
    comments: int
    shares: int


class Post(Struct, frozen=True, kw_only=True):
    """A post as the caller may see it."""

    id: KeyText
    community_id: NumberText
    community_name: str
    author: MemberCard
    kind: PostKind
    title: str
    text: str
    link: str
    topics: list[str]
    language: str
    audience: Audience
    created_at: datetime
    edited_at: datetime | None
    version: int
    counts: PostCounts
    liked: bool
    follows_author: bool
    hidden: HiddenNote | None = None


class Comment(Struct, frozen=True, kw_only=True):
    """A line of a thread. `parent_id` names the comment that it answers."""

    id: KeyText
    post_id: KeyText
    parent_id: KeyText | None
    author_id: KeyText
    author: MemberCard | None
    text: str
    created_at: datetime
    edited_at: datetime | None
    hidden: HiddenNote | None = None


class FeedItem(Struct, frozen=True, kw_only=True):
    """One post of a feed page, with one sentence that says why it is there."""

    post: Post
    position: int
    score: float
    reason: str
    seen: bool


class FeedPage(Struct, frozen=True, kw_only=True):
    """One page of a served feed. `degraded` says in words what could not be done as intended.

    variants: of each flag that decided something of the feed; for operators, null for others.
    """

    served_feed_id: NumberText
    items: list[FeedItem]
    next_cursor: str
    caught_up: bool
    degraded: list[str]
    variants: dict[str, str] | None = None


class LikedPost(Struct, frozen=True, kw_only=True):
    """A post that the member had liked, and that draws another one near.

    title: or the beginning of its text. engaged_at: when the member last did something with it.
    share: of the nearness.
    """

    post_id: KeyText
    title: str
    engaged_at: datetime
    share: float


class Nearness(Struct, frozen=True, kw_only=True):
    """Where the nearness of a post to its member comes from; all shares together are 1.

    similarity: the nearness. profile: the share of what the member says of themself.
    liked: the posts that give most, and that the member may see now. others: the share of all that
    they had liked besides, below zero where it held the post off. posts: how many liked posts
    counted at all.
    """

    similarity: float
    profile: float
    liked: list[LikedPost]
    others: float
    posts: int


class Trace(Struct, frozen=True, kw_only=True):
    """Everything that is known of why a post was shown or not; for operators.

    variants: of each flag that was in force. faults: why a flag was not obeyed.
    """

    sources: list[feed.SourceNote]
    features: dict[str, float]
    actions: list[feed.ActionNote]
    adjustments: list[feed.Adjustment]
    score: float | None
    removed: feed.Removal | None
    served_feed_id: NumberText | None
    versions: dict[str, str]
    variants: dict[str, str]
    faults: dict[str, str]


class Why(Struct, frozen=True, kw_only=True):
    """Why a member was, or was not, shown a post.

    nearness: where its nearness comes from; null where nothing draws it near.
    """

    member_id: KeyText
    post_id: KeyText
    shown: bool
    position: int | None
    sentence: str
    nearness: Nearness | None = None
    trace: Trace | None = None


class Rejected(Struct, frozen=True):
    """An item that was not taken: its place in the batch, the field, and why."""

    index: int
    field: str
    reason: str


class BatchResult(Struct, frozen=True, kw_only=True):
    """What became of a batch. `ids` maps the external ids of everything that was taken."""

    created: int
    updated: int
    unchanged: int
    rejected: list[Rejected]
    ids: dict[str, str]


class Token(Struct, frozen=True, kw_only=True):
    """A token, shown this once."""

    token: str
    token_id: str
    expires_at: datetime


class KeyRotated(Struct, frozen=True, kw_only=True):
    """The name of the key that signs from now on."""

    key_id: str


class State(Struct, frozen=True, kw_only=True):
    """How the server is. `waiting` names what is not ready."""

    status: str
    waiting: list[str] = []


# --------------------------------------------------------------------------------- conversions


def member_card(member: community.Member) -> MemberCard:
    """Return a member in one line."""
    return MemberCard(
        id=str(member.key),
        handle=member.handle,
        display_name=member.display_name,
        headline=member.headline,
    )


def member(
    found: community.Member, viewer: community.Viewer, counts: community.MemberCounts | None = None
) -> Member:
    """Return a profile as this viewer may see it."""
    return Member(
        id=str(found.key),
        community_id=str(found.community_id),
        handle=found.handle,
        display_name=found.display_name,
        headline=found.headline,
        about=found.about,
        skills=found.skills,
        place=found.place,
        languages=found.languages,
        role=found.role,
        joined_at=found.joined_at,
        version=found.system_version,
        external_id=found.external_id if viewer.oversees else None,
        counts=counts
        and MemberCounts(
            followers=counts.followers, posts=counts.posts, views=counts.views, likes=counts.likes
        ),
        banned_at=found.banned_at,
    )


def profile(found: MemberProfile, viewer: community.Viewer) -> Member:
    """Return a profile with its numbers, and what stands between the two."""
    beside = found.beside
    return replace(
        member(found.member, viewer),
        counts=MemberCounts(
            followers=beside.followers,
            posts=beside.posts,
            views=beside.views,
            likes=beside.likes,
            following=beside.following,
        ),
        community_name=beside.community_name,
        between_us=None
        if viewer.member in (None, found.member.key)
        else BetweenUs(
            followed=beside.followed_by_me,
            follows_me=beside.follows_me,
            blocked=beside.blocked_by_me,
            muted=beside.muted_by_me,
        ),
    )


def hidden_note(thing: community.Post | community.Comment) -> HiddenNote | None:
    """Return why a thing is hidden, None where it is not."""
    if thing.hidden_at is None:
        return None
    return HiddenNote(at=thing.hidden_at, reason=thing.hidden_reason or "")


def a_community(found: community.Community, size: CommunitySize | None = None) -> Community:
    """Return a community."""
    return Community(
        id=str(found.community_id),
        name=found.name,
        description=found.description,
        language=found.language,
        place=found.place,
        country=found.country,
        created_at=found.created_at,
        version=found.system_version,
        counts=size and CommunityCounts(members=size.members, posts=size.posts),
    )


def post(view: community.PostView) -> Post:
    """Return a post with what its card needs."""
    found, counts = view.post, view.counts
    return Post(
        id=str(found.key),
        community_id=str(found.community_id),
        community_name=view.community_name,
        author=member_card(view.author),
        kind=found.kind,
        title=found.title,
        text=found.text,
        link=found.link,
        topics=found.topics,
        language=found.language,
        audience=found.audience,
        created_at=found.created_at,
        edited_at=found.edited_at,
        version=found.system_version,
        counts=PostCounts(
            views=counts.views,
            likes=counts.likes,
            comments=counts.comments,
            shares=counts.shares,
        ),
        liked=view.liked,
        follows_author=view.follows_author,
        hidden=hidden_note(found),
    )


def comment(found: community.Comment, author: community.Member | None) -> Comment:
    """Return a line of a thread."""
    return Comment(
        id=str(found.key),
        post_id=str(Key(found.post_community_id, found.post_id)),
        parent_id=None if found.parent is None else str(found.parent),
        author_id=str(Key(found.community_id, found.author_id)),
        author=None if author is None else member_card(author),
        text=found.text,
        created_at=found.created_at,
        edited_at=found.edited_at,
        hidden=hidden_note(found),
    )


def feed_page(page: feed.FeedPage, *, full: bool) -> FeedPage:
    """Return a page of a feed; for an operator with the variants that made it."""
    items = [
        FeedItem(
            post=post(item.view),
            position=item.position,
            score=item.score,
            reason=item.reason,
            seen=item.seen,
        )
        for item in page.items
    ]
    return FeedPage(
        served_feed_id=str(page.served_feed_id),
        items=items,
        next_cursor=page.next_cursor,
        caught_up=page.caught_up,
        degraded=page.degraded,
        variants=page.variants if full else None,
    )


def why(found: feed.Explanation, *, full: bool) -> Why:
    """Return an explanation: a sentence, and for an operator the whole trace."""
    trace = Trace(
        sources=found.sources,
        features=found.features,
        actions=found.actions,
        adjustments=found.adjustments,
        score=found.score,
        removed=found.removed,
        served_feed_id=None if found.served_feed_id is None else str(found.served_feed_id),
        versions=found.versions,
        variants=found.variants,
        faults=found.faults,
    )
    return Why(
        member_id=str(found.member),
        post_id=str(found.post),
        shown=found.shown,
        position=found.position,
        sentence=found.sentence,
        nearness=None if found.nearness is None else nearness(found.nearness),
        trace=trace if full else None,
    )


def nearness(found: feed.Nearness) -> Nearness:
    """Return where the nearness of a post comes from."""
    return Nearness(
        similarity=found.similarity,
        profile=found.profile,
        liked=[
            LikedPost(
                post_id=str(one.post),
                title=one.title,
                engaged_at=one.engaged_at,
                share=one.share,
            )
            for one in found.liked
        ],
        others=found.others,
        posts=found.posts,
    )
