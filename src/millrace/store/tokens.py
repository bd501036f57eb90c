"""Session tokens: what a member carries to read their own writes.

Format v1, frozen: `1.<cluster>.<timeline>.<lsn in hex>.<first 16 bytes of HMAC-SHA256 in hex>`.
The signature keeps anybody from sending a position of their own making, which would pin reads to
the primary.
"""

import hashlib
import hmac

from millrace.store.types import Position

FORMAT = "1"
LENGTH_MAX = 120


def _signature(secret: bytes, body: str) -> str:
    return hmac.new(secret, body.encode(), hashlib.sha256).hexdigest()[:32]


def sign(position: Position, secret: bytes) -> str:
    """Return the token that proves `position` was handed out by us."""
    body = f"{FORMAT}.{position.cluster}.{position.timeline}.{position.lsn:x}"
    return f"{body}.{_signature(secret, body)}"


def verify(token: str, secret: bytes) -> Position | None:
    """Return the position of a token, or None where it is not one of ours.

    A bad token is no error: the reader only loses the promise that it never had.
    """
    if len(token) > LENGTH_MAX:
        return None
    body, _, signature = token.rpartition(".")
    if not hmac.compare_digest(_signature(secret, body).encode(), signature.encode()):
        return None
    try:
        form, cluster, timeline, lsn = body.split(".")
        return Position(cluster, int(timeline), int(lsn, 16)) if form == FORMAT else None
    except ValueError:
        return None
