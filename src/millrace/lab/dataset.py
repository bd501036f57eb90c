"""A community in memory as an evaluation reads it: everything with its time, to be cut at a moment.

`Collector` stands where an importer expects the community's rooms, so every data set that can be
imported can be evaluated, read by the same importer. Nothing is written anywhere.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from millrace.community.types import (
    POSITIVE_ACTIONS,
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
    program,
)
from millrace.kernel.clock import Clock
from millrace.kernel.errors import NotFoundError
from millrace.kernel.hashing import hash64

D = TypeVar("D")
LOAD_ROWS = 2_000
VIEWER = program("evaluate")

Named = tuple[str, str]
"""A community's external id, and the external id of a thing in it."""


class Dataset(Struct, kw_only=True):
    """Drafts with the external id of their community, each noun in the order of its times."""

    communities: list[CommunityDraft] = field(default_factory=list[CommunityDraft])
    members: list[tuple[str, MemberDraft]] = field(default_factory=list[tuple[str, MemberDraft]])
    posts: list[tuple[str, PostDraft]] = field(default_factory=list[tuple[str, PostDraft]])
    comments: list[tuple[str, CommentDraft]] = field(default_factory=list[tuple[str, CommentDraft]])
    follows: list[tuple[str, FollowDraft]] = field(default_factory=list[tuple[str, FollowDraft]])
    impressions: list[tuple[str, ImpressionDraft]] = field(
        default_factory=list[tuple[str, ImpressionDraft]]
    )
    engagements: list[tuple[str, EngagementDraft]] = field(
        default_factory=list[tuple[str, EngagementDraft]]
    )

    def positives(self) -> list[tuple[datetime, Named, Named]]:
        """Return when somebody liked to do something with which post, in the order of time.

        Writing a comment is an engagement of its author too, as the community has it.
        """
        found = [
            (one.happened_at, (home, one.member), (home, one.post))
            for home, one in self.engagements
            if one.kind in POSITIVE_ACTIONS
        ]
        found += [
            (one.created_at, (home, one.author), (home, one.post))
            for home, one in self.comments
            if one.created_at is not None
        ]
        return sorted(found)


class Collector:
    """Takes what an importer brings, and keeps it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.dataset = Dataset()
        self._names: dict[int, str] = {}
        self._found: dict[str, Community] = {}
        self.communities = self
        self.members = _Verb(self, self.dataset.members)
        self.posts = _Verb(self, self.dataset.posts)
        self.threads = _Verb(self, self.dataset.comments)
        self.relations = _Relations(self)
        self.activity = _Activity(self)
        self.percentiles = _Nothing()

    def name(self, community_id: int) -> str:
        """Return the external id of a community."""
        return self._names[community_id]

    async def find(self, name: str) -> Community:
        """Return a community that was taken.

        Raises:
            NotFoundError: there is none of this name.
        """
        if name not in self._found:
            raise NotFoundError(f"there is no community {name!r}", field="community", value=name)
        return self._found[name]

    async def upsert(self, viewer: Viewer, drafts: list[CommunityDraft]) -> BatchResult:
        """Keep communities; each gets a number of its own."""
        ids: dict[str, int] = {}
        for draft in drafts:
            made_at = draft.created_at or self.clock.now()
            identity = ids[draft.external_id] = hash64(draft.external_id) >> 1
            self._names[identity] = draft.external_id
            self._found[draft.external_id] = Community(
                community_id=identity,
                external_id=draft.external_id,
                name=draft.name,
                description=draft.description,
                language=draft.language,
                place=draft.place,
                created_at=made_at,
                system_version=1,
            )
            self.dataset.communities.append(replace(draft, created_at=made_at))
        return BatchResult(len(drafts), 0, 0, [], ids)


class _Verb:
    """Keeps the drafts of one noun."""

    def __init__(self, collector: Collector, kept: list[Any]) -> None:
        self._collector = collector
        self._kept = kept

    async def upsert(self, viewer: Viewer, community_id: int, drafts: Sequence[Any]) -> BatchResult:
        """Keep drafts."""
        home = self._collector.name(community_id)
        self._kept.extend((home, draft) for draft in drafts)
        return BatchResult(len(drafts), 0, 0, [])


class _Relations:
    def __init__(self, collector: Collector) -> None:
        self.upsert_follows = _Verb(collector, collector.dataset.follows).upsert


class _Activity:
    def __init__(self, collector: Collector) -> None:
        self.upsert_impressions = _Verb(collector, collector.dataset.impressions).upsert
        self.upsert_engagements = _Verb(collector, collector.dataset.engagements).upsert


class _Nothing:
    async def refresh(self, community_ids: Any = None, /) -> None:
        """Have no scales."""


def between(
    rows: Iterable[tuple[str, D]], name: str, after: datetime | None, until: datetime
) -> list[tuple[str, D]]:
    """Return the rows whose time lies behind `after` and not behind `until`.

    One without a time belongs to the first stretch.
    """
    kept: list[tuple[str, D]] = []
    for home, row in rows:
        at: datetime | None = getattr(row, name)
        if at is None:
            if after is None:
                kept.append((home, row))
        elif at <= until and (after is None or at > after):
            kept.append((home, row))
    return kept


def by_home(rows: Iterable[tuple[str, D]]) -> dict[str, list[D]]:
    """Return the drafts of each community, in their order."""
    homes: defaultdict[str, list[D]] = defaultdict(list)
    for home, row in rows:
        homes[home].append(row)
    return dict(homes)


class Keys(Struct):
    """What the database calls the things of a data set."""

    communities: dict[str, int] = field(default_factory=dict[str, int])
    members: dict[Named, int] = field(default_factory=dict[Named, int])
    posts: dict[Named, int] = field(default_factory=dict[Named, int])


async def load(
    rooms: Any, data: Dataset, keys: Keys, after: datetime | None, until: datetime
) -> None:
    """Write everything of a stretch of time through the community's own verbs.

    Args:
        rooms: the program.
        data: what there is.
        keys: told of every id.
        after: the end of the stretch before; None for the first one.
        until: the end of this stretch, inclusive.
    """
    if after is None:
        result = await rooms.communities.upsert(VIEWER, data.communities)
        keys.communities.update(result.ids)
    nouns = (
        (data.members, "joined_at", rooms.members.upsert, keys.members),
        (data.posts, "created_at", rooms.posts.upsert, keys.posts),
        (data.comments, "created_at", rooms.threads.upsert, None),
        (data.follows, "created_at", rooms.relations.upsert_follows, None),
        (data.impressions, "shown_at", rooms.activity.upsert_impressions, None),
        (data.engagements, "happened_at", rooms.activity.upsert_engagements, None),
    )
    for rows, name, verb, known in nouns:
        for home, drafts in by_home(between(rows, name, after, until)).items():
            for start in range(0, len(drafts), LOAD_ROWS):
                part = drafts[start : start + LOAD_ROWS]
                result = await verb(VIEWER, keys.communities[home], part)
                if known is not None:
                    known.update({(home, name): one for name, one in result.ids.items()})
    await rooms.percentiles.refresh(list(keys.communities.values()))
