"""The cookies of a session."""

import base64
import binascii

import msgspec
from msgspec import Struct

SESSION_COOKIE = "millrace_session"
DEMO_COOKIE = "millrace_demo"
"""Says that the sign-in page made the session's token, so that signing out revokes it."""


class Claims(Struct):
    """The one claim that is read here; `identity` has verified the token already."""

    jti: str = ""


def token_id_of(token: str) -> str:
    """Return the id that a JSON web token carries, or nothing where there is none to read."""
    parts = token.split(".")
    if len(parts) != 3:
        return ""
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=Claims).jti
    except (binascii.Error, msgspec.DecodeError, UnicodeError):
        return ""
