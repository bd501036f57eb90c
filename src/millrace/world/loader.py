"""The only hand of an import: takes rows batch by batch through the community's verbs.

Each verb takes its part of a batch in one transaction, and every verb is idempotent by external
id. So a kill at any moment leaves whole batches behind, and the same import run again takes the
rest and ends in the same state.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from msgspec import Struct

from millrace.community.types import (
    BatchResult,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
    program,
)
from millrace.kernel.errors import InvalidError, MillraceError, NotFoundError
from millrace.kernel.hashing import hash64
from millrace.world.ports import Rooms, Watch
from millrace.world.rejects import Rejects
from millrace.world.types import (
    BATCH_ROWS,
    Broken,
    Draft,
    Event,
    FileReport,
    ImportReport,
    NounReport,
    Place,
    Reached,
    Reject,
    Row,
    Skip,
)

Verb = Callable[[int, list[Any]], Awaitable[BatchResult]]

# The order in which the nouns of one batch are taken: what is referred to comes first.
NOUNS: dict[type[Draft], str] = {
    MemberDraft: "members",
    PostDraft: "posts",
    CommentDraft: "comments",
    FollowDraft: "follows",
    ImpressionDraft: "impressions",
    EngagementDraft: "engagements",
}
VIEWER = program("import")
LEARNING = "the feed learns"
"""What a watch is told while a feed is fitted; how long that takes is not known, so of 0."""


class CommunityRow(Struct, frozen=True):
    """One row of a communities file."""

    place: Place
    draft: CommunityDraft
    shown: str


async def created_at_of(rooms: Rooms, external_id: str) -> datetime | None:
    """Return when the community with this external id was created, None where there is none."""
    try:
        found = await rooms.communities.find(external_id)
    except NotFoundError:
        return None
    return found.created_at if found.external_id == external_id else None


def silent(_file: str, _done: int, _total: int) -> None:
    """Watch nothing."""


class Loader:
    """Takes rows in batches and counts what became of each."""

    def __init__(self, rooms: Rooms, report: ImportReport, rejects: Rejects, watch: Watch) -> None:
        self._rooms = rooms
        self._report = report
        self._rejects = rejects
        self._watch = watch
        self._seen: set[int] = set()  # 64-bit hashes of what was named in this run
        self._batch: list[Row] = []
        self._verbs: dict[type[Draft], Verb] = {
            MemberDraft: lambda home, found: rooms.members.upsert(VIEWER, home, found),
            PostDraft: lambda home, found: rooms.posts.upsert(VIEWER, home, found),
            CommentDraft: lambda home, found: rooms.threads.upsert(VIEWER, home, found),
            FollowDraft: lambda home, found: rooms.relations.upsert_follows(VIEWER, home, found),
            ImpressionDraft: lambda home, found: rooms.activity.upsert_impressions(
                VIEWER, home, found
            ),
            EngagementDraft: lambda home, found: rooms.activity.upsert_engagements(
                VIEWER, home, found
            ),
        }

    async def communities(self, rows: Sequence[CommunityRow]) -> None:
        """Take communities, all in one transaction, so that they may name each other as nearby."""
        if not rows:
            return
        result = await self._rooms.communities.upsert(VIEWER, [row.draft for row in rows])
        self._count("communities", result)
        self._report.communities.update(result.ids)
        for row in rows:
            self._file(row.place.file).rows += 1
        for one in result.rejected:
            row = rows[one.index]
            place = row.place
            self._refuse(Reject(place.file, place.line, 0, one.field, one.reason, row.shown))
        for at, row in enumerate(rows):
            if all(one.index != at for one in result.rejected):
                self._file(row.place.file).taken += 1

    async def named(self, external_id: str, made: CommunityDraft | None = None) -> datetime:
        """Use the community with this external id, made if it is not there; return its date.

        Raises:
            InvalidError: it cannot be made; names the field.
        """
        if await created_at_of(self._rooms, external_id) is None:
            now = self._rooms.clock.now().replace(microsecond=0)
            draft = made or CommunityDraft(
                external_id=external_id, name=external_id, created_at=now
            )
            result = await self._rooms.communities.upsert(VIEWER, [draft])
            self._count("communities", result)
            for fault in result.rejected:
                raise InvalidError(
                    f"community {external_id[:60]!r} was not taken: {fault.reason}",
                    field="--community",
                    value=external_id[:60],
                    next_step="name another with --community",
                )
            self._report.communities.update(result.ids)
            return draft.created_at or now
        found = await self._rooms.communities.find(external_id)
        self._report.communities[external_id] = found.community_id
        return found.created_at

    async def take(self, events: Iterable[Event]) -> None:
        """Take everything that one reader tells, to its end."""
        for event in events:
            match event:
                case Row():
                    await self._admit(event)
                case Reached(file=file, done=done, total=total):
                    self._file(file)
                    self._watch(file, done, total)
                case Skip(place=place, reason=reason):
                    found = self._file(place.file)
                    found.rows += 1
                    found.skipped[reason] = found.skipped.get(reason, 0) + 1
                case Broken(file=file, reason=reason):
                    self._file(file).broken = reason
                case Reject():
                    self._file(event.file).rows += 1
                    self._refuse(event)
            if len(self._batch) >= BATCH_ROWS:
                await self._flush()
        await self._flush()

    async def _admit(self, row: Row) -> None:
        """Put a row into the batch, unless its community is unknown or its name is taken."""
        self._file(row.place.file).rows += 1
        if row.community not in self._report.communities:
            reason = f"there is no community {row.community[:60]!r} here"
            self._refuse(_reject(row, "community", reason))
            return
        names = _names(row)
        if not self._seen.isdisjoint(names):
            await self._flush()  # whether the earlier row was taken is only known then
        if not self._seen.isdisjoint(names):
            reason = "the same external_id was taken from an earlier row, which stands"
            self._refuse(_reject(row, "external_id", reason))
            return
        self._seen |= names
        self._batch.append(row)

    async def _flush(self) -> None:
        """Take the batch, noun by noun; a row counts as taken when all of its drafts are."""
        homes: dict[str, list[Row]] = {}
        for row in self._batch:
            homes.setdefault(row.community, []).append(row)
        self._batch = []
        for community, rows in homes.items():
            home = self._report.communities[community]
            faults: dict[int, Reject] = {}
            for noun in NOUNS:
                picked = [
                    (at, draft)
                    for at, row in enumerate(rows)
                    for draft in row.drafts
                    if at not in faults and isinstance(draft, noun)
                ]
                for at, field, reason in await self._send(noun, home, picked):
                    faults.setdefault(at, _reject(rows[at], field, reason))
            for at, row in enumerate(rows):
                if at in faults:
                    self._seen -= _names(row)
                    self._refuse(faults[at])
                else:
                    self._file(row.place.file).taken += 1

    async def _send(
        self, noun: type[Draft], home: int, picked: list[tuple[int, Draft]]
    ) -> list[tuple[int, str, str]]:
        """Hand drafts to their verb; return (row, field, reason) of those that it refused.

        A verb that refuses a whole batch for one draft is asked again with halves, until that
        draft stands alone.
        """
        if not picked:
            return []
        try:
            result = await self._verbs[noun](home, [draft for _, draft in picked])
        except InvalidError as exc:
            if len(picked) > 1:
                half = len(picked) // 2
                return [
                    *await self._send(noun, home, picked[:half]),
                    *await self._send(noun, home, picked[half:]),
                ]
            self._noun(NOUNS[noun]).rejected += 1
            return [(picked[0][0], exc.field or "", exc.message)]
        self._count(NOUNS[noun], result)
        return [(picked[one.index][0], one.field, one.reason) for one in result.rejected]

    def _count(self, noun: str, result: BatchResult) -> None:
        found = self._noun(noun)
        found.created += result.created
        found.updated += result.updated
        found.unchanged += result.unchanged
        found.rejected += len(result.rejected)

    def _noun(self, noun: str) -> NounReport:
        return self._report.nouns.setdefault(noun, NounReport())

    def _file(self, name: str) -> FileReport:
        return self._report.files.setdefault(name, FileReport())

    def _refuse(self, reject: Reject) -> None:
        self._file(reject.file).rejected += 1
        self._rejects.put(reject)

    async def finish(self) -> None:
        """Bring the numbers up to date, and let a feed learn if anything came in.

        A feed that cannot learn now does not undo the import: the report says why. A running
        program fits its feed from time to time anyway.
        """
        await self._rooms.percentiles.refresh(list(self._report.communities.values()))
        feed: Any = getattr(cast("Any", self._rooms), "feed", None)
        nouns = self._report.nouns.values()
        if feed is None or not any(noun.created or noun.updated for noun in nouns):
            return
        self._watch(LEARNING, 0, 0)
        try:
            await feed.fit()
        except (MillraceError, TimeoutError) as exc:
            self._report.not_learned = str(exc) or type(exc).__name__
            return
        self._report.learned = True
        self._watch(LEARNING, 1, 1)


def _names(row: Row) -> set[int]:
    """Return hashes of the things that a row names as its own."""
    return {
        hash64("\0".join((NOUNS[type(draft)], row.community, draft.external_id.strip())))
        for draft in row.drafts
        if isinstance(draft, MemberDraft | PostDraft | CommentDraft)
    }


def _reject(row: Row, field: str, reason: str) -> Reject:
    return Reject(row.place.file, row.place.line, 0, field, reason, row.shown)
