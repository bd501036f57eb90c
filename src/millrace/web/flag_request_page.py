"""Changes that wait for a second pair of eyes, for their time, or for a version to be adopted."""

from asyncio import gather
from collections.abc import Mapping
from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.release.flags.repository import SHARED
from millrace.release.flags.types import (
    OPEN_STATES,
    SETTLED_STATES,
    ChangeRequest,
    Flag,
    RequestState,
    Wait,
)
from millrace.web.asked import Asked, Form, form_of, go, program_of, viewer_of
from millrace.web.cases import query_of
from millrace.web.flag_asked import communities_by_number, doer_of, flags_of
from millrace.web.flag_crowds import DifferenceView
from millrace.web.flag_previews import previewed
from millrace.web.flag_request_views import Looked, RequestCard, request_card
from millrace.web.forms import number_of, said
from millrace.web.shell import drawn, shell_for

PAGE_SIZE = 50
DONE = {
    "asked": "Asked. It stands here until it is made, rejected or called off.",
    "approved": "Approved, and made.",
    "waits": "Approved. It is made when its time has come.",
    "failed": "Approved, and could not be made: its note says why.",
    "rejected": "Rejected.",
    "cancelled": "Called off.",
}
Text = Annotated[str, QueryParameter(max_length=40)]


@get("/flag-requests", include_in_schema=False)
async def show_requests(
    request: Asked, show: Text = "", preview: Text = "", done: Text = "", before: Text = ""
) -> Response[str]:
    """Show the requests that are open, or those that were settled; only those before one."""
    return await _show(
        request,
        settled=show == "done",
        preview=number_of(preview, "preview") if preview else 0,
        before=number_of(before, "before") if before else None,
        done=done,
    )


async def _show(
    request: Asked,
    *,
    settled: bool = False,
    preview: int = 0,
    before: int | None = None,
    done: str = "",
    refused: tuple[int, str, str] | None = None,
) -> Response[str]:
    """Draw the page. `refused`: the request, what was wrong with the press, and the note of it."""
    flags, states = flags_of(request), SETTLED_STATES if settled else OPEN_STATES
    shell, waiting, found, names = await gather(
        shell_for(request, "flags"),
        flags.waiting(),
        flags.requests(states, None, PAGE_SIZE + 1, before),
        communities_by_number(request),
    )
    shown = found[:PAGE_SIZE]
    cards = [await _card(request, one, names, preview, refused) for one in shown]
    return drawn(
        "flag_requests.html",
        shell,
        status=409 if refused else 200,
        requests=cards,
        show="done" if settled else "open",
        waiting=waiting,
        before=before or "",
        older=_older(shown[-1], settled=settled) if len(found) > PAGE_SIZE else "",
        done=DONE.get(done, ""),
        error=refused[1] if refused else "",
    )


def _older(last: ChangeRequest, *, settled: bool) -> str:
    """Return where those are that were asked for before the last one of a page."""
    return f"/flag-requests{query_of(show='done' if settled else '', before=str(last.id))}"


async def _card(
    request: Asked,
    one: ChangeRequest,
    names: Mapping[str, str],
    preview: int,
    refused: tuple[int, str, str] | None,
) -> RequestCard:
    """Show a request. `names`: of communities, by number."""
    flag = await flags_of(request).find(one.key)
    waits = one.wait is not None and one.state in OPEN_STATES
    return request_card(
        one,
        Looked(
            flag=flag,
            adoption=await flags_of(request).adoption(_wait(one)) if waits else None,
            viewer=viewer_of(request).name,
            now=program_of(request).clock.now(),
            names=names,
            typed=refused[2] if refused and refused[0] == one.id else "",
            difference=await _difference(request, one, flag) if preview == one.id else None,
        ),
    )


def _wait(one: ChangeRequest) -> Wait:
    assert one.wait is not None, "who asks has looked"
    return one.wait


async def _difference(
    request: Asked, one: ChangeRequest, flag: Flag | None
) -> DifferenceView | None:
    """Count whom a request adds and drops; of what is removed or shared there is nothing."""
    if not one.content or one.key in SHARED:
        return None
    return await previewed(request, one.key, flag.content if flag else "", one.content)


@post("/flag-requests/{request_id:str}", include_in_schema=False)
async def decide(request: Asked, request_id: FromPath[str]) -> Response[str] | Response[None]:
    """Approve, reject or call off a request; what does not go is said, and the note stays."""
    form, number = await form_of(request), number_of(request_id, "request_id")
    try:
        done = await _decided(request, number, form)
    except (ConflictError, ForbiddenError, InvalidError) as error:
        before = number_of(form.text("before"), "before") if form.text("before") else None
        refusal = (number, said(error), form.text("note"))
        return await _show(request, before=before, refused=refusal)
    return go(f"/flag-requests?done={done}#main")


async def _decided(request: Asked, number: int, form: Form) -> str:
    """Do what the pressed button says; return what came of it.

    Raises:
        InvalidError: it says nothing, or rejects without a word.

    Passes on:
        NotFoundError: there is no such request.
        ForbiddenError: who approves is who proposed.
        ConflictError: it was decided already.
    """
    flags, actor, note = flags_of(request), doer_of(request), form.text("note")
    match form.text("do"):
        case "approve":
            made = await flags.approve(number, actor)
            if made.state is RequestState.FAILED:
                return "failed"
            return "approved" if made.state is RequestState.APPLIED else "waits"
        case "reject" if note:
            await flags.reject(number, actor, note)
            return "rejected"
        case "reject":
            step = "write what is wrong with it"
            raise InvalidError("a rejection needs a note", field="note", next_step=step)
        case "cancel":
            await flags.cancel(number, actor, note)
            return "cancelled"
        case other:
            raise InvalidError(
                f"{other[:40]!r} is nothing to do about a request",
                field="do",
                value=other[:40],
                limit="approve, reject, cancel",
                next_step="press one of the buttons",
            )
