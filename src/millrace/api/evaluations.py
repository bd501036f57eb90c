"""Evaluations as OFREP tells them: who asks and a body in, bytes out. No framework, no socket.

What one variant of one flag looks like in JSON is written once and kept until a definition changes.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, NoReturn, Protocol, cast

import msgspec
from msgspec import UNSET

from millrace.api.wire_ofrep import (
    EvaluationRequest,
    EventStream,
    Told,
    encoded,
    failure,
    plain,
    success,
)
from millrace.community.types import Key, Viewer, parse_key
from millrace.kernel.errors import ForbiddenError, InvalidError, MillraceError
from millrace.release.flags.rings import TRACKS
from millrace.release.flags.types import TARGETING_KEY, Context, ErrorCode, Resolution

BODY_BYTES_MAX = 64 * 1024
CONTEXT_BYTES_MAX = 32 * 1024
CONTEXT_DEPTH_MAX = 16
ATTRIBUTES_MAX = 256
VALUES_MAX = 1_000  # in lists and objects of a context, however deep
CATCH_UP_SECONDS_MAX = 1.0  # how long to wait for a change that another process has announced
STATUS = {ErrorCode.FLAG_NOT_FOUND: 404}
DECODER = msgspec.json.Decoder(EvaluationRequest)


class Described(Protocol):
    """What evaluations need of the definitions."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Return the metadata of the whole set."""
        ...


class Decides(Protocol):
    """What evaluations need of the flags."""

    def etag(self) -> str:
        """Return what names the present definitions."""
        ...

    def evaluate(self, key: str, context: Context) -> Resolution:
        """Decide one flag; never raises."""
        ...

    def evaluate_all(self, context: Context) -> list[Resolution]:
        """Decide every flag; never raises."""
        ...

    def enriched(self, context: Context, *, trusted: bool) -> Context:
        """Return a client's context with what only the server may say.

        Args:
            context: as it came.
            trusted: whether rings may go by everything in it.
        """
        ...

    def flagset(self) -> Described:
        """Return the present definitions."""
        ...

    def etag_of(self, member: Key) -> str:
        """Return what names all that decides for a member."""
        ...

    async def changed(self, etag: str, seconds: float) -> str:
        """Wait until the definitions have another name, and return it."""
        ...

    async def note_app(self, member: Key, track: str, version: str) -> None:
        """Note which version of an application a member uses."""
        ...


class InvalidContextError(InvalidError):
    """The context of an evaluation is not one."""


class Evaluations:
    """Answers evaluations from what this process knows; nothing here waits for the database."""

    def __init__(self, flags: Decides) -> None:
        self._flags = flags
        self._written: dict[tuple[str, str, str], bytes] = {}
        self._written_at = ""

    async def one(self, viewer: Viewer, key: str, body: bytes) -> Told:
        """Evaluate one flag for the context in a body.

        Passes on:
            ForbiddenError: a member asks for somebody else.
        """
        try:
            context = await self._context(viewer, body)
        except InvalidError as exc:
            return Told(400, failure(code_of(exc), exc.message, key))
        found = self._flags.evaluate(key, context)
        if found.error is None:
            return Told(200, self._json(found))
        status = STATUS.get(found.error, 400)
        return Told(status, failure(found.error, found.message, key))

    async def every(
        self, viewer: Viewer, body: bytes, stream: EventStream, held: str = "", awaited: str = ""
    ) -> Told:
        """Evaluate every flag for the context in a body.

        Args:
            viewer: who asks.
            body: with the context.
            stream: where to hear of changes.
            held: the If-None-Match header: what the caller has already.
            awaited: the definitions that an event announced, perhaps from another process.

        Passes on:
            ForbiddenError: a member asks for somebody else.
        """
        try:
            context = await self._context(viewer, body)
        except InvalidError as exc:
            return Told(400, failure(code_of(exc), exc.message))
        if awaited:
            await self._caught_up(viewer.member, awaited)
        parts = [self._any(found) for found in self._flags.evaluate_all(context)]
        flags = b",".join(parts)
        # Over the answers, not over the request: a ramp moves without a change of definition.
        etag = f'"{blake2b(flags, digest_size=12).hexdigest()}"'
        if held and etag in (one.strip().removeprefix("W/") for one in held.split(",")):
            return Told(304, b"", etag)
        rest = encoded(
            {"metadata": plain(self._flags.flagset().metadata), "eventStreams": [stream]}
        )
        return Told(200, b'{"flags":[' + flags + b"]," + rest[1:], etag)

    async def _caught_up(self, member: Key | None, awaited: str) -> None:
        """Wait a moment for a change that was announced, past those of other members."""
        flags = self._flags

        def name() -> str:
            return flags.etag() if member is None else flags.etag_of(member)

        before = name()
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
                while awaited != before == name():
                    await flags.changed(flags.etag(), CATCH_UP_SECONDS_MAX)

    async def _context(self, viewer: Viewer, body: bytes) -> Context:
        """Return the context to decide by. A body without a sound one is an InvalidError."""
        context = _of_whom(viewer, _read(body))
        version = context.get("appVersion")
        if version is not None:
            await self._note(context, version)
        # What a member says of themself opens no ring; an application's server is believed.
        return self._flags.enriched(context, trusted=viewer.member is None)

    async def _note(self, context: Context, version: object) -> None:
        """Note the version that a member's application names, for adoption."""
        track, who = context.get("platform"), context.get(TARGETING_KEY)
        if not (isinstance(version, str) and isinstance(who, str) and isinstance(track, str)):
            return
        if track in TRACKS:
            try:
                member = parse_key(who)
            except InvalidError:
                return  # not a member: a device, a guest
            await self._flags.note_app(member, track, version)

    def _any(self, found: Resolution) -> bytes:
        if found.error is None:
            return self._json(found)
        return failure(found.error, found.message, found.key)

    def _json(self, found: Resolution) -> bytes:
        """Return a resolution as JSON, from what was written before where it was."""
        etag = self._flags.etag()
        if etag != self._written_at:
            self._written.clear()
            self._written_at = etag
        place = (found.key, found.variant, found.reason)
        known = self._written.get(place)
        if known is None:
            known = self._written[place] = success(found)
        return known


def code_of(error: MillraceError) -> ErrorCode:
    """Return OFREP's code for an error of ours."""
    if isinstance(error, InvalidContextError):
        return ErrorCode.INVALID_CONTEXT
    parsing = error.code in {"malformed", "unsupported_media_type", "invalid"}
    return ErrorCode.PARSE_ERROR if parsing else ErrorCode.GENERAL


def _read(body: bytes) -> dict[str, Any]:
    """Return the context of a body.

    Raises:
        InvalidError: the body is no JSON.
        InvalidContextError: its context is no object, or beyond a bound; names the bound.
    """
    try:
        asked = DECODER.decode(body)
    except msgspec.ValidationError as exc:
        raise InvalidContextError(f"the context cannot be used: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidError(f"the body is not JSON: {exc}") from exc
    except RecursionError:
        _refuse("is nested deeper", CONTEXT_DEPTH_MAX, "levels")
    context = asked.context
    if context is UNSET:
        return {}
    if len(body) > CONTEXT_BYTES_MAX:
        _refuse(f"has {len(body)} bytes", CONTEXT_BYTES_MAX, "bytes")
    if len(context) > ATTRIBUTES_MAX:
        _refuse(f"has {len(context)} attributes", ATTRIBUTES_MAX, "attributes")
    if _beyond(context, CONTEXT_DEPTH_MAX):
        _refuse("is nested deeper", CONTEXT_DEPTH_MAX, "levels")
    if (count := _count(context)) > VALUES_MAX:
        _refuse(f"has {count} values", VALUES_MAX, "values")
    return context


def _refuse(what: str, limit: int, unit: str) -> NoReturn:
    """Refuse a context.

    Raises:
        InvalidContextError: names what it has and the bound.
    """
    raise InvalidContextError(
        f"the context {what}; at most {limit} {unit} are taken", field="context", limit=limit
    )


def _beyond(value: dict[str, Any] | list[Any], left: int) -> bool:
    """Return whether a value is nested deeper than so many levels."""
    inner = value.values() if isinstance(value, dict) else value
    nested = cast("list[dict[str, Any]]", [one for one in inner if isinstance(one, dict | list)])
    return any(left <= 1 or _beyond(one, left - 1) for one in nested)


def _count(value: dict[str, Any] | list[Any]) -> int:
    """Return how many values there are within a value."""
    inner = value.values() if isinstance(value, dict) else value
    nested = cast("list[dict[str, Any]]", [one for one in inner if isinstance(one, dict | list)])
    return len(value) + sum(map(_count, nested))


def _of_whom(viewer: Viewer, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context with the member's own key where it names nobody.

    Raises:
        InvalidContextError: `targetingKey` is no text.
        ForbiddenError: a member asks for somebody else.
    """
    who = context.get(TARGETING_KEY)
    if who is not None and not isinstance(who, str):
        raise InvalidContextError(f"{TARGETING_KEY} is no text", field=TARGETING_KEY)
    if viewer.member is None:
        return context
    own = str(viewer.member)
    if who is None:
        context[TARGETING_KEY] = own
    elif who != own:
        raise ForbiddenError(
            f"{viewer.name} may only ask for themself",
            field=TARGETING_KEY,
            value=who,
            limit=own,
            next_step="leave targetingKey out, or send a token of an operator or release manager",
        )
    return context
