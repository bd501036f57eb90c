"""Moderation: what members report, what moderators do about it, and the trail of both."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import LiteralString

from msgspec import Struct
from msgspec.structs import replace

from millrace.community import validator
from millrace.community.cases import Deed, Recorded, Report, recorded, reported
from millrace.community.counts import CounterMoves
from millrace.community.docket import (
    ActionLine,
    ActionQuery,
    Case,
    CaseLine,
    CasePlace,
    CaseQuery,
    CaseReport,
    ModerationAction,
    ReportLine,
)
from millrace.community.intake import QUERIES
from millrace.community.leaving import Removal, left
from millrace.community.logs import logged
from millrace.community.moves import (
    Move,
    ReportReason,
    Standing,
    State,
    Thing,
    ThingKind,
    judged,
    legal,
)
from millrace.community.ports import Belongings
from millrace.community.retries import retried
from millrace.community.rights import author_of, moderates
from millrace.community.types import (
    BIGINT_MAX,
    REASON_MAX,
    Action,
    Comment,
    Engagement,
    Key,
    Member,
    Post,
    Role,
    Viewer,
)
from millrace.community.visibility import asker, unseen
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.kernel.ids import IdMaker
from millrace.store.router import Router
from millrace.store.session import Session

STANDING_OF: Mapping[ThingKind, LiteralString] = {
    ThingKind.POST: "standing_of_post",
    ThingKind.COMMENT: "standing_of_comment",
    ThingKind.MEMBER: "standing_of_member",
}
LOCK_OF: Mapping[ThingKind, LiteralString] = {
    ThingKind.POST: "lock_post",
    ThingKind.COMMENT: "lock_comment",
    ThingKind.MEMBER: "lock_member",
}
SEEN_BY: Mapping[ThingKind, tuple[LiteralString, type[Post | Comment | Member]]] = {
    ThingKind.POST: ("post_by_key", Post),
    ThingKind.COMMENT: ("comment_by_key", Comment),
    ThingKind.MEMBER: ("member_by_key", Member),
}
CHANGE_BY: Mapping[tuple[ThingKind, Move], LiteralString] = {
    (ThingKind.POST, Move.HIDE): "hide_post",
    (ThingKind.POST, Move.RESTORE): "restore_post",
    (ThingKind.POST, Move.REMOVE): "remove_post",
    (ThingKind.COMMENT, Move.HIDE): "hide_comment",
    (ThingKind.COMMENT, Move.RESTORE): "restore_comment",
    (ThingKind.COMMENT, Move.REMOVE): "remove_comment",
    (ThingKind.MEMBER, Move.BAN): "ban_member",
    (ThingKind.MEMBER, Move.LIFT): "lift_ban",
}


class Moderation:
    """Reports are for members, judgements for the moderators of a community and for operators."""

    def __init__(
        self,
        *,
        router: Router,
        clock: Clock,
        ids: IdMaker,
        belongings: Sequence[Belongings] = (),
    ) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids
        self._belongings = belongings

    async def report(
        self, viewer: Viewer, thing: Thing, reason: ReportReason, detail: str = ""
    ) -> bool:
        """Report a post, a comment or a member; return whether that is new.

        A member reports a thing once. A reported post leaves the reporter's feed.

        Passes on:
            ForbiddenError: the viewer is not a member.
            NotFoundError: there is no such thing, or the viewer may not see it.
            ConflictError: the thing does not stand.
            InvalidError: it is the viewer's own, or the text is too long or cannot be stored.
        """
        reporter = author_of(viewer, "report")
        said = validator.prose("detail", detail, REASON_MAX)
        return await retried(lambda: self._report(viewer, reporter, thing, (reason, said)))

    async def decide(self, viewer: Viewer, thing: Thing, move: Move, reason: str) -> Recorded:
        """Make a move about a thing, write it down, and settle the thing's open case.

        Passes on:
            NotFoundError: there is no such thing, or the viewer may not see it.
            ForbiddenError: the viewer does not judge this thing, or not in this way.
            ConflictError: the move is not legal from the state that the thing is in.
            InvalidError: the reason is missing, too long, or cannot be stored.
        """
        why = validator.body("reason", reason, REASON_MAX)
        return await retried(lambda: self._decide(viewer, thing, move, why))

    async def moves(self, viewer: Viewer, thing: Thing) -> list[Move]:
        """Return what this viewer may do about a thing now; nothing for those who do not judge.

        Passes on:
            NotFoundError: there is no such thing, or the viewer may not see it.
        """
        async with self._router.read(viewer.token) as session:
            return legal(viewer, await _found(session, viewer, thing))

    async def cases(
        self, viewer: Viewer, query: CaseQuery, after: CasePlace | None = None, limit: int = 20
    ) -> list[Case]:
        """Return a stretch of the queue behind a place.

        Passes on:
            ForbiddenError: the viewer does not judge there.
            InvalidError: the limit is outside its bounds.
        """
        community_id = _judged_community(viewer, query.community_id)
        async with self._router.read(viewer.token) as session:
            lines = await session.rows(
                QUERIES["cases"],
                CaseLine,
                community_id=community_id,
                case_id=None,
                settled=query.settled,
                gone=None if query.settled else query.gone,
                most_reported=query.most_reported,
                **_behind(after),
                limit=validator.limit(limit),
            )
        return [line.case(viewer) for line in lines]

    async def case(self, viewer: Viewer, key: Key) -> Case:
        """Return one case.

        Passes on:
            NotFoundError: there is none, or the viewer does not judge there.
        """
        if not moderates(viewer, key.community_id):
            unseen("case", key)
        async with self._router.read(viewer.token) as session:
            settled = await session.value(
                QUERIES["case_state"], community_id=key.community_id, case_id=key.id
            )
            line = await session.row(
                QUERIES["cases"],
                CaseLine,
                community_id=key.community_id,
                case_id=key.id,
                settled=bool(settled),
                gone=None,
                most_reported=False,
                **_behind(None),
                limit=1,
            )
        if line is None:
            unseen("case", key)
        return line.case(viewer)

    async def reports(
        self, viewer: Viewer, case: Key, after: Key | None = None, limit: int = 50
    ) -> list[CaseReport]:
        """Return what was said in a case, in the order of the reporters' keys.

        Passes on:
            NotFoundError: there is no such case, or the viewer does not judge there.
            ForbiddenError: the case is about the viewer, who is not told who reported them.
            InvalidError: the limit is outside its bounds.
        """
        _expect_about_another(viewer, await self.case(viewer, case))
        async with self._router.read(viewer.token) as session:
            lines = await session.rows(
                QUERIES["reports_of_case"],
                ReportLine,
                community_id=case.community_id,
                case_id=case.id,
                after_community=after.community_id if after else 0,
                after_member=after.id if after else 0,
                limit=validator.limit(limit),
            )
        return [line.report() for line in lines]

    async def actions(
        self, viewer: Viewer, query: ActionQuery, before: Key | None = None, limit: int = 50
    ) -> list[ModerationAction]:
        """Return a stretch of the audit trail, newest first.

        Passes on:
            ForbiddenError: the viewer does not judge there.
            InvalidError: the limit is outside its bounds.
        """
        community_id = _judged_community(viewer, query.community_id)
        filters = _which(replace(query, community_id=community_id)) | {"told": False}
        return await self._trail(viewer, filters, before, limit)

    async def notices(
        self, viewer: Viewer, before: Key | None = None, limit: int = 50
    ) -> list[ModerationAction]:
        """Return what moderators did about the viewer and what they wrote, newest first.

        Who did it is not told; a dismissal is none of the author's business.

        Passes on:
            ForbiddenError: the viewer is not a member.
            InvalidError: the limit is outside its bounds.
        """
        query = ActionQuery(member=author_of(viewer, "have notices"))
        found = await self._trail(viewer, _which(query) | {"told": True}, before, limit)
        return [_unsigned(one) for one in found]

    async def _trail(
        self, viewer: Viewer, filters: dict[str, object], before: Key | None, limit: int
    ) -> list[ModerationAction]:
        last = before or Key(BIGINT_MAX, BIGINT_MAX)
        async with self._router.read(viewer.token) as session:
            lines = await session.rows(
                QUERIES["actions"],
                ActionLine,
                **filters,
                before_action=last.id,
                before_community=last.community_id,
                limit=validator.limit(limit),
            )
        return [line.action() for line in lines]

    async def _report(
        self, viewer: Viewer, reporter: Key, thing: Thing, said: tuple[ReportReason, str]
    ) -> bool:
        now = self._clock.now()
        async with self._router.write() as session:
            found = await _found(session, viewer, thing, lock=True)  # else no case may be left open
            _expect_reportable(reporter, found)
            report = Report(
                home=found.home,
                thing=thing,
                author=found.subject,
                reporter=reporter,
                reason=said[0],
                detail=said[1],
                created_at=now,
            )
            new = await reported(session, [report], now)
            if new and thing.kind is ThingKind.POST:
                done = Engagement(
                    member=reporter, post=thing.key, kind=Action.REPORT, happened_at=now
                )
                moves = CounterMoves()
                moves.post(thing.key, "reports", len(await logged(session, [done])))
                moves.apply(session)
        return new > 0

    async def _decide(self, viewer: Viewer, thing: Thing, move: Move, why: str) -> Recorded:
        now = self._clock.now()
        async with self._router.write() as session:
            found = await _found(session, viewer, thing, lock=True)
            after = judged(viewer, move, found)
            counters = CounterMoves()
            if after is not found.state:
                await self._change(session, viewer, found, (move, why, now), counters)
            deed = Deed(move=move, home=found.home, thing=thing, subject=found.subject, reason=why)
            done = await recorded(session, viewer, deed, self._ids.next(), now)
            counters.apply(session)
        return done

    async def _change(
        self,
        session: Session,
        viewer: Viewer,
        found: Standing,
        step: tuple[Move, str, datetime],
        counters: CounterMoves,
    ) -> None:
        """Write the new state of a thing, and what its author or its post counts."""
        move, why, now = step
        thing, key = found.thing, found.thing.key
        removal = Removal(now, viewer.name, why)
        if thing.kind is ThingKind.MEMBER and move is Move.REMOVE:
            await left(session, key, removal, counters, self._belongings)
            return
        query = QUERIES[CHANGE_BY[thing.kind, move]]
        names = {f"{thing.kind}_id": key.id, "community_id": key.community_id}
        await session.run(
            query, **names, **({} if move in (Move.RESTORE, Move.LIFT) else removal.said())
        )
        shown = {Move.HIDE: -1, Move.RESTORE: 1}.get(move, -(found.state is State.STANDING))
        if thing.kind is ThingKind.POST:
            counters.member(found.subject, "posts", shown)
        elif thing.kind is ThingKind.COMMENT:
            post = await session.row(QUERIES["post_of_comment"], PostOfComment, **names)
            assert post is not None, "the comment was locked a moment ago"
            counters.post(Key(post.post_community_id, post.post_id), "comments", shown)


class PostOfComment(Struct, frozen=True):
    """The post that a comment is under."""

    post_community_id: int
    post_id: int


class StandingLine(Struct, frozen=True):
    """A thing as a judgement finds it, as a row."""

    home: int
    subject_community_id: int
    subject_id: int
    subject_role: Role
    state: State
    reported: bool


def _unsigned(one: ModerationAction) -> ModerationAction:
    """Return a deed without who did it."""
    return replace(one, by="", by_name="")


def _behind(after: CasePlace | None) -> dict[str, object]:
    """Return a place in the queue as parameters."""
    return {
        "after_weight": after and after.weight,
        "after_case": after and after.case.id,
        "after_community": after and after.case.community_id,
    }


def _which(query: ActionQuery) -> dict[str, object]:
    """Return the filters of the audit trail as parameters; None does not filter."""
    thing, member = query.thing, query.member
    return {
        "community_id": query.community_id,
        "thing_kind": thing and thing.kind.value,
        "thing_community_id": thing and thing.key.community_id,
        "thing_id": thing and thing.key.id,
        "subject_community_id": member and member.community_id,
        "subject_id": member and member.id,
        "done_by": None if query.by is None else validator.searchable(query.by),
    }


def _judged_community(viewer: Viewer, asked: int | None) -> int | None:
    """Return the community whose cases the viewer asks for: None for all, which operators may.

    Raises:
        ForbiddenError: the viewer does not judge there.
    """
    home = viewer.member.community_id if viewer.member else None
    community_id = home if asked is None and not viewer.oversees else asked
    if viewer.oversees or (community_id is not None and moderates(viewer, community_id)):
        return community_id
    raise ForbiddenError(
        f"{viewer.name} does not moderate community {community_id}",
        field="community_id",
        value=community_id,
        limit="a moderator of the community, or an operator",
        next_step="ask for your own community",
    )


def _expect_about_another(viewer: Viewer, case: Case) -> None:
    """Keep the names of those who reported a moderator from that moderator.

    Raises:
        ForbiddenError: the case is about the viewer.
    """
    if viewer.member == case.author.key:
        raise ForbiddenError(
            f"case {case.key} is about {viewer.name}",
            field="case_id",
            value=str(case.key),
            limit="not one's own",
            next_step="leave it to another moderator or an operator",
        )


async def _expect_seen(session: Session, viewer: Viewer, thing: Thing) -> None:
    """Make sure that the viewer sees a thing.

    Passes on:
        NotFoundError: there is none, or the viewer may not see it.
    """
    query, form = SEEN_BY[thing.kind]
    names = {"community_id": thing.key.community_id, f"{thing.kind}_id": thing.key.id}
    if await session.row(QUERIES[query], form, **asker(viewer), **names) is None:
        unseen(thing.kind, thing.key)


async def _found(session: Session, viewer: Viewer, thing: Thing, *, lock: bool = False) -> Standing:
    """Return a thing as a judgement finds it.

    Passes on:
        NotFoundError: there is none, or the viewer may not see it.
    """
    if lock:
        names = {"community_id": thing.key.community_id, f"{thing.kind}_id": thing.key.id}
        await session.run(QUERIES[LOCK_OF[thing.kind]], **names)
    await _expect_seen(session, viewer, thing)
    line = await session.row(QUERIES[STANDING_OF[thing.kind]], StandingLine, **_name(thing))
    if line is None:
        unseen(thing.kind, thing.key)
    return Standing(
        thing,
        line.state,
        line.home,
        Key(line.subject_community_id, line.subject_id),
        line.subject_role,
        line.reported,
    )


def _name(thing: Thing) -> dict[str, object]:
    return {"thing_community_id": thing.key.community_id, "thing_id": thing.key.id}


def _expect_reportable(reporter: Key, found: Standing) -> None:
    """Make sure that a thing can be reported.

    Raises:
        InvalidError: it is the reporter's own.
        ConflictError: it does not stand, so that there is nothing to do about it.
    """
    if found.subject == reporter:
        raise InvalidError(
            "nobody reports what is their own",
            field="thing",
            value=str(found.thing),
            limit="a thing of somebody else",
            next_step="remove it instead",
        )
    if found.state is not State.STANDING:
        raise ConflictError(
            f"{found.thing} is {found.state} already",
            field="thing",
            value=str(found.thing),
            limit="a thing that stands",
            next_step="report another thing",
        )
