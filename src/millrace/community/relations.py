"""Whom members follow, block and mute."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

from msgspec import Struct

from millrace.community import validator
from millrace.community.counts import CounterMoves
from millrace.community.intake import (
    QUERIES,
    Intake,
    Line,
    bounded,
    home_of,
    in_bulk,
    members_named,
    operators_only,
)
from millrace.community.retries import retried
from millrace.community.rights import author_of
from millrace.community.types import (
    EXTERNAL_ID_MAX,
    BatchResult,
    FollowDraft,
    Key,
    Member,
    Relations,
    Viewer,
)
from millrace.community.visibility import asker, unseen
from millrace.kernel.clock import Clock
from millrace.kernel.errors import InvalidError
from millrace.store.router import Router
from millrace.store.session import Session, document

KINDS: dict[str, LiteralString] = {
    "follows": "list_follows",
    "followers": "list_followers",
    "blocks": "list_blocks",
    "mutes": "list_mutes",
}


class RelationBook:
    """Every verb is idempotent and says whether it changed something."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    async def follow(self, viewer: Viewer, target: Key) -> bool:
        """Follow a member; return whether that is new.

        Passes on:
            ForbiddenError: the viewer is not a member.
            NotFoundError: there is no such member, or the viewer may not meet them.
            InvalidError: the target is the viewer.
        """
        member = _other(viewer, target, "follow")
        return await retried(lambda: self._follow(viewer, member, target))

    async def unfollow(self, viewer: Viewer, target: Key) -> bool:
        """Stop following a member; return whether the viewer did.

        Passes on:
            ForbiddenError: the viewer is not a member.
        """
        member = author_of(viewer, "unfollow")
        return await retried(lambda: self._unfollow(member, target))

    async def block(self, viewer: Viewer, target: Key) -> bool:
        """Block a member: from now on neither sees the other, and neither follows the other.

        A member who blocked the viewer first can be blocked too.

        Passes on:
            ForbiddenError: the viewer is not a member.
            NotFoundError: there is no such member.
            InvalidError: the target is the viewer.
        """
        member = _other(viewer, target, "block")
        return await retried(lambda: self._block(member, target))

    async def unblock(self, viewer: Viewer, target: Key) -> bool:
        """Take a block back; return whether there was one.

        Passes on:
            ForbiddenError: the viewer is not a member.
        """
        member = author_of(viewer, "unblock")
        return await retried(lambda: self._change("delete_block", member, target))

    async def mute(self, viewer: Viewer, target: Key) -> bool:
        """Keep a member's posts out of the viewer's feed; return whether that is new.

        Passes on:
            ForbiddenError: the viewer is not a member.
            NotFoundError: there is no such member, or the viewer may not meet them.
            InvalidError: the target is the viewer.
        """
        member = _other(viewer, target, "mute")
        return await retried(lambda: self._mute(viewer, member, target))

    async def unmute(self, viewer: Viewer, target: Key) -> bool:
        """Take a mute back; return whether there was one.

        Passes on:
            ForbiddenError: the viewer is not a member.
        """
        member = author_of(viewer, "unmute")
        return await retried(lambda: self._change("delete_mute", member, target))

    async def of(self, member: Key, token: str = "") -> Relations:
        """Return whom a member follows and must not meet, in one round trip.

        Blocks are in it from both directions.
        """
        async with self._router.read(token) as session:
            rows = await session.rows(
                QUERIES["relations"],
                RelationRow,
                community_id=member.community_id,
                member_id=member.id,
            )

        def keys(kind: str) -> frozenset[Key]:
            return frozenset(Key(row.community_id, row.id) for row in rows if row.kind == kind)

        return Relations(
            follows=keys("follow"),
            blocks=keys("block"),
            mutes=keys("mute"),
            nearby=frozenset(row.community_id for row in rows if row.kind == "nearby"),
        )

    async def upsert_follows(
        self, viewer: Viewer, community_id: int, drafts: Sequence[FollowDraft]
    ) -> BatchResult:
        """Add follows between members of one community, by external ids.

        Passes on:
            ForbiddenError: the viewer is no operator.
            NotFoundError: there is no such community.
            TooLargeError: the batch is too long.
        """
        operators_only(viewer, "add follows in bulk")
        bounded("drafts", drafts)

        async def work(session: Session) -> BatchResult:
            intake, now = Intake(), self._clock.now()
            lines = intake.cleaned(drafts, lambda draft: _clean(draft, now))
            lines = intake.distinct(lines, lambda clean: (clean.member, clean.target), "target")
            await home_of(session, community_id)
            await _add_follows(session, intake, community_id, lines)
            return intake.result()

        return await in_bulk(self._router, community_id, work)

    async def _follow(self, viewer: Viewer, member: Key, target: Key) -> bool:
        async with self._router.write() as session:
            pair = _pair(member, target)
            await session.run(QUERIES["hold_pairs"], rows=document([pair]))
            await _met(session, viewer, target)
            new = await session.run(QUERIES["insert_follow"], **pair, now=self._clock.now())
            moves = CounterMoves()
            moves.member(target, "followers", new)
            moves.apply(session)
        return new > 0

    async def _unfollow(self, member: Key, target: Key) -> bool:
        async with self._router.write() as session:
            gone = await session.run(QUERIES["delete_follow"], **_pair(member, target))
            moves = CounterMoves()
            moves.member(target, "followers", -gone)
            moves.apply(session)
        return gone > 0

    async def _block(self, member: Key, target: Key) -> bool:
        async with self._router.write() as session:
            standing = await session.value(
                QUERIES["member_stands"], community_id=target.community_id, member_id=target.id
            )
            if standing is None:
                unseen("member", target)
            moves = CounterMoves()
            new = await blocked(session, [(member, target)], self._clock.now(), moves)
            moves.apply(session)
        return new > 0

    async def _mute(self, viewer: Viewer, member: Key, target: Key) -> bool:
        async with self._router.write() as session:
            await _met(session, viewer, target)
            return await muted(session, [(member, target)], self._clock.now()) > 0

    async def _change(self, query: LiteralString, member: Key, target: Key) -> bool:
        async with self._router.write() as session:
            return await session.run(QUERIES[query], **_pair(member, target)) > 0

    # Last in the class: after it, `list` in an annotation would mean this method.
    async def list(
        self,
        viewer: Viewer,
        kind: str,
        after: Key | None = None,
        limit: int = 50,
        of: Key | None = None,
    ) -> list[Member]:
        """Return members that somebody `follows`, `blocks` or `mutes`, or their `followers`.

        In the order of keys, those larger than `after`. `of` names the somebody, the viewer where
        it is left out; blocks and mutes are the viewer's own.

        Raises:
            InvalidError: the kind is unknown or the limit outside its bounds.

        Passes on:
            ForbiddenError: the viewer is not a member, and names nobody.
            NotFoundError: there is no such member, or the viewer may not meet them.
        """
        open_kind = kind in ("follows", "followers")
        member = of if of is not None and open_kind else author_of(viewer, "have relations")
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise InvalidError(
                f"kind {kind[:60]!r} is unknown",
                field="kind",
                value=kind[:60],
                limit=known,
                next_step=f"send one of: {known}",
            )
        async with self._router.read(viewer.token) as session:
            if member != viewer.member:
                await _met(session, viewer, member)
            return await session.rows(
                QUERIES[KINDS[kind]],
                Member,
                **(asker(viewer) if open_kind else {}),
                community_id=member.community_id,
                member_id=member.id,
                after_community=after.community_id if after else 0,
                after_member=after.id if after else 0,
                limit=validator.limit(limit),
            )


class RelationRow(Struct, frozen=True):
    """One relation: its kind and the other side."""

    kind: str
    community_id: int
    id: int


class PairRow(Struct, frozen=True):
    """A pair that a statement inserted or deleted."""

    community_id: int
    member_id: int
    target_community_id: int
    target_id: int


class CleanFollow(Struct, frozen=True):
    """A follow draft that passed its checks."""

    member: str
    target: str
    created_at: datetime


Pairs = Sequence[tuple[Key, Key]]


async def blocked(session: Session, pairs: Pairs, now: datetime, moves: CounterMoves) -> int:
    """Insert blocks and end the follows between their sides; return how many blocks are new."""
    if not pairs:
        return 0
    rows = document([_pair(member, target) for member, target in pairs])
    await session.run(QUERIES["hold_pairs"], rows=rows)
    new = await session.run(QUERIES["insert_blocks"], rows=rows, now=now)
    for gone in await session.rows(QUERIES["delete_follows_between"], PairRow, rows=rows):
        moves.member(Key(gone.target_community_id, gone.target_id), "followers", -1)
    return new


async def muted(session: Session, pairs: Pairs, now: datetime) -> int:
    """Insert mutes; return how many are new."""
    if not pairs:
        return 0
    rows = document([_pair(member, target) for member, target in pairs])
    return await session.run(QUERIES["insert_mutes"], rows=rows, now=now)


def _pair(member: Key, target: Key) -> dict[str, object]:
    return {
        "community_id": member.community_id,
        "member_id": member.id,
        "target_community_id": target.community_id,
        "target_id": target.id,
    }


def _other(viewer: Viewer, target: Key, verb: str) -> Key:
    """Return the member who acts on somebody else.

    Raises:
        InvalidError: the target is the viewer.

    Passes on:
        ForbiddenError: the viewer is not a member.
    """
    member = author_of(viewer, verb)
    if member == target:
        raise InvalidError(
            f"a member cannot {verb} themself",
            field="member_id",
            value=str(target),
            limit="another member",
            next_step="name another member",
        )
    return member


async def _met(session: Session, viewer: Viewer, target: Key) -> None:
    """Make sure that the viewer may meet the target.

    Passes on:
        NotFoundError: there is no such member, or a block or a removal stands between.
    """
    found = await session.row(
        QUERIES["member_by_key"],
        Member,
        **asker(viewer),
        community_id=target.community_id,
        member_id=target.id,
    )
    if found is None or found.removed_at is not None or found.banned_at is not None:
        unseen("member", target)


def _clean(draft: FollowDraft, now: datetime) -> CleanFollow:
    member = validator.name("member", draft.member, EXTERNAL_ID_MAX)
    target = validator.name("target", draft.target, EXTERNAL_ID_MAX)
    if member == target:
        raise InvalidError("a member cannot follow themself", field="target", value=target)
    return CleanFollow(member, target, validator.moment("created_at", draft.created_at, now))


async def _add_follows(
    session: Session, intake: Intake, community_id: int, lines: list[Line[CleanFollow]]
) -> None:
    names = {line.clean.member for line in lines} | {line.clean.target for line in lines}
    members = await members_named(session, community_id, names)
    rows: list[dict[str, object]] = []
    for line in lines:
        member, target = members.get(line.clean.member), members.get(line.clean.target)
        if member is None:
            intake.reject(line.index, "member", f"there is no member {line.clean.member!r}")
        elif target is None:
            intake.reject(line.index, "target", f"there is no member {line.clean.target!r}")
        else:
            rows.append(
                _pair(member, target) | {"created_at": line.clean.created_at, "index": line.index}
            )
    batch = document(rows)
    await session.run(QUERIES["hold_pairs"], rows=batch)
    apart = await session.rows(QUERIES["pairs_apart"], ApartRow, rows=batch)
    for one in apart:
        intake.reject(one.index, "target", "a block stands between the two members")
    new = await session.rows(QUERIES["insert_follows"], PairRow, rows=batch)
    moves = CounterMoves()
    for one in new:
        moves.member(Key(one.target_community_id, one.target_id), "followers", 1)
    moves.apply(session)
    intake.created += len(new)
    intake.unchanged += len(rows) - len(apart) - len(new)


class ApartRow(Struct, frozen=True):
    """A draft whose two members are kept apart by a block."""

    index: int
