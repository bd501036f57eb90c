"""The lane beside the gate: ordinary evaluations of flags, answered in some ten microseconds.

The gate, the router and the handler together cost several times what an evaluation does. So the
commonest question by far passes here, with what the gate would have looked at and nothing else:
a token that was checked a moment ago, the caller's rate, the size and type of the body. Whatever is
out of the ordinary goes through the gate as if there were no lane, and is answered the same.
docs/decisions/0131 has the figures.
"""

import asyncio
from collections import Counter
from typing import Any, cast

from litestar.types import ASGIApp, Receive, Scope, Send

from millrace.api import headers, limits
from millrace.api.errors import InternalError, known
from millrace.api.evaluations import BODY_BYTES_MAX, Evaluations
from millrace.api.gate import Parts
from millrace.api.incoming import BODY_SECONDS_MAX, late_body, refuse_nul
from millrace.api.inventory import EVALUATE, Media, RateClass
from millrace.api.ofrep import stream_of
from millrace.api.refusals import Reply, ofrep_refusal
from millrace.api.remembered import Remembered
from millrace.api.visit import RawHeaders
from millrace.api.wire_ofrep import MEDIA_TYPE, Told
from millrace.community.types import Viewer

PLAIN = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"private, no-cache")]
READING_MAX = 128  # bodies awaited here at once; those of more requests wait at the gate
READING_SERVER_MAX = 32  # of one server, or one person who runs the installation
READING_MEMBER_MAX = 4  # of one member: who sends slowly sends nobody else to the gate
WATCHED = frozenset(
    {
        b"authorization", b"x-api-key", b"content-type", b"content-length", b"if-none-match",
        b"origin", b"x-request-id",
    }
)  # fmt: skip
UNUSUAL = frozenset({b"expect", b"transfer-encoding", b"content-encoding"})
TEMPLATES = (EVALUATE, f"{EVALUATE}/{{key}}")
Found = dict[bytes, bytes]


class Lane:
    """Wraps the gate."""

    def __init__(
        self, gate: ASGIApp, parts: Parts, evaluations: Evaluations, remembered: Remembered
    ) -> None:
        self._gate = gate
        self._parts = parts
        self._evaluations = evaluations
        self._remembered = remembered
        self._config = parts.program.settings.door
        self._reading = 0
        self._reading_of: Counter[str] = Counter()
        metrics = parts.metrics
        self._seconds = {path: metrics.seconds.labels("POST", path) for path in TEMPLATES}
        self._fine = {path: metrics.requests.labels("POST", path, "200") for path in TEMPLATES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, here or at the gate."""
        held = cast("dict[str, Any]", scope)
        if (
            held["type"] == "http"
            and held["method"] == "POST"
            and held["path"].startswith(EVALUATE)
            and not held["query_string"]
            and self._reading < READING_MAX
            and not self._config.demo  # the gate looks at the name that was asked for
        ):
            key = held["path"][len(EVALUATE) :]
            found = _ordinary(held["headers"])
            viewer = None if found is None else self._viewer(found)
            if (
                (not key or key.rfind("/") == 0 < len(key) - 1)
                and found is not None
                and viewer
                and self._reading_of[viewer.name] < _reading_max(viewer)
            ):
                allowance = self._parts.limits.take(RateClass.EVALUATE, viewer.name)
                if allowance.allowed:  # else the gate says so
                    await self._answer(held["path"], (viewer, found, allowance), receive, send)
                    return
        await self._gate(scope, receive, send)

    def _viewer(self, found: Found) -> Viewer | None:
        """Return who asks, where the same token was checked a moment ago."""
        proof = found.get(b"authorization")
        if proof is None:
            return self._remembered.known(found.get(b"x-api-key", b"").decode("latin-1"))
        if proof[:7] not in {b"Bearer ", b"bearer "}:
            return None
        return self._remembered.known(proof[7:].decode("latin-1"))

    async def _answer(
        self,
        path: str,
        asked: tuple[Viewer, Found, limits.Allowance],
        receive: Receive,
        send: Send,
    ) -> None:
        clock, (viewer, found, allowance) = self._parts.program.clock, asked
        began = clock.monotonic()
        try:
            body = await self._body(viewer.name, receive)
            if body is None:
                return
            made = await self._told(viewer, path[len(EVALUATE) + 1 :], body, found)
            reply = Reply(made.status, {"etag": made.etag} if made.etag else {}, made.body)
        except Exception as exc:  # the last resort, as at the gate
            told = known(exc)
            if isinstance(told, InternalError):
                self._parts.log.exception("unforeseen", path=path[:200])
            reply = ofrep_refusal(told, path)
        lines = self._dressed(reply, found, allowance)
        start: Any = {"type": "http.response.start", "status": reply.status, "headers": lines}
        rest: Any = {"type": "http.response.body", "body": reply.body, "more_body": False}
        await send(start)
        await send(rest)
        self._count(path, viewer, reply.status, clock.monotonic() - began)

    async def _told(self, viewer: Viewer, key: str, body: bytes, found: Found) -> Told:
        if key:
            return await self._evaluations.one(viewer, key, body)
        held = found.get(b"if-none-match", b"").decode("latin-1")
        stream = stream_of(self._parts.program, viewer)
        return await self._evaluations.every(viewer, body, stream, held)

    async def _body(self, caller: str, receive: Receive) -> bytes | None:
        """Return the body, of which the length was announced; None where the client hung up.

        Passes on:
            BodyTimeoutError: it did not arrive in time.
            MalformedError: it holds a NUL character.
        """
        self._reading += 1
        self._reading_of[caller] += 1
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                message: Any = await receive()
                body: bytes = message.get("body", b"")
                while message.get("more_body", False):
                    message = await receive()
                    body += message.get("body", b"")
        except TimeoutError as exc:
            error = late_body()
            raise error from exc
        finally:
            self._reading -= 1
            self._reading_of[caller] -= 1
            if not self._reading_of[caller]:
                del self._reading_of[caller]
        if message["type"] == "http.disconnect":
            return None
        refuse_nul(Media.JSON, body)
        return body

    def _dressed(self, reply: Reply, found: Found, allowance: limits.Allowance) -> RawHeaders:
        """Return the headers of an answer: those of the gate that say something to a program."""
        sent = found.get(b"x-request-id")
        made = f"{self._parts.program.ids.next():016x}"
        named = (
            made
            if sent is None
            else headers.request_id_of({"x-request-id": sent.decode("latin-1")}, made)
        )
        lines = {"content-type": MEDIA_TYPE} | reply.headers
        lines |= limits.headers_of(RateClass.EVALUATE, allowance)
        if self._config.cors_origins:
            origin = found.get(b"origin", b"").decode("latin-1")
            lines |= headers.cross_origin(origin, self._config.cors_origins)
        raw = [(name.encode(), value.encode("latin-1")) for name, value in lines.items()]
        raw += [(b"x-request-id", named.encode()), *PLAIN]
        if reply.status != 304:
            raw.append((b"content-length", b"%d" % len(reply.body)))
        return raw

    def _count(self, path: str, viewer: Viewer, status: int, seconds: float) -> None:
        """Count an answer; only those that are no success have a line in the log."""
        template = TEMPLATES[len(path) > len(EVALUATE)]
        self._seconds[template].observe(seconds)
        if status == 200:
            self._fine[template].inc()
            return
        self._parts.metrics.requests.labels("POST", template, str(status)).inc()
        if status != 304:
            self._parts.log.info(
                "request",
                method="POST",
                route=template,
                path=path[:200],
                status=status,
                milliseconds=round(seconds * 1000, 1),
                caller=viewer.name,
            )


def _reading_max(viewer: Viewer) -> int:
    return READING_SERVER_MAX if viewer.member is None else READING_MEMBER_MAX


def _ordinary(raw: RawHeaders) -> Found | None:
    """Return the headers that matter here; None where the gate has to look at the request."""
    found: Found = {}
    for name, value in raw:
        if name in WATCHED:
            if name in found:
                return None
            found[name] = value
        elif name in UNUSUAL:
            return None
    length = found.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 6 or int(length) > BODY_BYTES_MAX:
        return None
    typed = found.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return found if typed == b"application/json" else None
