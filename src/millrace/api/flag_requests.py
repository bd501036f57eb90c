"""Changes of flags that wait: for a second pair of eyes, for their time, for an adoption."""

from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from millrace.api import bodies_flags, wire, wire_flags
from millrace.api.asked import Asked, number_of, program_of, read
from millrace.api.flags import by_whom, flags_of
from millrace.api.paging import PageAsked, cursor_at, page_asked, place_in
from millrace.release.flags.types import RequestState

TAGS = ["flags"]
Stage = Annotated[RequestState | None, QueryParameter(name="state")]
REQUEST = "/v1/flag-requests/{request_id:str}"


@get(
    "/v1/flag-requests",
    summary="Changes that wait, or waited",
    tags=TAGS,
    dependencies={"page": Provide(page_asked, sync_to_thread=False)},
)
async def list_requests(
    request: Asked,
    page: NamedDependency[PageAsked],
    stage: Stage = None,
    key: FromQuery[str | None] = None,
) -> wire.Page[wire_flags.FlagRequest]:
    """List requests, newest first: those of a state, those about a flag."""
    program = program_of(request)
    listed = f"flag_requests:{stage}:{key}"
    place = place_in(program.secret, listed, page.cursor)
    before = int(place) if place else None
    states = (stage,) if stage else ()
    found = await program.flags.requests(states, key, page.limit, before)
    more = len(found) >= page.limit
    following = cursor_at(program.secret, listed, str(found[-1].id)) if more else ""
    return wire.Page([wire_flags.request(one) for one in found], following)


@get(REQUEST, summary="One request", tags=TAGS)
async def get_request(request: Asked, request_id: FromPath[str]) -> wire_flags.FlagRequest:
    """Read a request."""
    number = number_of(request_id, "request_id")
    return wire_flags.request(await flags_of(request).request(number))


@post(f"{REQUEST}/approve", summary="Approve a change", tags=TAGS, status_code=200)
async def approve(request: Asked, request_id: FromPath[str]) -> wire_flags.FlagRequest:
    """Let a change that somebody else proposed be made; at once, where it waits for nothing else."""
    await read(request, bodies_flags.Decision)
    number = number_of(request_id, "request_id")
    return wire_flags.request(await flags_of(request).approve(number, by_whom(request)))


@post(f"{REQUEST}/reject", summary="Reject a change", tags=TAGS, status_code=200)
async def reject(request: Asked, request_id: FromPath[str]) -> wire_flags.FlagRequest:
    """Say no to a proposed change, and why."""
    form = await read(request, bodies_flags.Decision)
    number = number_of(request_id, "request_id")
    found = await flags_of(request).reject(number, by_whom(request), form.note)
    return wire_flags.request(found)


@post(f"{REQUEST}/cancel", summary="Take a change back", tags=TAGS, status_code=200)
async def cancel(request: Asked, request_id: FromPath[str]) -> wire_flags.FlagRequest:
    """Take back a change that is not made yet."""
    form = await read(request, bodies_flags.Decision)
    number = number_of(request_id, "request_id")
    found = await flags_of(request).cancel(number, by_whom(request), form.note)
    return wire_flags.request(found)


HANDLERS = [list_requests, get_request, approve, reject, cancel]
