"""What a token says, once its signature and its dates hold."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jwt
import msgspec
from msgspec import Struct

from millrace.kernel.errors import UnauthenticatedError

AUDIENCE = "millrace"
BEARER_MAX = 8_192
LEEWAY_SECONDS = 10.0
TOKEN_SECONDS_MAX = 90 * 24 * 3600


class Claims(Struct, frozen=True):
    """The claims that are used; everything else in a token is ignored.

    exp, iat, nbf: seconds since 1970.
    jti: what a revocation names.
    """

    sub: str
    exp: float
    iat: float
    jti: str = ""
    nbf: float = 0.0


def refuse(reason: str) -> NoReturn:
    """Refuse a token.

    Raises:
        UnauthenticatedError: always; with the reason.
    """
    raise UnauthenticatedError(
        reason, field="token", limit="a token that holds", next_step="sign in again"
    )


def key_id_of(bearer: str) -> str:
    """Return which key a token says it was signed with.

    Raises:
        UnauthenticatedError: it is no token, too long, or names no key.
    """
    if not bearer:
        refuse("there is no token")
    if len(bearer) > BEARER_MAX:
        refuse(f"the token has {len(bearer):,} characters, {BEARER_MAX:,} are allowed")
    if not bearer.isascii():
        refuse("the token has letters that no token has")
    try:
        header: dict[str, Any] = jwt.get_unverified_header(bearer)
    except jwt.PyJWTError as exc:
        raise UnauthenticatedError(
            "this is not a signed token", field="token", next_step="sign in again"
        ) from exc
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not key_id or not key_id.isprintable():
        refuse("the token does not name its key (kid)")
    return key_id


def verified(
    bearer: str,
    key: Any,
    algorithms: Sequence[str],
    issuer: str,
) -> Mapping[str, object]:
    """Return the claims of a token whose signature, audience and issuer hold.

    The algorithm must be one of those that belong to the key, never what the token asks for: so a
    public key can not be used as a shared secret, and `none` is nothing. Dates are judged by
    `dated`, which is given the clock.

    Raises:
        UnauthenticatedError: something does not hold; names it.
    """
    try:
        return jwt.decode(
            bearer,
            key,
            algorithms=list(algorithms),
            audience=AUDIENCE,
            issuer=issuer,
            options={
                "require": ["sub", "exp", "iat", "aud", "iss"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.PyJWTError as exc:
        raise UnauthenticatedError(
            f"the token does not hold: {exc}", field="token", next_step="sign in again"
        ) from exc


def dated(raw: Mapping[str, object], now: datetime) -> Claims:
    """Return the claims of a token that is alive now.

    Raises:
        UnauthenticatedError: it has expired, is not valid yet, lives too long, or is malformed.
    """
    try:
        claims = msgspec.convert(dict(raw), Claims)
    except msgspec.ValidationError as exc:
        raise UnauthenticatedError(
            f"the token is malformed: {exc}", field="token", next_step="sign in again"
        ) from exc
    seconds = now.timestamp()
    # Written so that a NaN is refused too.
    if not seconds < claims.exp + LEEWAY_SECONDS:
        refuse("the token has expired")
    if not claims.exp <= seconds + TOKEN_SECONDS_MAX + LEEWAY_SECONDS:
        refuse(f"the token lives longer than {TOKEN_SECONDS_MAX} s")
    if not max(claims.iat, claims.nbf) <= seconds + LEEWAY_SECONDS:
        refuse("the token is not valid yet")
    return claims
