"""What a card shows, made from what the rooms return. Pure: no reads, no markup."""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import Audience, CommentView, Key, PostKind, PostView
from millrace.feed.types import FeedItem
from millrace.web.face import Face, face_of
from millrace.web.text import Body, body_of, excerpt, host_of, link_of
from millrace.web.when import When, when_of

KIND_LABELS = {
    PostKind.NOTE: "Note",
    PostKind.QUESTION: "Question",
    PostKind.EVENT: "Event",
    PostKind.LISTING: "Listing",
    PostKind.LINK: "Link",
    PostKind.ALERT: "Alert",
}
AUDIENCE_LABELS = {
    Audience.COMMUNITY: "Only this community",
    Audience.NEARBY: "This community and those near it",
    Audience.PUBLIC: "Everybody",
}
HEADING_CHARACTERS = 80
DEPTH_MAX = 3


class Outlink(Struct, frozen=True):
    """The link of a post: only http and https get this far."""

    href: str
    host: str


class Card(Struct, frozen=True, kw_only=True):
    """A post on a page.

    heading: names the card for a screen reader; the title, or the beginning of the text.
    position, reason: as served; None and empty on a post's own page.
    own: written by the viewer, who may then not follow, hide or be measured on it.
    hidden, removed: by a moderator, or by the author; few see such a post, and they are told.
    """

    key: str
    author_key: str
    author: str
    headline: str
    face: Face
    community: str
    community_id: int
    when: When
    edited: bool
    kind: str
    kind_label: str
    audience: str
    audience_label: str
    language: str
    title: str
    heading: str
    body: Body
    outlink: Outlink | None
    topics: list[str]
    likes: int
    comments: int
    shares: int
    views: int
    liked: bool
    follows: bool
    own: bool
    hidden: bool
    hidden_reason: str
    removed: bool
    seen: bool
    position: int | None
    reason: str


def card_of(view: PostView, me: Key | None, now: datetime) -> Card:
    """Make the card of a post as its own page shows it."""
    post, author = view.post, view.author
    return Card(
        key=str(post.key),
        author_key=str(post.author),
        author=author.display_name or author.handle,
        headline=author.headline,
        face=face_of(author),
        community=view.community_name,
        community_id=post.community_id,
        when=when_of(post.created_at, now),
        edited=post.edited_at is not None,
        kind=post.kind.value,
        kind_label=KIND_LABELS[post.kind],
        audience=post.audience.value,
        audience_label=AUDIENCE_LABELS[post.audience],
        language=post.language,
        title=post.title,
        heading=post.title or excerpt(post.text, HEADING_CHARACTERS),
        body=body_of(post.text),
        outlink=_outlink(post.link),
        topics=post.topics,
        likes=view.counts.likes,
        comments=view.counts.comments,
        shares=view.counts.shares,
        views=view.counts.views,
        liked=view.liked,
        follows=view.follows_author,
        own=me == post.author,
        hidden=post.hidden_at is not None,
        hidden_reason=post.hidden_reason or "",
        removed=post.removed_at is not None,
        seen=False,
        position=None,
        reason="",
    )


def fed_card(item: FeedItem, me: Key, now: datetime) -> Card:
    """Make the card of a feed item."""
    card = card_of(item.view, me, now)
    return replace(card, position=item.position, reason=item.reason, seen=item.seen)


def _outlink(address: str) -> Outlink | None:
    href = link_of(address)
    return Outlink(href, host_of(href)) if href else None


class Remark(Struct, frozen=True, kw_only=True):
    """A comment on a page. `depth` is how far it is indented, at most `DEPTH_MAX`."""

    key: str
    id: int
    author_key: str
    author: str
    face: Face
    when: When
    body: Body
    own: bool
    hidden: bool
    hidden_reason: str
    depth: int


def remarks_of(thread: list[CommentView], me: Key | None, now: datetime) -> list[Remark]:
    """Put a thread in reading order: each answer under what it answers, else by time.

    An answer whose parent is not on this page stands at the top level, so nothing is lost.
    """
    present = {view.comment.key for view in thread}
    below: dict[Key | None, list[CommentView]] = {}
    for view in thread:
        parent = view.comment.parent
        below.setdefault(parent if parent in present else None, []).append(view)
    ordered: list[Remark] = []
    open_now = [(view, 0) for view in reversed(below.get(None, []))]
    while open_now:
        view, depth = open_now.pop()
        ordered.append(_remark(view, depth, me, now))
        answers = below.pop(view.comment.key, [])
        open_now.extend((answer, depth + 1) for answer in reversed(answers))
    return ordered


def _remark(view: CommentView, depth: int, me: Key | None, now: datetime) -> Remark:
    comment = view.comment
    return Remark(
        key=f"{comment.community_id}-{comment.comment_id}",
        id=comment.comment_id,
        author_key=str(view.author.key),
        author=view.author.display_name or view.author.handle,
        face=face_of(view.author),
        when=when_of(comment.created_at, now),
        body=body_of(comment.text),
        own=me == view.author.key,
        hidden=comment.hidden_at is not None,
        hidden_reason=comment.hidden_reason or "",
        depth=min(depth, DEPTH_MAX),
    )
