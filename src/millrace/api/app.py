"""The HTTP application: every route, behind one gate."""

from collections.abc import Iterable
from typing import Any, TextIO, cast

from litestar import Litestar, Response
from litestar.config.response_cache import ResponseCacheConfig
from litestar.datastructures import State
from litestar.types import ControllerRouterHandler

from millrace.api import (
    about,
    activity,
    bulk,
    events,
    feed,
    flag_requests,
    flag_scans,
    flag_snapshot,
    flags,
    members,
    moderation,
    ofrep,
    openapi,
    posts,
    relations,
    rings,
    search,
    server,
    threads,
    tokens,
)
from millrace.api.asked import Asked
from millrace.api.errors import InternalError, known
from millrace.api.evaluations import Evaluations
from millrace.api.flag_streams import FlagStreams
from millrace.api.gate import Gate, Parts
from millrace.api.idempotency import Keys
from millrace.api.inventory import Inventory, RateClass
from millrace.api.lane import Lane
from millrace.api.limits import Limits
from millrace.api.listeners import Listeners
from millrace.api.logs import make_log
from millrace.api.metrics import Metrics
from millrace.api.refusals import refusal
from millrace.api.remembered import Remembered
from millrace.web import pages
from millrace.wiring import Program

OWN_HANDLERS: list[ControllerRouterHandler] = [
    *about.HANDLERS, *members.HANDLERS, *posts.HANDLERS, *threads.HANDLERS, *feed.HANDLERS, *events.HANDLERS,
    *relations.HANDLERS, *moderation.HANDLERS, *search.HANDLERS, *activity.HANDLERS, *bulk.HANDLERS, *tokens.HANDLERS, *server.HANDLERS,
    *flags.HANDLERS, *flag_requests.HANDLERS, *flag_scans.HANDLERS, *flag_snapshot.HANDLERS, *rings.HANDLERS, *ofrep.HANDLERS,
]  # fmt: skip


def create_app(
    program: Program, *, inventory: Inventory | None = None, log_stream: TextIO | None = None
) -> Litestar:
    """Build the application of a program.

    Args:
        program: the built rooms.
        inventory: the rows of the routes; the whole table by default.
        log_stream: where the log lines go; standard error by default.

    A route without a row in the inventory, a row without a route, or a rate class without a rate
    is a SetupError.
    """
    rules = inventory or Inventory()
    log, metrics = make_log(log_stream), Metrics()
    listeners = Listeners(program.feed.arrivals, program.posts.newer, log)
    remembered = Remembered(program.identity, program.clock)
    evaluations = Evaluations(program.flags)
    flag_streams = FlagStreams(program.flags, program.identity.ended)
    metrics.streams.set_function(lambda: float(len(listeners) + len(flag_streams)))
    app = Litestar(
        route_handlers=[*OWN_HANDLERS, *pages.handlers()],
        openapi_config=None,  # the framework's own pages load scripts from elsewhere
        exception_handlers={Exception: _problem},
        state=State(
            {
                "program": program,
                "metrics": metrics,
                "log": log,
                "listeners": listeners,
                "evaluations": evaluations,
                "flag_streams": flag_streams,
                "remembered": remembered,
            }
        ),
        logging_config=None,
        request_max_body_size=None,  # the gate has read the body, within the route's own limit
        response_cache_config=ResponseCacheConfig(),
    )
    rules.check(_routes(app))
    app.state.openapi = openapi.document(OWN_HANDLERS, rules)
    config = program.settings.door
    parts = Parts(
        program=program,
        inventory=rules,
        limits=Limits(program.clock, config.rates, [str(one) for one in RateClass]),
        keys=Keys(program.router, program.clock),
        metrics=metrics,
        log=log,
        remembered=remembered,
    )
    app.asgi_handler = Lane(Gate(app, app.asgi_handler, parts), parts, evaluations, remembered)
    return app


def _routes(app: Litestar) -> Iterable[tuple[str, str]]:
    """Return method and path of every route. OPTIONS is the gate's own."""
    for route in app.routes:
        methods = cast(Any, route).methods if hasattr(route, "methods") else {"ASGI"}
        for method in methods:
            if method != "OPTIONS":
                yield method, route.path_format


def _problem(request: Asked, error: Exception) -> Response[bytes]:
    """Answer an error that a handler raised."""
    state = request.scope["state"]
    told = known(error, dict(request.query_params))
    if isinstance(told, InternalError):
        request.app.state.log.error("unforeseen", request_id=state["request_id"], exc_info=error)
    reply = refusal(told, request, state["rule"])
    kept = {name: value for name, value in reply.headers.items() if name != "content-type"}
    media_type = reply.headers.get("content-type")
    return Response(reply.body, status_code=reply.status, media_type=media_type, headers=kept)
