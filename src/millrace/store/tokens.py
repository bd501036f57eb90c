"""Session tokens: what a member carries to read their own writes.

Format v1, frozen: `1.<cluster>.<timeline>.<lsn in hex>.<first 16 bytes of HMAC-SHA256 in hex>`.
The signature keeps anybody from sending a position of their own making, which would pin reads to
the primary.
"""

import hashlib
import hmac
import re

from millrace.store.types import Position

FORMAT = "1"
# Exactly what `sign` writes, so that one position has one token and no text can raise.
TOKEN = re.compile(
    r"(?P<body>1\.(?P<cluster>[0-9]{1,20})\.(?P<timeline>[1-9][0-9]{0,9})\.(?P<lsn>0|[1-9a-f][0-9a-f]{0,15}))"
    r"\.(?P<signature>[0-9a-f]{32})"
)


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
    found = TOKEN.fullmatch(token)
    if found is None:
        return None
    if not hmac.compare_digest(_signature(secret, found["body"]), found["signature"]):
        return None
    return Position(found["cluster"], int(found["timeline"]), int(found["lsn"], 16))
