"""What a process elsewhere decides by, and what it says of its decisions."""

from typing import Any

import msgspec
from litestar import MediaType, Response, get, post

from millrace.api.asked import Asked, program_of, read
from millrace.api.bodies import FlagUses
from millrace.api.versions import tags_in
from millrace.release.flags import snapshot
from millrace.release.flags.snapshot import FlagSnapshot


@get("/v1/flag-snapshot", summary="All that decides, for deciding in process", tags=["flags"])
async def get_flag_snapshot(request: Asked) -> Response[FlagSnapshot]:
    """Return every definition, who is in which ring, and the country of every community.

    A process that has it decides as this one does. It is read again when `/ofrep/v1/events` says
    so, with If-None-Match. It says who is in which ring, so it is for servers and not for apps.
    """
    live = program_of(request).flags.live
    tag = f'"{live.etag}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in tags_in(request.headers.get("if-none-match", "")):
        same: Any = Response(None, status_code=304, headers=headers)
        return same
    held: tuple[str, bytes] | None = getattr(request.app.state, "flag_snapshot", None)
    if held is None or held[0] != live.etag:
        taken = snapshot.taken(live.etag, live.texts, live.entries, live.rules, live.countries)
        held = live.etag, msgspec.json.encode(taken)
        request.app.state.flag_snapshot = held  # all who follow ask after every change
    answer: Any = Response(held[1], media_type=MediaType.JSON, headers=headers)
    return answer


@post(
    "/v1/flag-usage",
    summary="How often flags were evaluated elsewhere",
    tags=["flags"],
    status_code=204,
)
async def post_flag_usage(request: Asked) -> None:
    """Add evaluations of another process to those of this one.

    Unknown flags are passed over, and variants that a flag does not have here: each would be a
    row. An empty variant stands for the caller's own default.
    """
    flags = program_of(request).flags
    told = await read(request, FlagUses)
    for line in told.lines:
        known = line.key in flags.live.versions and (
            not line.variant or line.variant in flags.flagset().variants(line.key)
        )
        if known:
            flags.usage_book.counts[line.key, line.variant] += line.evaluations


HANDLERS = [get_flag_snapshot, post_flag_usage]
