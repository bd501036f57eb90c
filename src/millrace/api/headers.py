"""The headers that every response carries: safety, caching, and who may call from where."""

import re
from collections.abc import Mapping, Sequence

from millrace.api.inventory import RouteRule
from millrace.settings import DoorConfig

POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
EXPOSED = "ETag, Location, Idempotent-Replay, Millrace-Token, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
ACCEPTED = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Millrace-App-Version, "
    "Millrace-Country, Millrace-Platform, Millrace-Token, X-API-Key, X-Request-Id"
)
PREFLIGHT_SECONDS = 600
TOKEN_COOKIE_SECONDS = 3600


def safety(config: DoorConfig) -> dict[str, str]:
    """Return the headers that keep a browser from being used against its member."""
    found = {
        "content-security-policy": POLICY,
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    if behind_https(config):
        found["strict-transport-security"] = "max-age=31536000; includeSubDomains"
    return found


def behind_https(config: DoorConfig) -> bool:
    """Whether members reach us by https; then cookies say so too."""
    return config.public_url.lower().startswith("https://")


def caching(rule: RouteRule | None, status: int) -> str:
    """Return what a cache may do, where the handler did not say.

    An answer belongs to its caller, so no shared cache may keep it; a problem or a token not even
    a private one.
    """
    safe = rule is not None and not rule.unsafe and status < 400
    return "private, no-cache" if safe else "no-store"


def cross_origin(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """Return what lets a page of an allowed origin read the answer.

    Never with credentials: such a page sends a bearer token, and the session cookie stays ours.
    """
    if not allowed:
        return {}
    found = {"vary": "Origin"}
    if origin is not None and origin in allowed:
        found["access-control-allow-origin"] = origin
        found["access-control-expose-headers"] = EXPOSED
    return found


def preflight(methods: str) -> dict[str, str]:
    """Return what a browser asks before it lets a page of another origin call."""
    return {
        "access-control-allow-methods": methods,
        "access-control-allow-headers": ACCEPTED,
        "access-control-max-age": str(PREFLIGHT_SECONDS),
    }


def request_id_of(headers: Mapping[str, str], made: str) -> str:
    """Return the caller's request id where it is harmless in a log line, else our own."""
    sent = headers.get("x-request-id", "")
    return sent if REQUEST_ID.fullmatch(sent) else made


def token_cookie(name: str, token: str, *, secure: bool) -> str:
    """Return the Set-Cookie that carries a consistency token."""
    tail = "; Secure" if secure else ""
    return f"{name}={token}; Path=/; Max-Age={TOKEN_COOKIE_SECONDS}; HttpOnly; SameSite=Lax{tail}"
