"""To change: a write to the database, from where it comes to every process."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from millrace.community.retries import retried
from millrace.kernel.errors import InvalidError
from millrace.release.flags import edits, soundness
from millrace.release.flags.book import Book, Edit, refuse_moved, switched
from millrace.release.flags.bringing import Exported, Imported, planned, written
from millrace.release.flags.editing import with_member
from millrace.release.flags.requests import Requests
from millrace.release.flags.types import (
    Actor,
    Approval,
    ChangeRequest,
    Flag,
    FlagMove,
    Problem,
    Terms,
)

AT_ONCE = Terms()
Arrived = Callable[[str, int], Awaitable[None]]
"""Waits a moment until this process decides by a version of a flag; 0 for one that is gone."""


class Changes:
    """What somebody may do to a flag. Where four eyes are wanted, all but a kill is a request."""

    def __init__(
        self, *, book: Book, pending: Requests, approval: Approval, arrived: Arrived
    ) -> None:
        self.book = book
        self.pending = pending
        self._approval = approval
        self._arrived = arrived

    async def problems(self, key: str, content: str) -> list[Problem]:
        """Return what is wrong with a definition where it would stand, and what to be warned of.

        A grave problem is what `put` refuses; the others say whom the change would draw anew, too.
        """
        texts = {flag.key: flag.content for flag in await self.book.every()}
        return await asyncio.to_thread(soundness.problems, key, content, texts)

    async def put(
        self,
        key: str,
        content: str,
        *,
        version: int | None,
        actor: Actor,
        reason: str,
        terms: Terms = AT_ONCE,
    ) -> Flag | ChangeRequest:
        """Write a flag; a request where it must be approved, or waits.

        Args:
            key: of the flag, or `$evaluators` or `$metadata` for what flags share.
            content: the definition, as flagd writes it.
            version: that it was made from; 0 or None for a new flag.
            actor: who does it.
            reason: why.
            terms: when, and whose the flag is then.

        Raises:
            InvalidError: there is no definition.

        Passes on:
            ConflictError: the flag has another version; names both.
            InvalidError: the definition is wrong; names the place in it.
        """
        if not content:
            raise InvalidError(
                "the definition is empty",
                field="content",
                next_step="write one; to take the flag away, remove it",
            )
        edit = Edit(
            key=key,
            move=FlagMove.PUT,
            content=content,
            actor=name_of(actor),
            reason=reason,
            version=version or 0,
            owner=terms.owner,
        )
        found = await self._wanted(edit, terms)
        assert found is not None, "a flag with a definition is there"
        return found

    async def kill(self, key: str, *, actor: Actor, reason: str) -> Flag:
        """Switch a flag off now, whatever its version and whoever has to approve other changes.

        Passes on:
            NotFoundError: there is no such flag.
        """
        edit = Edit(
            key=key,
            move=FlagMove.KILL,
            content="",
            actor=name_of(actor),
            reason=reason,
            version=None,
        )
        flag = await self._made(edit)
        assert flag is not None, "a flag that is switched off is there"
        return flag

    async def revive(
        self, key: str, *, version: int, actor: Actor, reason: str
    ) -> Flag | ChangeRequest:
        """Switch a flag on again, as it was. What is raised is as in `put`."""
        flag = await self.book.get(key)
        content = switched(flag.content, "ENABLED")
        return await self._changed(flag, FlagMove.REVIVE, content, (version, actor, reason))

    async def ramp(
        self,
        key: str,
        variant: str,
        percentage: float,
        *,
        version: int,
        actor: Actor,
        reason: str,
    ) -> Flag | ChangeRequest:
        """Give a percentage of all a variant; whoever has it keeps it while that grows.

        What is raised is as in `put`, and where the flag has no one place for a percentage.
        """
        flag = await self.book.get(key)
        content = ramped(flag.content, variant, percentage)
        return await self._changed(flag, FlagMove.RAMP, content, (version, actor, reason))

    async def revert(
        self, key: str, to_version: int, *, version: int, actor: Actor, reason: str
    ) -> Flag | ChangeRequest:
        """Write a flag as an earlier version of it was, as a new version.

        Raises:
            InvalidError: in that version it was taken away.

        Passes on:
            NotFoundError: there never was such a version.
            ConflictError: the flag has another version; names both.
        """
        change = await self.book.change_to(key, to_version)
        if not change.after:
            raise InvalidError(
                f"version {to_version} is where flag {key!r} was taken away",
                field="to_version",
                value=to_version,
                next_step="remove the flag, or name a version in which it was there",
            )
        edit = Edit(
            key=key,
            move=FlagMove.REVERT,
            content=change.after,
            actor=name_of(actor),
            reason=reason,
            version=version,
            owner=change.owner,
        )
        found = await self._wanted(edit, AT_ONCE)
        assert found is not None, "a flag with a definition is there"
        return found

    async def remove(
        self, key: str, *, version: int, actor: Actor, reason: str
    ) -> ChangeRequest | None:
        """Take a flag away; its trail stays. What is raised is as in `put`."""
        edit = Edit(
            key=key,
            move=FlagMove.REMOVE,
            content="",
            actor=name_of(actor),
            reason=reason,
            version=version,
        )
        found = await self._wanted(edit, AT_ONCE)
        assert not isinstance(found, Flag), "a flag that was taken away is not there"
        return found

    async def bring_in(self, text: str, *, actor: Actor, reason: str) -> Imported:
        """Write what a file of flags says, as another evaluator has it: faults are warnings.

        Each flag is a change of its own. Where one fails those before it stand, and to bring the
        file in again does the rest.

        Passes on:
            InvalidError: nothing in the file can be read; says where.
            ConflictError: somebody changed a flag meanwhile.
        """
        plan = planned(text, {flag.key: flag for flag in await self.book.every()})
        waiting: list[str] = []
        for key, content in plan.texts.items():
            edit = Edit(
                key=key,
                move=FlagMove.IMPORT,
                content=content,
                actor=name_of(actor),
                reason=reason,
                version=plan.versions[key],
            )
            if isinstance(await self._wanted(edit, AT_ONCE), ChangeRequest):
                waiting.append(key)
        return Imported(
            created=tuple(key for key in plan.created if key not in waiting),
            changed=tuple(key for key in plan.changed if key not in waiting),
            unchanged=plan.unchanged,
            waiting=tuple(waiting),
            left_out=plan.left_out,
            problems=plan.problems,
        )

    async def document(self) -> Exported:
        """Return the file of all flags, in flagd's JSON."""
        return written(await self.book.every())

    async def _changed(
        self, flag: Flag, move: FlagMove, content: str, said: tuple[int, Actor, str]
    ) -> Flag | ChangeRequest:
        """Write the next definition of a flag that was just read.

        Passes on:
            ConflictError: it has another version than was named, so its next is made from another.
        """
        version, actor, reason = said
        if version != flag.version:
            refuse_moved(flag.key, version, flag.version)
        edit = Edit(
            key=flag.key,
            move=move,
            content=content,
            actor=name_of(actor),
            reason=reason,
            version=version,
        )
        found = await self._wanted(edit, AT_ONCE)
        assert found is not None, "a flag with a definition is there"
        return found

    async def _wanted(self, edit: Edit, terms: Terms) -> Flag | ChangeRequest | None:
        """Make a change, or a request where it must be approved, or waits."""
        reviewed = self._approval is Approval.REQUIRED
        if reviewed or terms.due_at is not None or terms.wait is not None:
            return await retried(lambda: self.pending.ask(edit, terms, reviewed=reviewed))
        return await self._made(edit)

    async def _made(self, edit: Edit) -> Flag | None:
        """Make a change now, and wait a moment until this process decides by it."""
        flag = await retried(lambda: self.book.make(edit))
        await self._arrived(edit.key, 0 if flag is None else flag.version)
        return flag


def ramped(content: str, variant: str, percentage: float) -> str:
    """Return a definition with a percentage on a variant, everything else as it was written.

    Passes on:
        InvalidError: there is no such variant, or it is no percentage.
        ConflictError: no place, or no one place, is for this percentage.
    """
    before = json.loads(content)
    for name, value in edits.with_ramp(before, variant, percentage).items():
        if name not in before or before[name] != value:
            content = with_member(content, name, json.dumps(value, ensure_ascii=False))
    return content


def name_of(actor: Actor) -> str:
    """Return who it is, in one form: two doors that write a name differently are not four eyes."""
    kind, _, name = actor.name.partition(" ")
    return f"{kind}:{name}" if kind in {"operator", "member", "program"} else actor.name
