"""What every request passes, in this order, whatever its route.

    request id -> address -> route and its row -> who asks -> rate -> scope -> origin
    -> body -> media type -> idempotency key -> handler -> consistency token -> headers, log, count

The handlers know nothing of it: they find the viewer in `request.state`.
"""

from typing import Any, cast

from litestar import Litestar, Request
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from litestar.utils import normalize_path
from msgspec import Struct

from millrace.api import admissions, auth, headers, limits
from millrace.api.asked import Asked
from millrace.api.errors import InternalError, MethodError, known
from millrace.api.idempotency import KEPT_HEADERS, Claim, KeptAnswer, Keys, key_of, request_hash
from millrace.api.incoming import (
    METHODS,
    ClientGoneError,
    Incoming,
    check_media,
    check_target,
    headers_of,
    query_of,
    read_body,
)
from millrace.api.inventory import Inventory, RateClass, RouteRule
from millrace.api.metrics import Metrics
from millrace.api.refusals import refusal
from millrace.api.remembered import Remembered
from millrace.api.visit import Capture, RawHeaders, Visit
from millrace.api.waiting import Waiting
from millrace.community.types import Viewer
from millrace.kernel.errors import (
    MillraceError,
    NotFoundError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
)
from millrace.wiring import Program

NO_ROUTE = "(none)"
CLIENT_GONE = 499  # nginx's word for it; nobody reads the answer, only the log


class Parts(Struct, frozen=True, kw_only=True):
    """What the gate works with."""

    program: Program
    inventory: Inventory
    limits: limits.Limits
    keys: Keys
    metrics: Metrics
    log: Any
    remembered: Remembered


class Gate:
    """Wraps the application's own handler."""

    def __init__(self, app: Litestar, inner: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._inner = inner
        self._parts = parts
        self._config = parts.program.settings.door
        self._safety = headers.safety(self._config)
        self._waiting = Waiting()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        visit = self._begin(cast("dict[str, Any]", scope), send)
        clock, metrics = self._parts.program.clock, self._parts.metrics
        began = clock.monotonic()
        metrics.running.inc()
        try:
            await self._answer(visit, receive)
        finally:
            metrics.running.dec()
            self._count(visit, began, clock.monotonic())

    # ------------------------------------------------------------------------ in the order above

    def _begin(self, scope: dict[str, Any], send: Send) -> Visit:
        found = headers_of(scope)
        request_id = headers.request_id_of(found, f"{self._parts.program.ids.next():016x}")
        client: Any = scope.get("client") or ("", 0)
        head = scope["method"] == "HEAD"
        incoming = Incoming(
            scope=scope,
            method="GET" if head else scope["method"],
            head=head,
            path=normalize_path(scope["path"]),
            query=query_of(scope),
            headers=found,
            request_id=request_id,
            peer=str(client[0]),
        )
        if head:
            scope["method"] = "GET"  # the answer is made as for GET, and sent without its body
        scope["state"]["request_id"] = request_id
        return Visit(incoming=incoming, send=send, extra={"x-request-id": request_id})

    async def _answer(self, visit: Visit, receive: Receive) -> None:
        """Pass the request, and turn whatever stops it into a problem."""
        try:
            await self._pass(visit, receive)
        except ClientGoneError:
            visit.status = CLIENT_GONE
        except Exception as error:  # the last resort: a client must never see a bare failure
            told = known(error)
            if isinstance(told, InternalError):
                self._parts.log.exception("unforeseen", request_id=visit.incoming.request_id)
            if visit.status:
                raise
            await self._refuse(visit, told)

    async def _pass(self, visit: Visit, receive: Receive) -> None:
        incoming, state = visit.incoming, visit.incoming.scope["state"]
        check_target(incoming)
        template, params = self._route(visit)
        if incoming.method == "OPTIONS":
            await self._options(visit, template)
            return
        rule = visit.rule = self._parts.inventory.rule(incoming.method, template)
        if self._config.demo:
            auth.require_own_name(incoming.headers, self._config.public_url)
        caller = visit.caller = await self._caller(visit, rule)
        self._take(visit, rule.rate_class)
        auth.permit(rule, caller, params)
        if rule.unsafe and (caller.by_cookie or rule.page):
            auth.require_own_origin(incoming.headers, self._config.public_url)
        reading = read_body(incoming, rule, receive)
        waits = incoming.has_body
        body = await (self._waiting.patiently(caller.name, reading) if waits else reading)
        check_media(incoming, rule, body)
        state["viewer"], state["rule"] = caller.viewer, rule
        key = key_of(incoming.headers) if rule.unsafe and caller.viewer else None
        if rule.stream and incoming.head:
            await visit.answer(rule.status, {}, b"", self._sender(visit))  # it would never end
        elif not rule.unsafe:
            await self._run(visit, body, receive, self._sender(visit))
        else:
            with self._parts.program.router.noting() as visit.noted:
                if key is None:
                    await self._run(visit, body, receive, self._sender(visit))
                else:
                    await self._run_once(visit, key, body, receive)

    def _route(self, visit: Visit) -> tuple[str, dict[str, Any]]:
        """Return the template of the route that will run, and its path parameters.

        Raises:
            NotFoundError: there is no such path.
            MethodError: the path has no such method.
        """
        incoming = visit.incoming
        try:
            found = self._app.asgi_router.handle_routing(
                path=incoming.path, method=cast(Any, incoming.method)
            )
        except NotFoundException as exc:
            self._take_unknown(visit)
            raise NotFoundError(
                "there is nothing at this address",
                field="path",
                value=incoming.path,
                next_step="see /openapi.json for the addresses",
            ) from exc
        except MethodNotAllowedException as exc:
            self._take_unknown(visit)
            raise MethodError(
                f"{incoming.method[:20]} is not allowed at {incoming.path[:200]}",
                allow=self._allowed(incoming.path),
            ) from exc
        return found[4], found[3]

    def _allowed(self, path: str) -> str:
        """Return the methods of a path that has a route; every route answers OPTIONS."""
        return self._methods(self._app.asgi_router.handle_routing(path=path, method="OPTIONS")[4])

    def _methods(self, template: str) -> str:
        return ", ".join([*self._parts.inventory.methods(template), "OPTIONS"])

    async def _options(self, visit: Visit, template: str) -> None:
        """Say what a path allows; a browser asks this before a call from another origin."""
        self._take_unknown(visit)
        methods = self._methods(template)
        answer = {"allow": methods} | self._cross_origin(visit)
        if "access-control-allow-origin" in answer:
            answer |= headers.preflight(methods)
        await visit.answer(204, answer, b"", self._sender(visit))

    async def _caller(self, visit: Visit, rule: RouteRule) -> auth.Caller:
        """Return who asks. A token that does not hold has a price, so that nobody tries many.

        Raises:
            UnauthenticatedError: a token was sent and does not hold.
        """
        incoming, config = visit.incoming, self._config
        address, direct = auth.address_of(incoming.peer, incoming.headers, config.proxies)
        direct = direct and not config.public_url  # a proxy on this machine looks local too
        unknown = auth.Caller(viewer=None, by_cookie=False, address=address, direct=direct)
        if rule.anonymous:
            return unknown
        try:
            viewer, by_cookie = await self._viewer(incoming, rule)
        except UnauthenticatedError:
            visit.caller = unknown
            self._take(visit, RateClass.SIGN_IN)
            raise
        return auth.Caller(viewer=viewer, by_cookie=by_cookie, address=address, direct=direct)

    async def _viewer(self, incoming: Incoming, rule: RouteRule) -> tuple[Viewer | None, bool]:
        """Return who asks and whether a cookie said so; OFREP has more ways of saying it.

        Passes on:
            UnauthenticatedError: what was sent does not hold.
        """
        program, sent = self._parts.program, incoming.headers
        if not rule.ofrep:
            return await auth.viewer_of(sent, program.identity, lenient=rule.page)
        sent = auth.with_api_key(sent)
        if rule.admission and "authorization" not in sent:
            viewer = admissions.viewer_of(program.secret, incoming.query, program.clock.now())
            if viewer is not None:
                return viewer, False
        return await auth.viewer_of(sent, self._parts.remembered, lenient=False)

    def _take(self, visit: Visit, rate_class: RateClass) -> None:
        """Count the request.

        Raises:
            TooManyError: the caller's rate is used up.
        """
        caller = visit.caller
        assert caller is not None, "the caller is known before the rate"
        allowance = self._parts.limits.take(rate_class, caller.name)
        visit.extra |= limits.headers_of(rate_class, allowance)
        if not allowance.allowed:
            limit = f"{allowance.limit} {rate_class} requests a minute"
            raise TooManyError(
                f"{caller.name} used up {limit}",
                retry_seconds=allowance.retry_seconds,
                limit=limit,
            )

    def _take_unknown(self, visit: Visit) -> None:
        """Count a request that has no route, by its address."""
        incoming = visit.incoming
        address, direct = auth.address_of(incoming.peer, incoming.headers, self._config.proxies)
        visit.caller = auth.Caller(viewer=None, by_cookie=False, address=address, direct=direct)
        self._take(visit, RateClass.PUBLIC)

    async def _run(self, visit: Visit, body: bytes, receive: Receive, send: Send) -> None:
        """Run the handler on a body that was read."""
        waiting: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return waiting.pop() if waiting else await receive()

        await self._inner(cast(Any, visit.incoming.scope), again, send)

    async def _run_once(self, visit: Visit, key: str, body: bytes, receive: Receive) -> None:
        """Run the handler unless its key already has an answer."""
        incoming, keys, caller = visit.incoming, self._parts.keys, visit.caller
        assert caller is not None, "only known callers have keys"
        wanted = request_hash(incoming.method, incoming.target, incoming.media_type, body)
        claim = await keys.claim(caller.name, key, wanted)
        if isinstance(claim, KeptAnswer):
            answer = claim.headers | {"idempotent-replay": "true"}
            await visit.answer(claim.status, answer, claim.body, self._sender(visit))
            return
        held = Capture()
        try:
            await self._run(visit, body, receive, held)
        except Exception:
            await keys.free(claim)
            raise
        await self._settle(visit, claim, held)
        await held.release(self._sender(visit))

    async def _settle(self, visit: Visit, claim: Claim, held: Capture) -> None:
        """Keep an answer that changed something; give the key back after any other."""
        if held.status >= 400:
            await self._parts.keys.free(claim)
            return
        kept = {name: held.headers[name] for name in KEPT_HEADERS if name in held.headers}
        try:
            await self._parts.keys.keep(claim, KeptAnswer(held.status, kept, held.body))
        except UnavailableError:
            # The write is done and the caller must learn it. A repetition is refused, not run.
            self._parts.log.warning("answer_not_kept", request_id=visit.incoming.request_id)

    # ---------------------------------------------------------------------------- the way back

    async def _refuse(self, visit: Visit, error: MillraceError) -> None:
        """Answer what stopped the request."""
        request: Asked = Request(cast(Any, visit.incoming.scope))
        reply = refusal(error, request, visit.rule)
        await visit.answer(reply.status, reply.headers, reply.body, self._sender(visit))

    def _sender(self, visit: Visit) -> Send:
        """Return what sends an answer with the headers that every answer has."""

        async def send(message: Message) -> None:
            held: Any = message
            if held["type"] == "http.response.start":
                visit.status = held["status"]
                visit.answered = self._parts.program.clock.monotonic()
                held = held | {"headers": await self._dressed(visit, held["headers"])}
            elif visit.incoming.head:
                held = held | {"body": b""}
            await visit.send(held)

        return send

    async def _dressed(self, visit: Visit, raw: RawHeaders) -> RawHeaders:
        """Return an answer's headers with the common ones; what the handler said itself stays."""
        said = {name.lower() for name, _ in raw}
        common = self._safety | self._cross_origin(visit) | visit.extra
        common["cache-control"] = headers.caching(visit.rule, visit.status)
        if visit.rule is not None and visit.rule.unsafe and visit.status < 400:
            common |= await self._token(visit)
        added = [(name.encode(), value.encode("latin-1")) for name, value in common.items()]
        return [
            *raw,
            *((name, value) for name, value in added if name not in said or name in ALWAYS),
        ]

    async def _token(self, visit: Visit) -> dict[str, str]:
        """Return the headers that let the caller read what they just wrote."""
        try:
            token = await self._parts.program.router.token(visit.noted)
        except UnavailableError:
            # The write is done; without a token the caller only loses read-your-writes.
            self._parts.log.warning("no_token", request_id=visit.incoming.request_id)
            return {}
        secure = headers.behind_https(self._config)
        cookie = headers.token_cookie(auth.TOKEN_COOKIE, token, secure=secure)
        return {auth.TOKEN_HEADER: token, "set-cookie": cookie}

    def _cross_origin(self, visit: Visit) -> dict[str, str]:
        return headers.cross_origin(visit.incoming.headers.get("origin"), self._config.cors_origins)

    def _count(self, visit: Visit, began: float, ended: float) -> None:
        """Count and log a request. Of a stream only the time until it began says something."""
        incoming, caller = visit.incoming, visit.caller
        method = incoming.method if incoming.method in METHODS else "other"
        route = visit.rule.path if visit.rule else NO_ROUTE
        streams = visit.rule is not None and visit.rule.stream
        seconds = (visit.answered or ended if streams else ended) - began
        self._parts.metrics.count(method, route, visit.status, seconds)
        write = self._parts.log.warning if visit.status >= 500 else self._parts.log.info
        write(
            "request",
            request_id=incoming.request_id,
            method="HEAD" if incoming.head else incoming.method[:20],
            route=route,
            path=incoming.path[:200],
            status=visit.status,
            milliseconds=round((ended - began) * 1000, 1),
            caller=caller.name if caller else f"address:{incoming.peer}",
        )


ALWAYS = frozenset({b"set-cookie", b"vary"})  # headers that a handler's own do not replace
