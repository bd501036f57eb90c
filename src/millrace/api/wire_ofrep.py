"""What OFREP 0.3.0 sends and answers, and how a resolution is written in it.

Clients are strict, so this is too: `variant` stands wherever a value does, and, empty, where it is
left out; 1.0 is not written as 1; metadata holds plain values only; a failure always has details.
docs/flags.md says what each client does with anything else.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from millrace.release.flags.types import ABSENT, ErrorCode, Reason, Resolution

MEDIA_TYPE = "application/json"
INACTIVITY_SECONDS = 120
# TYPE_MISMATCH is the caller's own finding: a request names no type.
ERROR_CODES = frozenset(
    {
        ErrorCode.PARSE_ERROR, ErrorCode.TARGETING_KEY_MISSING, ErrorCode.INVALID_CONTEXT,
        ErrorCode.GENERAL, ErrorCode.FLAG_NOT_FOUND,
    }
)  # fmt: skip

Plain = bool | int | float | str


class EvaluationRequest(Struct, frozen=True, kw_only=True):
    """For whom to evaluate. Without a context, or without `targetingKey`, a member's own key holds."""

    context: dict[str, Any] | UnsetType = UNSET


class EvaluationSuccess(Struct, frozen=True, kw_only=True):
    """What a flag gives. Without `value` the default of the calling code holds."""

    key: str
    value: Any | UnsetType = UNSET
    reason: Reason
    variant: str
    metadata: dict[str, Plain]


class EvaluationFailure(Struct, frozen=True, kw_only=True):
    """Why a flag gives nothing, or why a request was refused. `key` where one flag was asked for."""

    key: str | UnsetType = UNSET
    errorCode: ErrorCode  # noqa: N815 - OFREP's spelling, as below
    errorDetails: str  # noqa: N815


class BulkItem(Struct, frozen=True, kw_only=True):
    """One flag of all: what it gives, as an EvaluationSuccess, or an EvaluationFailure with its key."""

    key: str
    value: Any | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    variant: str | UnsetType = UNSET
    metadata: dict[str, Plain] | UnsetType = UNSET
    errorCode: ErrorCode | UnsetType = UNSET  # noqa: N815
    errorDetails: str | UnsetType = UNSET  # noqa: N815


class Endpoint(Struct, frozen=True, kw_only=True):
    """An address below the one that was asked."""

    requestUri: str  # noqa: N815


class EventStream(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where to hear of changes; `url` where the server knows its public address."""

    type: str
    url: str = ""
    endpoint: Endpoint | None = None
    inactivityDelaySec: Annotated[int, Meta(ge=0)]  # noqa: N815


class BulkEvaluation(Struct, frozen=True, kw_only=True):
    """What every flag gives, and where to hear of changes."""

    flags: list[BulkItem]
    metadata: dict[str, Plain]
    eventStreams: list[EventStream]  # noqa: N815


class Told(Struct, frozen=True, gc=False):
    """An answer. `etag` is empty where there is none."""

    status: int
    body: bytes
    etag: str = ""


def event_stream(public_url: str, path: str) -> EventStream:
    """Return where to hear of changes, by the path that this server answers."""
    if public_url:
        whole = f"{public_url.rstrip('/')}{path}"
        return EventStream(type="sse", url=whole, inactivityDelaySec=INACTIVITY_SECONDS)
    return EventStream(
        type="sse", endpoint=Endpoint(requestUri=path), inactivityDelaySec=INACTIVITY_SECONDS
    )


def failure(code: ErrorCode, details: str, key: str | None = None) -> bytes:
    """Return a failure as JSON. The details are never left out: a client fails without them."""
    told = code if code in ERROR_CODES else ErrorCode.GENERAL
    return encoded(
        EvaluationFailure(
            key=UNSET if key is None else key, errorCode=told, errorDetails=details or str(told)
        )
    )


def encoded(told: object) -> bytes:
    """Return what is told as JSON, whatever stands in the store: one flag may not fail them all."""
    try:
        return msgspec.json.encode(told)
    except (UnicodeEncodeError, OverflowError):  # half of a pair; a number beyond 64 bits
        return json.dumps(msgspec.to_builtins(told), separators=(",", ":")).encode()


def plain(metadata: Mapping[str, Any]) -> dict[str, Plain]:
    """Return the metadata that OFREP can carry: no lists, no objects, no nulls."""
    return {name: value for name, value in metadata.items() if isinstance(value, Plain)}


def success(resolution: Resolution) -> bytes:
    """Return a resolution without an error as JSON."""
    value = resolution.value
    return encoded(
        EvaluationSuccess(
            key=resolution.key,
            value=UNSET if value is ABSENT else value,
            reason=resolution.reason,
            variant=resolution.variant,
            metadata=plain(resolution.metadata),
        )
    )
