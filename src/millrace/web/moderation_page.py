"""The queue of what members reported, and the page where one thing is judged."""

from asyncio import gather
from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from millrace.community.docket import ActionQuery, Case, CasePlace, CaseQuery, CaseReport
from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.types import Community, Key, Viewer, parse_key
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.web.asked import Asked, Form, form_of, go, program_of, viewer_of
from millrace.web.cases import (
    KINDS,
    MOVES_DONE,
    CaseCard,
    JudgeForm,
    address_of,
    case_card,
    choices_of,
    judge_address,
    query_of,
    said_of,
    trail_line,
)
from millrace.web.forms import number_of, said
from millrace.web.local import local_path
from millrace.web.report_page import thing_of
from millrace.web.shell import drawn, shell_for
from millrace.web.text import Body, body_of

QUEUE_SIZE = 20
DONE = frozenset(MOVES_DONE.values())
REPORTS_SIZE = 100
TRAIL_OF_THING = 20
Text = Annotated[str, QueryParameter(max_length=120)]


class Queue(Struct, frozen=True, kw_only=True):
    """A stretch of the queue, and which one it is.

    show: what waits (empty), what is "gone" meanwhile, or what is "settled".
    more: the address of the next stretch; empty at the end.
    """

    cases: list[CaseCard]
    show: str
    by_reports: bool
    community: str
    more: str


@get("/moderation", include_in_schema=False)
async def show_queue(
    request: Asked,
    show: Text = "",
    order: Text = "",
    community: Text = "",
    after: Text = "",
    done: Text = "",
) -> Response[str]:
    """Show the cases that wait, those whose things are gone meanwhile, or those that were settled."""
    viewer = viewer_of(request)
    query = CaseQuery(
        community_id=number_of(community) if community else None,
        most_reported=order == "reports",
        settled=show == "settled",
        gone=show == "gone",
    )
    shell, found, communities = await gather(
        shell_for(request, "moderation"),
        program_of(request).moderation.cases(viewer, query, _place(after), QUEUE_SIZE),
        _choosable(request, viewer),
    )
    now = program_of(request).clock.now()
    queue = Queue(
        cases=[case_card(case, now) for case in found],
        show=_shown(query),
        by_reports=query.most_reported,
        community=community,
        more=_more(found, query, order, community),
    )
    told = done if done in DONE else ""
    return drawn(
        "moderation.html",
        shell,
        queue=queue,
        communities=communities,
        form=JudgeForm(),
        done=told,
    )


def _more(found: list[Case], query: CaseQuery, order: str, community: str) -> str:
    if len(found) < QUEUE_SIZE:
        return ""
    last = found[-1]
    after = f"{last.reports if query.most_reported else 0}.{last.key}"
    return "/moderation" + query_of(
        show=_shown(query), order=order, community=community, after=after
    )


def _shown(query: CaseQuery) -> str:
    """Return the name of what a query asks for, as the address has it."""
    return "settled" if query.settled else "gone" if query.gone else ""


def _place(text: str) -> CasePlace | None:
    """Read where a stretch of the queue ended.

    Passes on:
        InvalidError: it is none.
    """
    if not text:
        return None
    weight, _, key = text.partition(".")
    return CasePlace(number_of(weight, "after"), parse_key(key, "after"))


async def _choosable(request: Asked, viewer: Viewer) -> list[Community]:
    """Return the communities to choose from: an operator judges in all."""
    return await program_of(request).communities.list(viewer) if viewer.oversees else []


@get("/moderation/cases/{case_id:str}", include_in_schema=False)
async def show_case(request: Asked, case_id: FromPath[str]) -> Response[str]:
    """Show a case with everything that was said in it."""
    viewer, key = viewer_of(request), parse_key(case_id, "case_id")
    case = await program_of(request).moderation.case(viewer, key)
    return await _show(request, case.thing, case=case)


@get("/moderation/{thing_kind:str}/{thing_id:str}", include_in_schema=False)
async def show_thing(
    request: Asked,
    thing_kind: FromPath[str],
    thing_id: FromPath[str],
    post_id: Text = "",
    done: Text = "",
) -> Response[str]:
    """Show a thing to judge, reported or not. A comment is read in the thread of `post_id`."""
    place = parse_key(post_id, "post_id") if post_id else None
    return await _show(request, thing_of(thing_kind, thing_id), place=place, done=done)


@post("/moderation/{thing_kind:str}/{thing_id:str}", include_in_schema=False)
async def judge(
    request: Asked, thing_kind: FromPath[str], thing_id: FromPath[str]
) -> Response[str] | Response[None]:
    """Make a move about a thing, and go back; what does not go is said at the reason."""
    viewer, form = viewer_of(request), await form_of(request)
    thing = thing_of(thing_kind, thing_id)
    try:
        move = _move(form)
        await program_of(request).moderation.decide(viewer, thing, move, form.text("reason"))
    except (ConflictError, InvalidError) as error:
        refused = JudgeForm(reason=form.text("reason"), error=said(error))
        return await _show(request, thing, form=refused)
    back = local_path(form.text("back") or "/moderation")
    joint = "&" if "?" in back else "?"
    return go(f"{back}{joint}done={MOVES_DONE[move]}")


async def _show(
    request: Asked,
    thing: Thing,
    *,
    case: Case | None = None,
    place: Key | None = None,
    form: JudgeForm | None = None,
    done: str = "",
) -> Response[str]:
    program, viewer = program_of(request), viewer_of(request)
    now = program.clock.now()
    shell, moves, trail = await gather(
        shell_for(request, "moderation"),
        program.moderation.moves(viewer, thing),
        program.moderation.actions(viewer, ActionQuery(thing=thing), None, TRAIL_OF_THING),
    )
    if not moves and case is None and not trail:
        _not_judged(viewer, thing)
    shown = await _thing_shown(request, thing, place) if case is None else None
    reports: list[CaseReport] = []
    if case is not None and case.author.key != viewer.member:
        reports = await program.moderation.reports(viewer, case.key, None, REPORTS_SIZE)
    return drawn(
        "judge.html",
        shell,
        status=422 if form else 200,
        kind=thing.kind.value,
        kind_label=KINDS[thing.kind],
        key=str(thing.key),
        back=judge_address(thing) + (f"?post_id={place}" if place else ""),
        shown=shown,
        case=case_card(case, now) if case else None,
        reports=[said_of(one, now) for one in reports],
        choices=choices_of(moves),
        trail=[trail_line(one, now) for one in trail],
        form=form or JudgeForm(),
        done=done if done in DONE else "",
    )


class Shown(Struct, frozen=True, kw_only=True):
    """A thing without a case, as far as it can be read by its key."""

    title: str
    body: Body
    author: str
    author_key: str
    address: str


async def _thing_shown(request: Asked, thing: Thing, place: Key | None) -> Shown | None:
    """Read a thing by its key; a comment is only read in its thread, so without that post not."""
    program, viewer = program_of(request), viewer_of(request)
    if thing.kind is ThingKind.COMMENT:
        return await _comment_shown(request, thing, place) if place else None
    if thing.kind is ThingKind.MEMBER:
        member = await program.members.get(viewer, thing.key)
        name = member.display_name or member.handle
        text = "\n\n".join(part for part in (member.headline, member.about) if part)
        return Shown(
            title=name,
            body=body_of(text),
            author=name,
            author_key=str(member.key),
            address=f"/members/{member.key}",
        )
    view = await program.posts.get(viewer, thing.key)
    return Shown(
        title=view.post.title,
        body=body_of(view.post.text),
        author=view.author.display_name or view.author.handle,
        author_key=str(view.author.key),
        address=f"/posts/{view.post.key}",
    )


async def _comment_shown(request: Asked, thing: Thing, post_key: Key) -> Shown | None:
    """Read one comment of a thread: the thread goes by id, so it is the next one behind its own."""
    threads, viewer = program_of(request).threads, viewer_of(request)
    found = await threads.thread(viewer, post_key, thing.key.id - 1, 1)
    view = next((one for one in found if one.comment.key == thing.key), None)
    if view is None:
        return None
    return Shown(
        title="",
        body=body_of(view.comment.text),
        author=view.author.display_name or view.author.handle,
        author_key=str(view.author.key),
        address=address_of(thing, post_key),
    )


def _move(form: Form) -> Move:
    """Read which move is meant.

    Raises:
        InvalidError: it is none.
    """
    value = form.text("move")
    if value not in list(Move):
        raise InvalidError(
            f"{value[:40]!r} is no move",
            field="move",
            value=value[:40],
            limit=", ".join(Move),
            next_step="press one of the buttons",
        )
    return Move(value)


def _not_judged(viewer: Viewer, thing: Thing) -> None:
    """Refuse the page to somebody who may do nothing about the thing.

    Raises:
        ForbiddenError: always.
    """
    raise ForbiddenError(
        f"{viewer.name} does not judge {thing}",
        field="thing_id",
        value=str(thing.key),
        limit="things of the own community, and of others",
        next_step="leave it to another moderator or an operator",
    )
