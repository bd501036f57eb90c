"""Communities: the places that posts belong to."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community import validator
from millrace.community.intake import (
    QUERIES,
    Intake,
    Line,
    Named,
    bounded,
    in_bulk,
    operators_only,
    placed,
)
from millrace.community.types import (
    ABOUT_MAX,
    EXTERNAL_ID_MAX,
    NAME_MAX,
    NEARBY_MAX,
    BatchResult,
    Community,
    CommunityDraft,
    Member,
    Viewer,
)
from millrace.community.visibility import asker, unseen
from millrace.kernel.clock import Clock
from millrace.store.router import Router
from millrace.store.session import Session, document

ALL_COMMUNITIES = 0
"""The bulk lock of communities themselves; no community has this id."""


KEEPERS_MAX = 50


class CommunitySize(Struct, frozen=True, kw_only=True):
    """How many members and standing posts a community has."""

    community_id: int
    members: int
    posts: int


class Surroundings(Struct, frozen=True, kw_only=True):
    """What stands around a community.

    near: communities whose nearby posts are seen here.
    reached: communities where the nearby posts of this one are seen.
    """

    near: list[Community]
    reached: list[Community]
    moderators: list[Member]


class CleanCommunity(Struct, frozen=True):
    """A community draft that passed its checks."""

    external_id: str
    name: str
    description: str
    language: str
    place: str
    country: str
    nearby: list[str]
    created_at: datetime | None


class Communities:
    """Reads are open to every viewer: that a community exists is no secret of its members."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    async def get(self, viewer: Viewer, community_id: int) -> Community:
        """Return one community.

        Passes on:
            NotFoundError: there is none with this id.
        """
        async with self._router.read(viewer.token) as session:
            found = await session.row(
                QUERIES["community_by_id"], Community, community_id=community_id
            )
        if found is None:
            unseen("community", community_id)
        return found

    async def find(self, name: str) -> Community:
        """Return the community with this external id, or with this id.

        Passes on:
            NotFoundError: there is none.
        """
        async with self._router.read() as session:
            found = await session.row(
                QUERIES["community_named"], Community, name=validator.searchable(name)
            )
        if found is None:
            unseen("community", name[:EXTERNAL_ID_MAX])
        return found

    async def upsert(self, viewer: Viewer, drafts: Sequence[CommunityDraft]) -> BatchResult:
        """Create communities or bring them up to date, by external id.

        `nearby` is the whole list: neighbours that are not in it are taken away. A neighbour may
        come in the same batch.

        Passes on:
            ForbiddenError: the viewer is no operator.
            TooLargeError: the batch is too long.
        """
        operators_only(viewer, "create or change communities")
        bounded("drafts", drafts)

        async def work(session: Session) -> BatchResult:
            intake = Intake()
            lines = intake.cleaned(drafts, self._clean)
            lines = intake.distinct(lines, lambda clean: clean.external_id, "external_id")
            known = await session.rows(QUERIES["community_ids"], Named)
            named = {one.external_id: one.id for one in known}
            lines = _with_known_neighbours(intake, lines, named)
            await self._write(session, intake, lines, named)
            return intake.result()

        return await in_bulk(self._router, ALL_COMMUNITIES, work)

    def _clean(self, draft: CommunityDraft) -> CleanCommunity:
        now = self._clock.now()
        at = draft.created_at
        return CleanCommunity(
            validator.name("external_id", draft.external_id, EXTERNAL_ID_MAX),
            validator.name("name", draft.name, NAME_MAX),
            validator.prose("description", draft.description, ABOUT_MAX),
            validator.language("language", draft.language),
            validator.line("place", draft.place, NAME_MAX),
            validator.country("country", draft.country),
            validator.words("nearby", draft.nearby, NEARBY_MAX, EXTERNAL_ID_MAX),
            None if at is None else validator.moment("created_at", at, now),
        )

    async def _write(
        self,
        session: Session,
        intake: Intake,
        lines: list[Line[CleanCommunity]],
        named: dict[str, int],
    ) -> None:
        now = self._clock.now()
        known = set(named)
        taken = set(named.values()) | {ALL_COMMUNITIES}
        for line in lines:
            clean = line.clean
            if clean.external_id not in named:
                made = placed(clean.created_at or now, clean.external_id, taken)
                named[clean.external_id] = made
                taken.add(made)
            intake.ids[clean.external_id] = named[clean.external_id]
        rows = document([_row(line.clean, named, now) for line in lines])
        created = await session.run(QUERIES["insert_communities"], rows=rows)
        changed = set(await session.rows(QUERIES["update_communities"], Touched, rows=rows))
        neighbours = document(
            [
                {"community_id": named[line.clean.external_id], "neighbour_id": named[name]}
                for line in lines
                for name in line.clean.nearby
            ]
        )
        ids = [named[line.clean.external_id] for line in lines]
        changed |= set(
            await session.rows(
                QUERIES["replace_nearby"], Touched, ids=ids, rows=neighbours, now=now
            )
        )
        old = {named[name] for name in known}
        intake.created += created
        intake.updated += len({one.community_id for one in changed} & old)
        intake.unchanged += len(lines) - intake.created - intake.updated

    async def sizes(self, viewer: Viewer) -> dict[int, CommunitySize]:
        """Return how many members and standing posts each community has; of an empty one nothing."""
        async with self._router.read(viewer.token) as session:
            found = await session.rows(QUERIES["community_sizes"], CommunitySize)
        return {one.community_id: one for one in found}

    async def surroundings(self, viewer: Viewer, community_id: int) -> Surroundings:
        """Return what stands around a community: whom it sees, who sees it, who keeps order.

        Moderators whom the viewer may not meet are left out.
        """
        async with self._router.read(viewer.token) as session:
            near = await session.rows(QUERIES["near"], Community, community_id=community_id)
            reached = await session.rows(
                QUERIES["reached_by"], Community, community_id=community_id
            )
            keepers = await session.rows(
                QUERIES["moderators"],
                Member,
                **asker(viewer),
                community_id=community_id,
                limit=KEEPERS_MAX,
            )
        return Surroundings(near=near, reached=reached, moderators=keepers)

    # Last in the class: after it, `list` in an annotation would mean this method.
    async def list(self, viewer: Viewer) -> list[Community]:
        """Return every community, by name."""
        async with self._router.read(viewer.token) as session:
            return await session.rows(QUERIES["communities"], Community)


class Touched(Struct, frozen=True):
    """A community that a statement changed."""

    community_id: int


def _with_known_neighbours(
    intake: Intake, lines: list[Line[CleanCommunity]], named: dict[str, int]
) -> list[Line[CleanCommunity]]:
    """Reject drafts with a neighbour that neither exists nor comes with the batch.

    A rejected draft may be the neighbour of another one, so this repeats until nothing changes.
    """
    while True:
        coming = {line.clean.external_id for line in lines}
        kept: list[Line[CleanCommunity]] = []
        for line in lines:
            clean = line.clean
            unknown = [name for name in clean.nearby if name not in named and name not in coming]
            if unknown:
                intake.reject(line.index, "nearby", f"there is no community {unknown[0]!r}")
            elif clean.external_id in clean.nearby:
                intake.reject(line.index, "nearby", "a community is not its own neighbour")
            else:
                kept.append(line)
        if len(kept) == len(lines):
            return kept
        lines = kept


def _row(clean: CleanCommunity, named: dict[str, int], now: datetime) -> dict[str, object]:
    return {
        "community_id": named[clean.external_id],
        "external_id": clean.external_id,
        "name": clean.name,
        "description": clean.description,
        "language": clean.language,
        "place": clean.place,
        "country": clean.country,
        "created_at": clean.created_at or now,
    }
