"""Changes that wait: for a second person, for their time, for the adoption of a version.

    proposed ──approve──▶ approved ──carry out──▶ applied
       │ │                  │  └── the flag has moved on, or the definition is wrong ──▶ failed
       │ └──cancel──────────┴──▶ cancelled
       └──reject──▶ rejected

What was asked for while nobody had to approve is approved by nobody. Once somebody has to, it goes
back to proposed.

Each is carried out in one transaction with the flag and its trail, by one process at a time: it is
made once and whole, or not at all, whatever is killed in the middle.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import NoReturn

from msgspec.structs import replace

from millrace.kernel.clock import Clock
from millrace.kernel.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    MillraceError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from millrace.kernel.ids import IdMaker
from millrace.release.flags.book import Book, Edit
from millrace.release.flags.limits import expect_limit, expect_terms, expect_text
from millrace.release.flags.repository import QUERIES
from millrace.release.flags.types import (
    REASON_MAX,
    Actor,
    ChangeRequest,
    RequestState,
    Terms,
    Wait,
)
from millrace.store.router import Router
from millrace.store.session import Session, document

DUE_MAX = 1_000  # requests that wait at a time
SCHEDULE = "schedule"
"""The actor in the trail where a request is carried out because its time has come."""

logger = logging.getLogger(__name__)

Met = Callable[[Wait], Awaitable[bool]]
"""Whether enough members of a market use a version by now."""


class Requests:
    """Keeps changes that wait, and carries out what is due."""

    def __init__(
        self,
        *,
        router: Router,
        clock: Clock,
        ids: IdMaker,
        book: Book,
        met: Met,
        reviewed: bool,
    ) -> None:
        """Keep the surroundings. reviewed: whether each change is approved by a second person."""
        self._reviewed = reviewed
        self._router = router
        self._clock = clock
        self._ids = ids
        self._book = book
        self._met = met

    async def ask(self, edit: Edit, terms: Terms, *, reviewed: bool) -> ChangeRequest:
        """Keep a change that is not made yet, once it could be made.

        Args:
            edit: the change.
            terms: when, and whose the flag is then.
            reviewed: whether somebody else has to approve it first.

        Passes on:
            ConflictError: the flag has another version, and no open request makes that one.
            InvalidError: the definition is wrong.
            NotFoundError: there is no such flag to be removed.
            TooLargeError: too many changes wait already.
        """
        expect_terms(terms)
        async with self._router.write() as session:
            flag = await self._book.looked_at(session, edit, ahead=True)
            if await session.value(QUERIES["open_requests"]) >= DUE_MAX:
                _refuse_more()
            stands = flag.version if flag else 0
            made = ChangeRequest(
                id=self._ids.next(),
                key=edit.key,
                move=edit.move,
                content=edit.content,
                owner=(flag.owner if flag else "") if edit.owner is None else edit.owner,
                base_version=stands if edit.version is None else edit.version,
                reason=edit.reason,
                state=RequestState.PROPOSED if reviewed else RequestState.APPROVED,
                proposed_by=edit.actor,
                proposed_at=self._clock.now(),
                decided_by="",
                decided_at=None,
                due_at=terms.due_at,
                wait=terms.wait,
                note="",
            )
            await session.run(
                QUERIES["insert_request"],
                id=made.id,
                key=made.key,
                move=made.move.value,
                content=made.content,
                owner=made.owner,
                base_version=made.base_version,
                reason=made.reason,
                state=made.state.value,
                actor=made.proposed_by,
                now=made.proposed_at,
                due_at=made.due_at,
                wait=None if made.wait is None else document(made.wait),
            )
        return made

    # ------------------------------------------------- decisions

    async def approve(self, request_id: int, actor: Actor) -> ChangeRequest:
        """Let a proposed change be made; at once, where it waits for nothing else.

        Raises:
            ForbiddenError: it is the actor's own.

        Passes on:
            NotFoundError: there is no such request.
            ConflictError: it is decided already.
        """
        async with self._router.write() as session:
            held = await _held(session, request_id, RequestState.PROPOSED)
            if _person(held.proposed_by) == _person(actor.name):
                raise ForbiddenError(
                    f"{held.proposed_by} proposed this change",
                    value=actor.name,
                    limit="somebody else",
                    next_step="ask a colleague to look at it",
                )
            return await self._decided(session, held, actor, RequestState.APPROVED)

    async def reject(self, request_id: int, actor: Actor, note: str) -> ChangeRequest:
        """Say no to a proposed change, and why.

        Passes on:
            NotFoundError: there is no such request.
            ConflictError: it is decided already.
            InvalidError: the note is missing, or cannot be kept.
        """
        expect_text("note", note, REASON_MAX, needed=True)
        async with self._router.write() as session:
            held = await _held(session, request_id, RequestState.PROPOSED)
            return await self._decided(session, held, actor, RequestState.REJECTED, note)

    async def cancel(self, request_id: int, actor: Actor, note: str = "") -> ChangeRequest:
        """Take a change back that is not made yet.

        Passes on:
            NotFoundError: there is no such request.
            ConflictError: it is made or decided already.
            InvalidError: the note cannot be kept.
        """
        expect_text("note", note, REASON_MAX, needed=False)
        async with self._router.write() as session:
            held = await _held(session, request_id, RequestState.PROPOSED, RequestState.APPROVED)
            return await self._decided(session, held, actor, RequestState.CANCELLED, note)

    async def _decided(
        self,
        session: Session,
        held: ChangeRequest,
        actor: Actor,
        state: RequestState,
        note: str = "",
    ) -> ChangeRequest:
        made = replace(
            held, state=state, decided_by=actor.name, decided_at=self._clock.now(), note=note
        )
        await session.run(
            QUERIES["decide_request"],
            id=made.id,
            state=made.state.value,
            actor=made.decided_by,
            now=made.decided_at,
            note=made.note,
        )
        return made

    # ------------------------------------------------- carrying out

    async def apply_due(self, now: datetime) -> int:
        """Carry out what is due; return how many changes were made.

        Another process that is at it is not waited for.

        Raises:
            UnavailableError: the database is away; what is due stays so.
        """
        if self._reviewed:
            await self._expect_approval()
        async with self._router.read() as session:
            due = await session.rows(QUERIES["due_requests"], ChangeRequest, now=now, limit=DUE_MAX)
        made = 0
        met: dict[Wait | None, bool] = {None: True}
        for request in due:
            try:
                if request.wait not in met and request.wait is not None:
                    met[request.wait] = await self._met(request.wait)
                if met[request.wait]:
                    made += await self.carry_out(request.id) is RequestState.APPLIED
            except UnavailableError:
                raise
            except MillraceError as exc:  # one that fails does not hold up the others
                logger.warning("request %d of flag %r: %s", request.id, request.key, exc)
        return made

    async def _expect_approval(self) -> None:
        """Let what nobody approved, because nobody had to when it was asked for, wait for that."""
        async with self._router.read() as session:
            if not await session.value(QUERIES["unapproved"]):
                return
        async with self._router.write() as session:
            many = await session.run(QUERIES["propose_again"], id=None)
        logger.warning("%d changes that nobody had to approve wait for approval now", many)

    async def carry_out(self, request_id: int) -> RequestState | None:
        """Make the change of an approved request; return what became of it, None where it waits.

        What cannot be made fails, and its note says why. One of a chain waits for the one before.

        Raises:
            ConflictError: it lost a race; the next round tries again.
        """
        try:
            async with self._router.write() as session:
                return await self._carried_out(session, request_id)
        except (InvalidError, NotFoundError) as exc:
            why: MillraceError = exc
        except ConflictError as exc:
            if exc.field is None:
                raise
            why = exc
        return await self._given_up(request_id, why)

    async def _carried_out(self, session: Session, request_id: int) -> RequestState | None:
        """Make the change and end its request, in one transaction."""
        if not await session.value(QUERIES["lead_requests"]):
            return None
        request = await session.row(QUERIES["hold_request"], ChangeRequest, id=request_id)
        if request is None or request.state is not RequestState.APPROVED:
            return None
        if self._reviewed and not request.decided_by:
            await session.run(QUERIES["propose_again"], id=request_id)
            return RequestState.PROPOSED
        edit = _edit(request)
        if await self._book.is_ahead(session, edit):
            return None  # the one before it in a chain is still open
        await _expect_its_base(session, request)
        flag = await self._book.write(session, edit)
        note = "removed" if flag is None else f"made version {flag.version}"
        await _ended(session, request_id, RequestState.APPLIED, note)
        return RequestState.APPLIED

    async def _given_up(self, request_id: int, why: MillraceError) -> RequestState | None:
        """End a request that cannot be carried out; None where it ended meanwhile."""
        async with self._router.write() as session:
            held = await session.row(QUERIES["hold_request"], ChangeRequest, id=request_id)
            if held is None or held.state is not RequestState.APPROVED:
                return None
            await _ended(session, request_id, RequestState.FAILED, why.message)
            return RequestState.FAILED

    # ------------------------------------------------- reading

    async def get(self, request_id: int) -> ChangeRequest:
        """Return a request.

        Passes on:
            NotFoundError: there is none with this number.
        """
        async with self._router.read() as session:
            found = await session.row(QUERIES["request"], ChangeRequest, id=request_id)
        return _expect_found(found, request_id)

    async def waiting(self) -> int:
        """Return how many requests are open."""
        async with self._router.read() as session:
            return int(await session.value(QUERIES["open_requests"]))

    async def list(
        self,
        states: Collection[RequestState] = (),
        key: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[ChangeRequest]:
        """Return requests, newest first: of some states or of all, of one flag, before one of them."""
        expect_limit(limit)
        async with self._router.read() as session:
            return await session.rows(
                QUERIES["requests"],
                ChangeRequest,
                states=[state.value for state in states] or None,
                key=key,
                before=before,
                limit=limit,
            )


def _person(actor: str) -> str:
    """Return the name alone: `cli:ann` and `operator:ann` are two doors, and not four eyes."""
    return actor.partition(":")[2] or actor


def _edit(request: ChangeRequest) -> Edit:
    """Return the change of a request. The trail names the schedule, and the request the people."""
    waited = request.due_at is not None or request.wait is not None
    return Edit(
        key=request.key,
        move=request.move,
        content=request.content,
        actor=SCHEDULE if waited else request.proposed_by,
        reason=request.reason,
        version=request.base_version,
        owner=request.owner,
        request_id=request.id,
    )


async def _expect_its_base(session: Session, request: ChangeRequest) -> None:
    """Refuse a step of a chain whose base was made by something else than the step before it.

    Raises:
        ConflictError: a kill, say, made the version; the step would undo it.
    """
    own = await session.value(
        QUERIES["has_its_base"],
        key=request.key,
        base_version=request.base_version,
        id=request.id,
    )
    if not own:
        raise ConflictError(
            f"version {request.base_version} of flag {request.key!r} is not what the request "
            "before this one was to make: the flag was changed in between",
            field="version",
            value=request.base_version,
            next_step="look at what was changed meanwhile, and ask again from there",
        )


async def _held(session: Session, request_id: int, *states: RequestState) -> ChangeRequest:
    """Return a request that is in one of these states, and hold it.

    Raises:
        ConflictError: it is in another state.
    """
    found = await session.row(QUERIES["hold_request"], ChangeRequest, id=request_id)
    held = _expect_found(found, request_id)
    if held.state not in states:
        raise ConflictError(
            f"the request {request_id} is {held.state.value}",
            field="state",
            value=held.state.value,
            limit=" or ".join(state.value for state in states),
            next_step="look at what became of it",
        )
    return held


def _expect_found(found: ChangeRequest | None, request_id: int) -> ChangeRequest:
    if found is None:
        _refuse_missing(request_id)
    return found


def _refuse_missing(request_id: int) -> NoReturn:
    """Say that there is no such request.

    Raises:
        NotFoundError: always.
    """
    raise NotFoundError(
        f"there is no request {request_id}",
        field="id",
        value=request_id,
        next_step="list the requests for those there are",
    )


def _refuse_more() -> NoReturn:
    """Say that there is no room for another request.

    Raises:
        TooLargeError: always.
    """
    raise TooLargeError(
        f"{DUE_MAX:,} changes wait already",
        field="requests",
        limit=DUE_MAX,
        next_step="decide some, or cancel those that nobody wants any more",
    )


async def _ended(session: Session, request_id: int, state: RequestState, note: str) -> None:
    await session.run(QUERIES["end_request"], id=request_id, state=state.value, note=note)
