"""The book of flags: every definition, the next version of each, and the trail of all of them.

A change names the version that it was made from, so nobody's change is lost silently. The line of
the trail is written before the change; the database refuses a flag that its trail does not name.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import NoReturn

from msgspec import Struct

from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError, InvalidError, NotFoundError, TooLargeError
from millrace.kernel.ids import IdMaker
from millrace.release.flags import jsontext, soundness
from millrace.release.flags.editing import with_member
from millrace.release.flags.limits import LIST_MAX, expect_address, expect_limit, expect_text
from millrace.release.flags.parts import RefusedError
from millrace.release.flags.repository import EVALUATORS, METADATA, QUERIES, SHARED
from millrace.release.flags.types import KEY_MAX, REASON_MAX, Flag, FlagChange, FlagMove
from millrace.store.router import Router
from millrace.store.session import Session

CONTENT_MAX = 200_000  # characters of one definition
OWNER_MAX = 200
FLAGS_MAX = 20_000
UNCHECKED = (FlagMove.KILL, FlagMove.REVIVE, FlagMove.REVERT, FlagMove.IMPORT)
"""What stood once may stand again, also where an import brought it: nobody waits for a mended rule
to switch a flag or to go back."""


class Edit(Struct, frozen=True, kw_only=True):
    """A change as somebody wants it.

    content: the definition after it; empty to remove the flag.
    owner: None keeps it.
    version: that it was made from; 0 for a new flag; None for whichever stands.
    request_id: of the request that is carried out.
    """

    key: str
    move: FlagMove
    content: str
    actor: str
    reason: str
    version: int | None
    owner: str | None = None
    request_id: int | None = None


class Book:
    """Reads and writes definitions. Whether a change must wait is not decided here."""

    def __init__(
        self, *, router: Router, clock: Clock, ids: IdMaker, most: int = FLAGS_MAX
    ) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids
        self._most = most

    # ------------------------------------------------- reading

    async def get(self, key: str) -> Flag:
        """Return a flag.

        Passes on:
            NotFoundError: there is none with this key.
        """
        async with self._router.read() as session:
            found = await session.row(QUERIES["flag"], Flag, key=key)
        if found is None:
            refuse_missing(key)
        return found

    async def shared(self) -> Mapping[str, Flag]:
        """Return what all flags share, by key; what nobody wrote is left out."""
        async with self._router.read() as session:
            found = [await session.row(QUERIES["flag"], Flag, key=key) for key in SHARED]
        return {flag.key: flag for flag in found if flag is not None}

    async def history(self, key: str, limit: int, before: int | None) -> list[FlagChange]:
        """Return the trail of a key, newest first, also that of one that is gone.

        Args:
            key: of the flag.
            limit: at most so many lines.
            before: only versions before this one.
        """
        expect_limit(limit)
        async with self._router.read() as session:
            return await session.rows(
                QUERIES["history"], FlagChange, key=key, before=before, limit=limit
            )

    async def change_to(self, key: str, version: int) -> FlagChange:
        """Return the line of the trail that made a version.

        Raises:
            NotFoundError: there never was such a version.
        """
        async with self._router.read() as session:
            found = await session.row(QUERIES["change_to"], FlagChange, key=key, version=version)
        if found is None:
            raise NotFoundError(
                f"flag {key!r} never had a version {version}",
                field="to_version",
                value=version,
                next_step="see its history for those it had",
            )
        return found

    # ------------------------------------------------- writing

    async def make(self, edit: Edit) -> Flag | None:
        """Make a change now; return the flag as it stands then, None where it is gone.

        Passes on:
            NotFoundError: there is no such flag to be removed or switched.
            ConflictError: the flag has another version than the change was made from.
            InvalidError: the definition is wrong; names the place in it.
        """
        async with self._router.write() as session:
            return await self.write(session, edit)

    async def write(self, session: Session, edit: Edit) -> Flag | None:
        """Make a change as a part of a transaction; what is refused is as in `make`.

        A kill is a version also where the flag was off: what is still to come was made from another
        one then, and does not switch it on.
        """
        flag = await self.looked_at(session, edit)
        content = self._after(edit, flag)
        owner = (flag.owner if flag else "") if edit.owner is None else edit.owner
        same = flag is not None and (content, owner) == (flag.content, flag.owner)
        if flag is not None and same and edit.move is not FlagMove.KILL:
            return flag  # it says what it said, so it is no new version
        now = self._clock.now()
        last = int(await session.value(QUERIES["last_version"], key=edit.key))
        version = last + 1
        session.later(
            QUERIES["tell_change"],
            change_id=self._ids.next(),
            key=edit.key,
            version=version,
            move=edit.move.value,
            actor=edit.actor,
            reason=edit.reason,
            before=flag.content if flag else "",
            after=content,
            owner=owner if content else "",
            request_id=edit.request_id,
            now=now,
        )
        if not content:
            await session.run(QUERIES["delete_flag"], key=edit.key)
            return None
        query = QUERIES["insert_flag"] if flag is None else QUERIES["update_flag"]
        await session.run(
            query, key=edit.key, content=content, version=version, owner=owner, now=now
        )
        return Flag(
            key=edit.key,
            content=content,
            version=version,
            owner=owner,
            created_at=flag.created_at if flag else now,
            changed_at=now,
        )

    async def looked_at(self, session: Session, edit: Edit, *, ahead: bool = False) -> Flag | None:
        """Return the flag as it stands, held until the transaction ends, if the change fits it.

        What does not fit is raised as in `make`.

        Args:
            session: a write.
            edit: the change.
            ahead: whether it may be made from a version that is yet to come.
        """
        expect_plain(edit)
        if edit.move is not FlagMove.KILL:  # which waits for nobody but those at the same flag
            await session.value(QUERIES["lock_flags"])
        flag = await session.row(QUERIES["hold_flag"], Flag, key=edit.key)
        await self._expect_version(session, edit, flag, ahead=ahead)
        if flag is None and (not edit.content or edit.move is FlagMove.KILL):
            refuse_missing(edit.key)
        if flag is None:
            await self._expect_room(session)
        if edit.content and edit.move not in UNCHECKED:
            await self._expect_sound(session, edit)
        return flag

    def _after(self, edit: Edit, flag: Flag | None) -> str:
        """Return the definition after a change. A kill is of what stands when it is written."""
        if edit.move is FlagMove.KILL and flag is not None:
            return switched(flag.content, "DISABLED")
        return edit.content

    async def _expect_version(
        self, session: Session, edit: Edit, flag: Flag | None, *, ahead: bool
    ) -> None:
        """Refuse a change that was made from another version, as `refuse_moved` does."""
        stands = flag.version if flag else 0
        if edit.version is None or edit.version == stands:
            return
        if ahead and edit.version > stands and await self._is_made(session, edit.key, edit.version):
            return
        refuse_moved(edit.key, edit.version, stands)

    async def is_ahead(self, session: Session, edit: Edit) -> bool:
        """Return whether a change is made from a version that an open request is to make."""
        flag = await session.row(QUERIES["flag"], Flag, key=edit.key)
        version = edit.version or 0
        ahead = version > (flag.version if flag else 0)
        return ahead and await self._is_made(session, edit.key, version)

    async def _is_made(self, session: Session, key: str, version: int) -> bool:
        """Return whether an open request makes a version of a flag."""
        return bool(
            await session.value(QUERIES["makes_version"], key=key, base_version=version - 1)
        )

    async def _expect_room(self, session: Session) -> None:
        """Refuse one flag more than there may be, however it comes.

        Raises:
            TooLargeError: names the bound.
        """
        count = int(await session.value(QUERIES["count_flags"]))
        if count >= self._most:
            raise TooLargeError(
                f"there are {count:,} flags already",
                field="key",
                value=count,
                limit=self._most,
                next_step="remove those that nobody needs: see which are stale",
            )

    async def _expect_sound(self, session: Session, edit: Edit) -> None:
        """Refuse a definition that is wrong.

        Raises:
            InvalidError: the first grave problem, with its place in the definition.
        """
        everything = await session.rows(QUERIES["every_flag"], Flag)
        texts = {one.key: one.content for one in everything}
        # In a thread: what all flags share is checked against all that use it.
        found = await asyncio.to_thread(soundness.problems, edit.key, edit.content, texts)
        grave = [problem for problem in found if problem.grave]
        if grave:
            more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
            raise InvalidError(
                f"the definition of flag {edit.key!r} is wrong at {grave[0].place or '/'}: "
                f"{grave[0].message}{more}",
                field=grave[0].place or "content",
                next_step="mend that place; nothing was changed",
            )

    # ------------------------------------------------- last in the class: their names are words

    async def every(self) -> list[Flag]:
        """Return all flags, and what they share, by key."""
        async with self._router.read() as session:
            return await session.rows(QUERIES["every_flag"], Flag)

    async def list(self, prefix: str = "", limit: int = LIST_MAX, after: str = "") -> list[Flag]:
        """Return flags by key, those behind `after` whose keys begin with a prefix."""
        expect_limit(limit)
        async with self._router.read() as session:
            return await session.rows(
                QUERIES["flags"], Flag, prefix=prefix, after=after, limit=limit
            )


def switched(content: str, state: str) -> str:
    """Return a definition in another state, everything else as it was written."""
    return with_member(content, "state", json.dumps(state))


def refuse_missing(key: str) -> NoReturn:
    """Say that there is no such flag.

    Raises:
        NotFoundError: always.
    """
    raise NotFoundError(
        f"there is no flag {key[:KEY_MAX]!r}",
        field="key",
        value=key[:KEY_MAX],
        next_step="`millrace flags list` shows those there are",
    )


def refuse_moved(key: str, version: int, stands: int) -> NoReturn:
    """Say that a change was made from another version than the one that stands, 0 for none.

    Raises:
        ConflictError: always; names both versions.
    """
    if stands:
        is_now = f"has version {stands}"
    else:
        is_now = "is not there any more" if version else "is not there"
    raise ConflictError(
        f"the change of flag {key!r} was made from version {version}, and the flag {is_now}",
        field="version",
        value=version,
        limit=stands,
        next_step="look at what was changed meanwhile, and make your change from there",
    )


def expect_plain(edit: Edit) -> None:
    """Refuse what no definition can be, whoever wrote it.

    Raises:
        InvalidError: the key, the owner, the reason or the text cannot be kept.
    """
    expect_text("key", edit.key, KEY_MAX, needed=True)
    if edit.content:  # what is there is killed and removed whatever its name
        expect_address(edit.key)
    expect_text("reason", edit.reason, REASON_MAX, needed=True)
    expect_text("owner", edit.owner or "", OWNER_MAX, needed=False)
    expect_text("content", edit.content, CONTENT_MAX, needed=False)
    if edit.key.startswith("$") and edit.key not in SHARED:
        raise InvalidError(
            f"a flag's key does not begin with a dollar sign: {edit.key!r}",
            field="key",
            value=edit.key,
            limit=f"{EVALUATORS} and {METADATA} are what flags share",
            next_step="choose another key",
        )
    if edit.key in SHARED and edit.move in (FlagMove.KILL, FlagMove.REVIVE, FlagMove.RAMP):
        raise InvalidError(
            f"{edit.key} is what flags share, and has no switch and no percentage",
            field="key",
            value=edit.key,
            next_step="kill the flags that use it, or change it as JSON",
        )
    if edit.content and edit.move is not FlagMove.KILL:
        _expect_object(edit)


def _expect_object(edit: Edit) -> None:
    """Refuse a text that is not a JSON object, which nobody could read back.

    Raises:
        InvalidError: says where the text is wrong.
    """
    try:
        found = jsontext.value_of(edit.content)
        jsontext.expect_kept(found)
    except RefusedError as exc:
        raise InvalidError(
            f"the definition of {edit.key!r} cannot be read: {exc}",
            field=exc.place or "content",
            next_step="mend that place",
        ) from exc
    if not isinstance(found, dict):
        raise InvalidError(
            f"the definition of {edit.key!r} is not a JSON object",
            field="content",
            value=type(found).__name__,
            next_step='write it as flagd does: {"state": "ENABLED", "variants": {...}, ...}',
        )
