"""What the API reads. Forms refuse fields that they do not know, so that a misspelt field is an
error and not a silent loss.
"""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from millrace.api.wire import KeyText, NumberText
from millrace.community.moves import Move, ReportReason, ThingKind
from millrace.community.types import (
    Action,
    Audience,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
    PostKind,
)

INT32_MAX = (1 << 31) - 1
BATCH_ITEMS_MAX = 1000
BULK_ITEMS_MAX = 5000

Moment = Annotated[datetime, Meta(tz=True)]
Place = Annotated[int, Meta(ge=0, le=INT32_MAX)]
Surface = Annotated[str, Meta(max_length=40)]
AppVersion = Annotated[str, Meta(max_length=40)]


class ProfilePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a profile; what is left out stays."""

    display_name: str | UnsetType = UNSET
    headline: str | UnsetType = UNSET
    about: str | UnsetType = UNSET
    skills: list[str] | UnsetType = UNSET
    place: str | UnsetType = UNSET
    languages: list[str] | UnsetType = UNSET


class PostNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A post to write, in the caller's home community."""

    text: str
    title: str = ""
    kind: PostKind = PostKind.NOTE
    link: str = ""
    topics: list[str] = []
    language: str = "en"
    audience: Audience = Audience.COMMUNITY


class PostPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a post; what is left out stays."""

    text: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    kind: PostKind | UnsetType = UNSET
    link: str | UnsetType = UNSET
    topics: list[str] | UnsetType = UNSET
    language: str | UnsetType = UNSET
    audience: Audience | UnsetType = UNSET


class CommentNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comment to write."""

    text: str
    parent_id: KeyText | None = None


class ImpressionNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A post that was shown. `member_id` may be left out by the member themself."""

    post_id: KeyText
    shown_at: Moment
    position: Place
    surface: Surface = "feed"
    served_feed_id: NumberText | None = None
    app_version: AppVersion = ""
    member_id: KeyText | None = None


class EngagementNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done with a post. `member_id` may be left out by the member themself."""

    post_id: KeyText
    kind: Action
    happened_at: Moment
    surface: Surface = "feed"
    position: Place | None = None
    dwell_ms: Place | None = None
    app_version: AppVersion = ""
    member_id: KeyText | None = None


class ImpressionBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Impressions to record."""

    items: Annotated[list[ImpressionNew], Meta(max_length=BATCH_ITEMS_MAX)]


class EngagementBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Engagements to record."""

    items: Annotated[list[EngagementNew], Meta(max_length=BATCH_ITEMS_MAX)]


class Envelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch before its items are read, so that one bad item does not refuse the others."""

    items: list[Raw]


class BulkEnvelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bulk request before its items are read."""

    items: list[Raw]
    community: str = ""


class CommunityBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Communities to create or bring up to date."""

    items: Annotated[list[CommunityDraft], Meta(max_length=BULK_ITEMS_MAX)]


class MemberBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Members to create or bring up to date; `community` is an id or an external id."""

    community: str
    items: Annotated[list[MemberDraft], Meta(max_length=BULK_ITEMS_MAX)]


class PostBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Posts to create or bring up to date."""

    community: str
    items: Annotated[list[PostDraft], Meta(max_length=BULK_ITEMS_MAX)]


class CommentBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Comments to create or bring up to date."""

    community: str
    items: Annotated[list[CommentDraft], Meta(max_length=BULK_ITEMS_MAX)]


class FollowBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Follows to create or bring up to date."""

    community: str
    items: Annotated[list[FollowDraft], Meta(max_length=BULK_ITEMS_MAX)]


class ImpressionBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Impressions of the past."""

    community: str
    items: Annotated[list[ImpressionDraft], Meta(max_length=BULK_ITEMS_MAX)]


class EngagementBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Engagements of the past."""

    community: str
    items: Annotated[list[EngagementDraft], Meta(max_length=BULK_ITEMS_MAX)]


BULK_BODIES: dict[str, type[Struct]] = {
    "communities": CommunityBulk,
    "members": MemberBulk,
    "posts": PostBulk,
    "comments": CommentBulk,
    "follows": FollowBulk,
    "impressions": ImpressionBulk,
    "engagements": EngagementBulk,
}


class ReportNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A thing to report, and why."""

    thing_kind: ThingKind
    thing_id: KeyText
    reason: ReportReason
    detail: str = ""


class ActionNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A move to make about a thing, and why. The reason is kept, and told to the author."""

    thing_kind: ThingKind
    thing_id: KeyText
    move: Move
    reason: str


class FlagUse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often one variant was given; an empty variant stands for the caller's own default."""

    key: Annotated[str, Meta(min_length=1, max_length=200)]
    variant: Annotated[str, Meta(max_length=200)] = ""
    evaluations: Annotated[int, Meta(ge=1, le=1_000_000_000)]


class FlagUses(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evaluations of another process since it last told of them."""

    lines: Annotated[list[FlagUse], Meta(max_length=10_000)]


class TokenNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to issue for a member."""

    member_id: KeyText
    seconds: Annotated[int, Meta(ge=60, le=90 * 24 * 3600)] = 3600


class OperatorNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator, a release manager or a flag reader to create; the answer holds the first token."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$")]
    role: Literal["operator", "release_manager", "flag_reader"] = "operator"
