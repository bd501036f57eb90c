"""Admissions: what a browser's EventSource shows instead of a token, since it can send no header.

An admission opens the stream that says "flags have changed", and nothing else. It is the same for hours,
so that a client which asks again is not told another address and does not connect anew.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from urllib.parse import parse_qs

from millrace.community.types import Key, Role, Viewer, parse_key
from millrace.kernel.errors import UnauthenticatedError

PARAMETER = "admission"
STEP_SECONDS = 6 * 3600
CHARACTERS_MAX = 400
SIGNATURE_BYTES = 16


def admission_for(secret: bytes, name: str, now: datetime) -> str:
    """Return an admission of somebody, which holds for 6 to 12 hours."""
    until = (int(now.timestamp()) // STEP_SECONDS + 2) * STEP_SECONDS
    said = f"{until}.{name}".encode()
    return urlsafe_b64encode(_signature(secret, said) + said).decode().rstrip("=")


def viewer_of(secret: bytes, query: bytes, now: datetime) -> Viewer | None:
    """Return whom the admission in a query names, None where there is none.

    They are nobody but a name: no member, no role.

    Raises:
        UnauthenticatedError: the admission is not ours, or over.
    """
    sent = parse_qs(query.decode("latin-1")).get(PARAMETER, [""])[0]
    if not sent:
        return None
    try:
        whole = urlsafe_b64decode(sent[:CHARACTERS_MAX] + "=" * (-len(sent) % 4))
    except ValueError:
        whole = b""
    signature, said = whole[:SIGNATURE_BYTES], whole[SIGNATURE_BYTES:]
    until, _, name = said.decode("utf-8", "replace").partition(".")
    good = hmac.compare_digest(signature, _signature(secret, said))
    if not good or int(until) <= now.timestamp():
        raise UnauthenticatedError(
            "the admission does not hold",
            field=PARAMETER,
            limit="an admission of the last bulk evaluation",
            next_step="evaluate all flags again, and use the address that eventStreams has then",
        )
    return Viewer(Role.MEMBER, None, name)


def member_of(viewer: Viewer) -> Key | None:
    """Return the member who asks, also where an admission only names them; None for anybody else."""
    kind, _, name = viewer.name.partition(":")
    return parse_key(name) if kind == "member" else viewer.member


def _signature(secret: bytes, said: bytes) -> bytes:
    return hmac.new(secret, b"admission.1\0" + said, hashlib.sha256).digest()[:SIGNATURE_BYTES]
