"""Bulk work: drafts in, one transaction, a result that says what became of each.

Drafts are named by external ids, so the same drafts twice change nothing. A bad draft is rejected
with its place, field and reason; the rest is taken. One bulk transaction at a time per community:
it may then look up, decide and write without another one in between.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from msgspec import Struct

from millrace.community.retries import retried
from millrace.community.types import BATCH_MAX, BatchResult, Key, Rejected, Viewer
from millrace.community.visibility import unseen
from millrace.kernel.errors import ForbiddenError, InvalidError, TooLargeError
from millrace.kernel.ids import TAIL_MAX, id_at
from millrace.store.queries import Query, load
from millrace.store.router import Router
from millrace.store.session import Session

QUERIES = load("millrace.community")

D = TypeVar("D")
C = TypeVar("C")


class Named(Struct, frozen=True):
    """An external id with the id it stands for."""

    external_id: str
    id: int


class Taken(Struct, frozen=True):
    """An id that is in use."""

    id: int


class Line(Struct, Generic[C]):
    """A draft that passed its own checks: its place in the batch and its cleaned form."""

    index: int
    clean: C


class Intake:
    """Gathers what became of a batch."""

    def __init__(self) -> None:
        self.rejected: list[Rejected] = []
        self.ids: dict[str, int] = {}
        self.created = 0
        self.updated = 0
        self.unchanged = 0

    def cleaned(self, drafts: Sequence[D], clean: Callable[[D], C]) -> list[Line[C]]:
        """Return the drafts that pass `clean`; those that raise are rejected."""
        lines: list[Line[C]] = []
        for index, draft in enumerate(drafts):
            try:
                lines.append(Line(index, clean(draft)))
            except InvalidError as exc:
                self.reject(index, exc.field or "draft", exc.message)
        return lines

    def distinct(
        self, lines: Iterable[Line[C]], named: Callable[[C], object], field: str
    ) -> list[Line[C]]:
        """Return the first line of each name; a later one of the same name is rejected."""
        first: dict[object, int] = {}
        kept: list[Line[C]] = []
        for line in lines:
            earlier = first.setdefault(named(line.clean), line.index)
            if earlier == line.index:
                kept.append(line)
            else:
                self.reject(line.index, field, f"{field} is the same as in draft {earlier}")
        return kept

    def reject(self, index: int, field: str, reason: str) -> None:
        """Note that a draft is not taken."""
        self.rejected.append(Rejected(index, field, reason))

    def result(self) -> BatchResult:
        """Return the result, rejects in the order of the batch."""
        return BatchResult(
            self.created,
            self.updated,
            self.unchanged,
            sorted(self.rejected, key=lambda one: one.index),
            self.ids,
        )


def operators_only(viewer: Viewer, what: str) -> None:
    """Refuse everybody but operators.

    Raises:
        ForbiddenError: the viewer is somebody else.
    """
    if not viewer.oversees:
        raise ForbiddenError(
            f"{viewer.name} may not {what}",
            value=viewer.role.value,
            limit="operator",
            next_step="ask an operator of this installation",
        )


def bounded(field: str, batch: Collection[object], largest: int = BATCH_MAX) -> None:
    """Refuse a batch that is too long.

    Raises:
        TooLargeError: names the length and the limit.
    """
    if len(batch) > largest:
        raise TooLargeError(
            f"{field} has {len(batch):,} entries, {largest:,} are allowed",
            field=field,
            value=len(batch),
            limit=largest,
            next_step="split the batch",
        )


async def in_bulk(
    router: Router, community_id: int, work: Callable[[Session], Awaitable[BatchResult]]
) -> BatchResult:
    """Run `work` in a bulk transaction, and anew where it lost a race against another write.

    So `work` begins with a batch of its own each time.

    Passes on:
        ConflictError: it lost every time.
    """

    async def whole() -> BatchResult:
        async with _bulk(router, community_id) as session:
            return await work(session)

    return await retried(whole)


@asynccontextmanager
async def _bulk(router: Router, community_id: int) -> AsyncGenerator[Session]:
    """Lend the session of one bulk transaction: alone in its community.

    Tables that doubled are analyzed before the end. Autovacuum would do so a minute later, and until
    then the planner, who thinks them empty, makes large reads a hundred times slower.
    """
    async with router.write() as session:
        await session.value(QUERIES["lock_bulk"], community_id=community_id)
        yield session
        if await session.value(QUERIES["statistics_are_old"]):
            await session.run(QUERIES["analyze"])


def placed(moment: datetime, external_id: str, taken: Collection[int]) -> int:
    """Return the id of an imported thing, the next free one where two names meet on one id.

    The first id depends on the moment and the name only, so an import gives the same ids on every
    machine; a meeting (one in four million per millisecond) is settled by the order of the batch.
    """
    identity = id_at(moment, external_id)
    while identity in taken:
        identity = (identity & ~TAIL_MAX) | ((identity + 1) & TAIL_MAX)
    return identity


async def ids_for(
    session: Session, exists: Query, community_id: int, things: Sequence[tuple[datetime, str]]
) -> list[int]:
    """Return a free id for each (moment, external id); `exists` finds those that are taken."""
    taken: set[int] = set()
    while True:
        used = set(taken)
        ids: list[int] = []
        for moment, external_id in things:
            identity = placed(moment, external_id, used)
            used.add(identity)
            ids.append(identity)
        found = await session.rows(exists, Taken, community_id=community_id, ids=ids)
        if not found:
            return ids
        taken |= {one.id for one in found}


def fixed(intake: Intake, index: int, field: str, given: datetime | None, known: datetime) -> bool:
    """Return whether a date that is fixed at creation is still the same; reject it otherwise.

    The id carries the date, so another date would put the thing at a wrong place in every list.
    """
    if given is None or abs(given - known) < timedelta(milliseconds=1):
        return True
    intake.reject(index, field, f"{field} is fixed at creation and is {known.isoformat()}")
    return False


async def home_of(session: Session, community_id: int) -> None:
    """Make sure that the community of a batch exists.

    Passes on:
        NotFoundError: there is none with this id.
    """
    if await session.value(QUERIES["community_exists"], community_id=community_id) is None:
        unseen("community", community_id)


async def members_named(
    session: Session, community_id: int, names: Iterable[str]
) -> dict[str, Key]:
    """Return the keys of the members with these external ids, those that exist."""
    found = await session.rows(
        QUERIES["member_ids"], Named, community_id=community_id, names=sorted(set(names))
    )
    return {one.external_id: Key(community_id, one.id) for one in found}


async def posts_named(session: Session, community_id: int, names: Iterable[str]) -> dict[str, Key]:
    """Return the keys of the posts with these external ids, those that exist."""
    found = await session.rows(
        QUERIES["post_ids"], Named, community_id=community_id, names=sorted(set(names))
    )
    return {one.external_id: Key(community_id, one.id) for one in found}
