"""How the server itself is doing, and what it can do."""

import asyncio

from litestar import MediaType, Response, get

from millrace.api import metrics, wire
from millrace.api.asked import Asked, program_of
from millrace.api.idempotency import QUERIES
from millrace.feed.encoder_trainings import EncoderTraining, EncoderTrainings
from millrace.kernel.errors import UnavailableError
from millrace.store.changes.slots import SlotState, slots
from millrace.wiring import Program

TAGS = ["server"]
READY_SECONDS_MAX = 2.0


async def _database_answers(program: Program) -> bool:
    """Ask the database for a sign of life, within a time that a prober waits."""
    try:
        async with asyncio.timeout(READY_SECONDS_MAX), program.router.read() as session:
            return await session.value(QUERIES["answers"]) == 1
    except (UnavailableError, TimeoutError):
        return False


async def _slots(program: Program) -> list[SlotState]:
    """Return the slots of the change stream; none where the database does not answer in time."""
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            return await slots(program.router)
    except (UnavailableError, TimeoutError):
        return []


async def _trainings(program: Program) -> list[EncoderTraining]:
    """Return the newest trainings; none where the database does not answer in time."""
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            return await EncoderTrainings(program.router, program.clock, program.ids).newest()
    except (UnavailableError, TimeoutError):
        return []


@get("/health/live", summary="Whether the process answers", tags=TAGS)
async def live() -> wire.State:
    """Answer. Whoever gets no answer should restart the process."""
    return wire.State(status="live")


@get("/health/ready", summary="Whether requests can be served", tags=TAGS)
async def ready(request: Asked) -> Response[wire.State]:
    """Tell whether the database answers and the feed has started; 503 where not."""
    program = program_of(request)
    waiting = [] if await _database_answers(program) else ["database"]
    if waiting:
        state = wire.State(status="waiting", waiting=waiting)
        return Response(state, status_code=503, headers={"retry-after": "1"})
    return Response(wire.State(status="ready"))


@get("/metrics", summary="Numbers for Prometheus", tags=TAGS, media_type=MediaType.TEXT)
async def read_metrics(request: Asked) -> Response[bytes]:
    """Tell the numbers, to operators and to programs on the same machine."""
    counted: metrics.Metrics = request.app.state.metrics
    program = program_of(request)
    text = counted.text(
        program.feed, program.flags, await _slots(program), await _trainings(program)
    )
    return Response(text, media_type=metrics.MEDIA_TYPE)


@get("/openapi.json", summary="This interface, as OpenAPI", tags=TAGS)
async def read_openapi(request: Asked) -> Response[bytes]:
    """Tell everything that can be asked."""
    document: bytes = request.app.state.openapi
    return Response(
        document, media_type=MediaType.JSON, headers={"cache-control": "public, max-age=60"}
    )


HANDLERS = [live, ready, read_metrics, read_openapi]
