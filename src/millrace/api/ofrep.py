"""The OpenFeature Remote Evaluation Protocol, 0.3.0. The lane in front answers most of it."""

from typing import Annotated, Any

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from millrace.api.admissions import PARAMETER, admission_for, member_of
from millrace.api.asked import Asked, program_of, viewer_of
from millrace.api.auth import token_of, with_api_key
from millrace.api.evaluations import Evaluations
from millrace.api.flag_streams import FlagStreams, Reader
from millrace.api.remembered import Remembered
from millrace.api.wire_ofrep import (
    MEDIA_TYPE,
    BulkEvaluation,
    EvaluationSuccess,
    EventStream,
    Told,
    event_stream,
)
from millrace.community.types import Viewer
from millrace.kernel.errors import MillraceError, UnauthenticatedError, UnavailableError
from millrace.wiring import Program

TAGS = ["ofrep"]
Announced = Annotated[str, QueryParameter(name="flagConfigEtag", max_length=100)]
Admission = Annotated[str, QueryParameter(max_length=400)]
EVENTS = "/ofrep/v1/events"
EVENTS_TYPE = "text/event-stream"
EVENTS_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def stream_of(program: Program, viewer: Viewer) -> EventStream:
    """Return where a caller hears of changes, with an admission that stays the same for hours."""
    admission = admission_for(program.secret, viewer.name, program.clock.now())
    return event_stream(program.settings.door.public_url, f"{EVENTS}?{PARAMETER}={admission}")


@post("/ofrep/v1/evaluate/flags/{key:str}", summary="Evaluate a flag", tags=TAGS, status_code=200)
async def evaluate_flag(request: Asked, key: FromPath[str]) -> Response[EvaluationSuccess]:
    """Evaluate one flag for a context."""
    evaluations: Evaluations = request.app.state.evaluations
    return _answer(await evaluations.one(viewer_of(request), key, await request.body()))


@post("/ofrep/v1/evaluate/flags", summary="Evaluate every flag", tags=TAGS, status_code=200)
async def evaluate_flags(
    request: Asked, flag_config_etag: Announced = ""
) -> Response[BulkEvaluation]:
    """Evaluate every flag for a context; 304 where the answers are those of If-None-Match.

    `flagConfigEtag` is the `etag` of an event: where this process has not heard of that change yet,
    it waits for it, at most a second.
    """
    evaluations: Evaluations = request.app.state.evaluations
    viewer = viewer_of(request)
    told = await evaluations.every(
        viewer,
        await request.body(),
        stream_of(program_of(request), viewer),
        request.headers.get("if-none-match", ""),
        flag_config_etag,
    )
    return _answer(told)


@get(EVENTS, summary="Changes of flags, as server-sent events", tags=TAGS, media_type=EVENTS_TYPE)
async def listen(request: Asked, admission: Admission = "") -> Stream:
    """Stream `refetchEvaluation`: at once, unless Last-Event-ID is current, and at each change.

    `admission` stands for a token where no header can be sent; `eventStreams` has an address with one.

    Raises:
        UnauthenticatedError: whom the admission names may do nothing any more.
    """
    viewer = viewer_of(request)
    member = member_of(viewer)
    streams: FlagStreams = request.app.state.flag_streams
    streams.expect_room(viewer.name, member)
    remembered: Remembered = request.app.state.remembered
    token = token_of(with_api_key(dict(request.headers))) or ""  # empty: it was an admission

    if not token and await _is_over(program_of(request), viewer):
        raise UnauthenticatedError(
            f"{viewer.name} was banned, removed or disabled",
            field=PARAMETER,
            limit="an admission of somebody who may ask",
            next_step="ask a moderator of the community",
        )

    async def still_good() -> bool:
        try:
            return bool(await remembered.authenticate(token))
        except UnavailableError:
            return True  # nobody knows; the next heartbeat asks again
        except MillraceError:
            return False

    heard = request.headers.get("last-event-id", "")
    reader = Reader(viewer.name, member, still_good if token else None)
    told = streams.stream(reader, heard)
    return Stream(told, media_type=EVENTS_TYPE, headers=EVENTS_HEADERS)


async def _is_over(program: Program, viewer: Viewer) -> bool:
    """Return whether whom an admission names may do nothing any more, as far as the database says."""
    try:
        return bool(await program.identity.ended([viewer.name]))
    except UnavailableError:
        return False  # a browser that is refused does not come again; the streams ask again


def _answer(told: Told) -> Response[Any]:
    headers = {"etag": told.etag} if told.etag else {}
    if told.status == 304:
        return Response(None, status_code=304, headers=headers)
    return Response(told.body, status_code=told.status, media_type=MEDIA_TYPE, headers=headers)


HANDLERS = [evaluate_flag, evaluate_flags, listen]
