"""Reports, cases, decisions and the audit trail."""

from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from millrace.api import bodies, wire, wire_moderation
from millrace.api.asked import Asked, number_of, program_of, read, viewer_of
from millrace.api.errors import MalformedError
from millrace.api.paging import LIMIT_DEFAULT, LIMIT_MAX, PageAsked, cursor_at, page_asked, place_in
from millrace.api.versions import versioned
from millrace.community.docket import ActionQuery, CasePlace, CaseQuery
from millrace.community.moves import Thing, ThingKind
from millrace.community.types import Key, parse_key

TAGS = ["moderation"]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]
By = Annotated[str, QueryParameter(max_length=100)]


@post("/v1/reports", summary="Report a post, a comment or a member", tags=TAGS)
async def write_report(request: Asked) -> wire_moderation.ReportTaken:
    """Report a thing; a member reports a thing once, and a reported post leaves their feed."""
    form = await read(request, bodies.ReportNew)
    thing = Thing(form.thing_kind, parse_key(form.thing_id, "thing_id"))
    moderation = program_of(request).moderation
    new = await moderation.report(viewer_of(request), thing, form.reason, form.detail)
    return wire_moderation.ReportTaken(new=new)


@get(
    "/v1/moderation/cases",
    summary="What waits to be judged",
    tags=TAGS,
    dependencies={"page": Provide(page_asked, sync_to_thread=False)},
)
async def list_cases(
    request: Asked,
    page: NamedDependency[PageAsked],
    community_id: FromQuery[str | None] = None,
    most_reported: FromQuery[bool] = False,
    settled: FromQuery[bool] = False,
    gone: FromQuery[bool] = False,
) -> wire.Page[wire_moderation.Case]:
    """List the cases that the caller judges, newest or most reported first.

    `gone` asks for those whose thing or author was removed before anybody judged it.
    """
    program, viewer = program_of(request), viewer_of(request)
    community = None if community_id is None else number_of(community_id, "community_id")
    query = CaseQuery(
        community_id=community, most_reported=most_reported, settled=settled, gone=gone
    )
    listed = f"cases:{community}:{most_reported}:{settled}:{gone}"
    place = place_in(program.secret, listed, page.cursor)
    after = None
    if place:
        weight, _, key = place.partition(":")
        after = CasePlace(int(weight), parse_key(key))
    found = await program.moderation.cases(viewer, query, after, page.limit)
    following = ""
    if len(found) >= page.limit:
        weight = str(found[-1].reports if most_reported else 0)
        following = cursor_at(program.secret, listed, f"{weight}:{found[-1].key}")
    return wire.Page([wire_moderation.case(one) for one in found], following)


@get("/v1/moderation/cases/{case_id:str}", summary="One case", tags=TAGS)
async def get_case(request: Asked, case_id: FromPath[str]) -> Response[wire_moderation.Case]:
    """Read one case with its thing and what may be done about it."""
    key = parse_key(case_id, "case_id")
    found = await program_of(request).moderation.case(viewer_of(request), key)
    return versioned(request, wire_moderation.case(found), found.system_version)


@get("/v1/moderation/cases/{case_id:str}/reports", summary="What was said in a case", tags=TAGS)
async def list_reports(
    request: Asked,
    case_id: FromPath[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire_moderation.Report]:
    """List who reported the thing of a case, and why."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(case_id, "case_id")
    listed = f"reports:{key}"
    place = place_in(program.secret, listed, cursor)
    after = parse_key(place) if place else None
    found = await program.moderation.reports(viewer, key, after, limit)
    more = len(found) >= limit
    following = cursor_at(program.secret, listed, str(found[-1].reporter)) if more else ""
    return wire.Page([wire_moderation.report(one) for one in found], following)


def action_query(
    community_id: FromQuery[str | None] = None,
    thing_kind: FromQuery[ThingKind | None] = None,
    thing_id: FromQuery[str | None] = None,
    member_id: FromQuery[str | None] = None,
    by: By = "",
) -> ActionQuery:
    """Read the parameters that filter the audit trail."""
    return ActionQuery(
        community_id=None if community_id is None else number_of(community_id, "community_id"),
        thing=_thing(thing_kind, thing_id),
        member=None if member_id is None else parse_key(member_id, "member_id"),
        by=by or None,
    )


@get(
    "/v1/moderation/actions",
    summary="The audit trail",
    tags=TAGS,
    dependencies={
        "which": Provide(action_query, sync_to_thread=False),
        "page": Provide(page_asked, sync_to_thread=False),
    },
)
async def list_actions(
    request: Asked, which: NamedDependency[ActionQuery], page: NamedDependency[PageAsked]
) -> wire.Page[wire_moderation.ModerationAction]:
    """List what was done, newest first: about a thing, about a member, or by somebody."""
    program, viewer = program_of(request), viewer_of(request)
    listed = f"actions:{which}"
    place = place_in(program.secret, listed, page.cursor)
    before = parse_key(place) if place else None
    found = await program.moderation.actions(viewer, which, before, page.limit)
    more = len(found) >= page.limit
    following = cursor_at(program.secret, listed, str(found[-1].key)) if more else ""
    return wire.Page([wire_moderation.action(one) for one in found], following)


@post("/v1/moderation/actions", summary="Decide about a thing", tags=TAGS)
async def decide(request: Asked) -> wire_moderation.Decided:
    """Make a move about a thing, with a reason; it settles the thing's open case."""
    program, viewer = program_of(request), viewer_of(request)
    form = await read(request, bodies.ActionNew)
    thing = Thing(form.thing_kind, parse_key(form.thing_id, "thing_id"))
    done = await program.moderation.decide(viewer, thing, form.move, form.reason)
    return wire_moderation.decided(done)


@get(
    "/v1/moderation/things/{thing_kind:str}/{thing_id:str}",
    summary="What may be done about a thing",
    tags=TAGS,
)
async def list_moves(
    request: Asked, thing_kind: FromPath[ThingKind], thing_id: FromPath[str]
) -> wire_moderation.Moves:
    """Tell what the caller may do about a thing now."""
    thing = Thing(thing_kind, parse_key(thing_id, "thing_id"))
    moves = await program_of(request).moderation.moves(viewer_of(request), thing)
    return wire_moderation.Moves(moves=moves)


@get("/v1/members/{member_id:str}/notices", summary="What moderators did", tags=TAGS)
async def list_notices(
    request: Asked,
    member_id: FromPath[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire_moderation.Notice]:
    """List what moderators did about the caller and what the caller wrote, newest first."""
    program, viewer = program_of(request), viewer_of(request)
    assert str(viewer.member) == member_id, "scope `own` made sure"
    listed = f"notices:{member_id}"
    place = place_in(program.secret, listed, cursor)
    before = parse_key(place) if place else None
    found = await program.moderation.notices(viewer, before, limit)
    more = len(found) >= limit
    following = cursor_at(program.secret, listed, str(found[-1].key)) if more else ""
    return wire.Page([wire_moderation.notice(one) for one in found], following)


def _thing(kind: ThingKind | None, thing_id: str | None) -> Thing | None:
    """Return the thing that two parameters name together, None where neither is there.

    Raises:
        MalformedError: one of the two is missing.
    """
    if kind is None and thing_id is None:
        return None
    if kind is not None and thing_id is not None:
        key: Key = parse_key(thing_id, "thing_id")
        return Thing(kind, key)
    missing = "thing_kind" if kind is None else "thing_id"
    raise MalformedError(
        f"the parameter {missing} is missing",
        field=missing,
        limit="both thing_kind and thing_id, or neither",
        next_step=f"send {missing} too",
    )


HANDLERS = [
    write_report, list_cases, get_case, list_reports, list_actions, decide, list_moves,
    list_notices,
]  # fmt: skip
