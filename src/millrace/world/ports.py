"""What this room asks of the others: the community's upsert verbs, and a feed that learns.

The importers speak through these verbs only, never SQL, so whatever holds for a bulk upsert by
the API holds for an import too. `wiring.Program` fits `Rooms` as it is.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from millrace.community.types import (
    BatchResult,
    CommentDraft,
    Community,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
    Viewer,
)
from millrace.kernel.clock import Clock

Watch: TypeAlias = Callable[[str, int, int], None]
"""Is told of progress: a file's name, how much of it is read, and how much there is (0: unknown)."""


class CommunityVerbs(Protocol):
    """Finds and takes communities."""

    async def find(self, name: str) -> Community:
        """Return the community with this external id, or raise NotFoundError."""
        ...

    async def upsert(self, viewer: Viewer, drafts: list[CommunityDraft]) -> BatchResult:
        """Take communities by external id."""
        ...


class MemberVerbs(Protocol):
    """Takes members."""

    async def upsert(
        self, viewer: Viewer, community_id: int, drafts: list[MemberDraft]
    ) -> BatchResult:
        """Take members by external id."""
        ...


class PostVerbs(Protocol):
    """Takes posts."""

    async def upsert(
        self, viewer: Viewer, community_id: int, drafts: list[PostDraft]
    ) -> BatchResult:
        """Take posts by external id."""
        ...


class ThreadVerbs(Protocol):
    """Takes comments."""

    async def upsert(
        self, viewer: Viewer, community_id: int, drafts: list[CommentDraft]
    ) -> BatchResult:
        """Take comments by external id."""
        ...


class RelationVerbs(Protocol):
    """Takes follows."""

    async def upsert_follows(
        self, viewer: Viewer, community_id: int, drafts: list[FollowDraft]
    ) -> BatchResult:
        """Take follows; one that stands already is unchanged."""
        ...


class ActivityVerbs(Protocol):
    """Takes impressions and engagements."""

    async def upsert_impressions(
        self, viewer: Viewer, community_id: int, drafts: list[ImpressionDraft]
    ) -> BatchResult:
        """Take impressions; a repeated one is unchanged."""
        ...

    async def upsert_engagements(
        self, viewer: Viewer, community_id: int, drafts: list[EngagementDraft]
    ) -> BatchResult:
        """Take engagements; a repeated one is unchanged."""
        ...


class PercentileVerbs(Protocol):
    """Brings the percentile scales up to date."""

    async def refresh(self, community_ids: Any = None, /) -> Any:
        """Make the scales of these communities anew."""
        ...


class Rooms(Protocol):
    """The rooms that an import writes through."""

    @property
    def clock(self) -> Clock:
        """Return the program's clock."""
        ...

    @property
    def communities(self) -> CommunityVerbs:
        """Return the door to communities."""
        ...

    @property
    def members(self) -> MemberVerbs:
        """Return the door to members."""
        ...

    @property
    def posts(self) -> PostVerbs:
        """Return the door to posts."""
        ...

    @property
    def threads(self) -> ThreadVerbs:
        """Return the door to comments."""
        ...

    @property
    def relations(self) -> RelationVerbs:
        """Return the door to follows."""
        ...

    @property
    def activity(self) -> ActivityVerbs:
        """Return the door to impressions and engagements."""
        ...

    @property
    def percentiles(self) -> PercentileVerbs:
        """Return the door to percentile scales."""
        ...
