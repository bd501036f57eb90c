"""Rows of the queries behind cards and threads: a thing with its author beside it."""

from datetime import datetime

import msgspec
from msgspec import Struct

from millrace.community.types import (
    Audience,
    Comment,
    CommentView,
    Member,
    Post,
    PostCounts,
    PostKind,
    PostView,
    Role,
)


class AuthorColumns(Struct, frozen=True, kw_only=True):
    """The columns of an author, all but the key."""

    by_external_id: str
    by_handle: str
    by_display_name: str
    by_headline: str
    by_about: str
    by_skills: list[str]
    by_place: str
    by_languages: list[str]
    by_role: Role
    by_joined_at: datetime
    by_removed_at: datetime | None
    by_banned_at: datetime | None
    by_system_version: int

    def author(self, community_id: int, member_id: int) -> Member:
        """Return the author of the row."""
        return Member(
            community_id=community_id,
            member_id=member_id,
            external_id=self.by_external_id,
            handle=self.by_handle,
            display_name=self.by_display_name,
            headline=self.by_headline,
            about=self.by_about,
            skills=self.by_skills,
            place=self.by_place,
            languages=self.by_languages,
            role=self.by_role,
            joined_at=self.by_joined_at,
            removed_at=self.by_removed_at,
            banned_at=self.by_banned_at,
            system_version=self.by_system_version,
        )


class PostLine(AuthorColumns, frozen=True, kw_only=True):
    """A post with its author and its numbers."""

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
    hidden_at: datetime | None
    hidden_reason: str | None
    community_name: str
    views: int
    clicks: int
    long_dwells: int
    likes: int
    comments: int
    shares: int
    hides: int
    reports: int
    liked: bool
    follows_author: bool

    def view(self) -> PostView:
        """Return the row as what it means."""
        fields = msgspec.structs.asdict(self)
        return PostView(
            post=Post(**{name: fields[name] for name in POST_FIELDS}),
            author=self.author(self.community_id, self.author_id),
            community_name=self.community_name,
            counts=PostCounts(**{name: fields[name] for name in COUNT_FIELDS}),
            liked=self.liked,
            follows_author=self.follows_author,
        )


class CommentLine(AuthorColumns, frozen=True, kw_only=True):
    """A comment with its author."""

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
    hidden_at: datetime | None
    hidden_reason: str | None

    def view(self) -> CommentView:
        """Return the row as what it means."""
        fields = msgspec.structs.asdict(self)
        return CommentView(
            comment=Comment(**{name: fields[name] for name in COMMENT_FIELDS}),
            author=self.author(self.community_id, self.author_id),
        )


POST_FIELDS = tuple(field.name for field in msgspec.structs.fields(Post))
COUNT_FIELDS = tuple(field.name for field in msgspec.structs.fields(PostCounts))
COMMENT_FIELDS = tuple(field.name for field in msgspec.structs.fields(Comment))
