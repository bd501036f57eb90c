"""Who is asking, and whether the door lets them through.

The proof is a bearer token or a session cookie. A cookie is sent by the browser whether or not
the member meant it, so a cookie with an unsafe method also needs a page of our own origin.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

import msgspec

from millrace.api.errors import OriginError
from millrace.api.inventory import RouteRule, Scope
from millrace.community.types import Role, Viewer
from millrace.kernel.errors import ForbiddenError, UnauthenticatedError

SESSION_COOKIE = "millrace_session"
TOKEN_COOKIE = "millrace_token"  # noqa: S105  the name of a cookie, not a secret
TOKEN_HEADER = "millrace-token"  # noqa: S105  the name of a header
API_KEY_HEADER = "x-api-key"
BEARER_CHARACTERS_MAX = 8192
ADDRESS_CHARACTERS_MAX = 64
IPV6_PREFIX = 64
HOLDERS: dict[Scope, frozenset[Role]] = {
    Scope.PERSON: frozenset(Role) - {Role.FLAG_READER},
    Scope.MEMBER: frozenset({Role.MEMBER, Role.MODERATOR, Role.OPERATOR}),
    Scope.MODERATOR: frozenset({Role.MODERATOR, Role.OPERATOR}),
    Scope.OPERATOR: frozenset({Role.OPERATOR}),
    Scope.RELEASE_MANAGER: frozenset({Role.RELEASE_MANAGER, Role.OPERATOR}),
    Scope.FLAG_READER: frozenset({Role.FLAG_READER, Role.RELEASE_MANAGER, Role.OPERATOR}),
    Scope.LOCAL: frozenset({Role.OPERATOR}),
}
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Authenticates(Protocol):
    """What checks a token: the identity of the community room, or a fake."""

    async def authenticate(self, bearer: str) -> Viewer:
        """Return who the token says is asking, or raise UnauthenticatedError."""
        ...


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and how we know.

    viewer: None for somebody unknown.
    by_cookie: whether the proof was a cookie.
    address: where the request came from, behind trusted proxies.
    direct: whether it came straight from this machine, through no proxy.
    """

    viewer: Viewer | None
    by_cookie: bool
    address: str
    direct: bool

    @property
    def name(self) -> str:
        """Return what rates, keys and logs call the caller."""
        return self.viewer.name if self.viewer else f"address:{network_of(self.address)}"


def network_of(address: str) -> str:
    """Return what one subscriber has: an IPv4 address, or the /64 of an IPv6 address.

    Whoever has one IPv6 address has 2**64 of them, and each would have a rate of its own.
    """
    try:
        found = ip_address(address)
    except ValueError:  # what a proxy wrote; never long, since it is kept
        return address[:ADDRESS_CHARACTERS_MAX]
    if found.version == 4 or found.ipv4_mapped:
        return str(found if found.version == 4 else found.ipv4_mapped)
    return str(ip_network((int(found), IPV6_PREFIX), strict=False))


def cookies_of(header: str) -> dict[str, str]:
    """Read a Cookie header; the first of two cookies with one name counts."""
    found: dict[str, str] = {}
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            found.setdefault(name, value.strip('"'))
    return found


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """Return the bearer token, or None where the request has no Authorization header.

    Raises:
        UnauthenticatedError: the header has another form, or is too long.
    """
    held = headers.get("authorization")
    if held is None:
        return None
    scheme, _, token = held.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError(
            "the Authorization header holds no bearer token",
            field="Authorization",
            limit="Bearer <token>",
            next_step="send a token that the API issued",
        )
    if len(token) > BEARER_CHARACTERS_MAX:
        raise UnauthenticatedError(
            f"the bearer token has {len(token)} characters",
            field="Authorization",
            limit=BEARER_CHARACTERS_MAX,
            next_step="send a token that the API issued",
        )
    return token.strip()


def with_api_key(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers with an X-API-Key told as a bearer token, where there is no other proof.

    The same tokens in another header: some clients of OFREP can set only that one.
    """
    key = headers.get(API_KEY_HEADER, "").strip()
    if not key or "authorization" in headers:
        return headers
    return {**headers, "authorization": f"Bearer {key}"}


def token_of(headers: Mapping[str, str]) -> str | None:
    """Return the token that a request carries as its proof, from the header or the cookie."""
    return bearer_of(headers) or cookies_of(headers.get("cookie", "")).get(SESSION_COOKIE)


async def viewer_of(
    headers: Mapping[str, str], identity: Authenticates, *, lenient: bool
) -> tuple[Viewer | None, bool]:
    """Return who asks, and whether a cookie said so.

    Args:
        headers: the request's headers, by lower-case name.
        identity: what checks tokens.
        lenient: treat a stale token as none; a page then shows the sign-in.

    Raises:
        UnauthenticatedError: a token was sent and does not hold.
    """
    cookies = cookies_of(headers.get("cookie", ""))
    by_cookie = "authorization" not in headers
    token = token_of(headers)
    if not token:
        return None, False
    try:
        viewer = await identity.authenticate(token)
    except UnauthenticatedError:
        if lenient:
            return None, False
        raise
    position = headers.get(TOKEN_HEADER) or cookies.get(TOKEN_COOKIE, "")
    return msgspec.structs.replace(viewer, token=position), by_cookie


def require_own_origin(headers: Mapping[str, str], public_url: str) -> None:
    """Refuse an unsafe request that a page of another origin made.

    Browsers send Sec-Fetch-Site, and Origin with every unsafe method; the absence of both is no
    proof of anything, so it is refused.

    A request from elsewhere, or one that does not say from where, is an OriginError.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in {"same-origin", "none"}:
        _refuse_origin("Sec-Fetch-Site", site, "same-origin")
    # No name is not our name: a public address without a scheme must not let `null` in.
    own = {headers.get("host", "").lower(), _place(public_url)} - {""}
    if origin is None and site is None:
        _refuse_origin("Origin", "", "this server's own origin")
    if origin is not None and _place(origin) not in own:
        _refuse_origin("Origin", origin, "this server's own origin")


def _place(address: str) -> str:
    """Return host and port of an address; empty for one that names none, such as `null`."""
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:  # for example an unfinished IPv6 host
        return ""


def require_own_name(headers: Mapping[str, str], public_url: str) -> None:
    """Refuse a request that reached a demonstration under a stranger's name.

    A page elsewhere can let its own name point at this machine, and is then of our origin for the
    browser. In a demonstration a click is enough to sign in, so only names that nobody else can
    give count: an address in numbers, localhost, and the public one. Others are an OriginError.
    """
    host = _host(headers)
    own = urlsplit(public_url).hostname if public_url else "localhost"
    if host not in {"", "localhost", own} and not _is_address(host):
        _refuse_origin("Host", host, f"an address in numbers, or {own}")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_origin(field: str, value: str, limit: str) -> NoReturn:
    """Refuse the request.

    Raises:
        OriginError: names the header and its value.
    """
    raise OriginError(
        f"{field} {value[:80]!r} is not this server's own",
        field=field,
        value=value[:80],
        limit=limit,
        next_step="act from a page of this server, or send a bearer token instead of the cookie",
    )


def permit(rule: RouteRule, caller: Caller, path_params: Mapping[str, str]) -> None:
    """Let a caller through a route, or not.

    Raises:
        UnauthenticatedError: the route needs somebody known.
        ForbiddenError: the caller is known, and the route is for others.
    """
    scope, viewer = rule.scope, caller.viewer
    if scope is Scope.PUBLIC or (scope is Scope.LOCAL and caller.direct):
        return
    if viewer is None:
        raise UnauthenticatedError(
            "this route needs to know who is asking",
            field="Authorization",
            limit=str(scope),
            next_step="send a bearer token, or sign in",
        )
    if not _holds(scope, viewer, path_params):
        raise ForbiddenError(
            f"{_a(viewer.role)} may not do this; you ask as {viewer.name}",
            value=str(viewer.role),
            limit=_asked(scope),
            next_step=f"sign in as, or use the token of, {_holders(scope)}",
        )


SAID: dict[Scope, str] = {
    Scope.SELF: "the member of the path, or an operator",
    Scope.OWN: "the member of the path",
    Scope.AUTHOR: "a member, who acts as themself",
    Scope.PERSON: "anybody but a flag reader, which is a program",
    Scope.FLAG_READER: "a flag reader, a release manager or an operator",
}


def _asked(scope: Scope) -> str:
    return SAID.get(scope, f"scope {scope}")


def _holders(scope: Scope) -> str:
    """Say who has a scope."""
    return SAID.get(scope) or " or ".join(_a(role) for role in Role if role in HOLDERS[scope])


def _a(role: Role) -> str:
    words = role.replace("_", " ")
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _holds(scope: Scope, viewer: Viewer, path_params: Mapping[str, str]) -> bool:
    """Return whether a known viewer has a scope."""
    match scope:
        case Scope.PUBLIC | Scope.KNOWN:
            return True
        case Scope.OWN:
            return _is_self(viewer, path_params)
        case Scope.AUTHOR:
            return viewer.member is not None
        case Scope.SELF:
            return viewer.role is Role.OPERATOR or _is_self(viewer, path_params)
        case _:
            return viewer.role in HOLDERS[scope]


def _is_self(viewer: Viewer, path_params: Mapping[str, str]) -> bool:
    return viewer.member is not None and path_params.get("member_id") == str(viewer.member)


def address_of(peer: str, headers: Mapping[str, str], proxies: int) -> tuple[str, bool]:
    """Return where a request came from, and whether it came directly from this machine.

    Every trusted proxy appends the address that it saw to X-Forwarded-For, so the caller's is the
    `proxies`-th from the right. What stands further left is only a claim. A request with fewer
    addresses came round a proxy, so its peer is all that is known.
    """
    forwarded = headers.get("x-forwarded-for")
    if proxies == 0:
        plain = forwarded is None and "forwarded" not in headers
        return peer, plain and peer in LOOPBACK and _host(headers) in LOOPBACK
    hops = [part.strip() for part in (forwarded or "").split(",") if part.strip()]
    return (hops[-proxies] if len(hops) >= proxies else peer), False


def _host(headers: Mapping[str, str]) -> str:
    """Return the host that was asked for. Another name for this machine is somebody's trick."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""
