"""An identity provider: its public keys by JWKS, and what its tokens say."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
from msgspec import Struct

from millrace.community.claims import refuse, verified
from millrace.kernel.clock import Clock
from millrace.kernel.errors import SetupError, UnavailableError

Fetch = Callable[[str], Awaitable[bytes]]
"""Reads a document; bounded in time and size; raises UnavailableError where nothing answers."""

FETCH_SECONDS_MAX = 5.0
DOCUMENT_BYTES_MAX = 256 * 1024
KEYS_MAX = 100
KEYS_SECONDS = 600.0
REFETCH_SECONDS_MIN = 60.0
STALE_SECONDS_MAX = 24 * 3600.0
RSA_BITS_MIN = 2048

ALGORITHMS: dict[str, list[str]] = {
    "RSA": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    "P-256": ["ES256"],
    "P-384": ["ES384"],
    "P-521": ["ES512"],
    "Ed25519": ["EdDSA"],
    "Ed448": ["EdDSA"],
}
"""By key type or curve. Shared secrets (kty `oct`) are not in it: their holder could sign too."""


class ProviderKey(Struct, frozen=True):
    """A public key and the algorithms that belong to it."""

    key: Any
    algorithms: list[str]


class JwksDocument(Struct, frozen=True):
    """A JWKS document, as far as it is read."""

    keys: list[dict[str, Any]]


class IdentityProvider:
    """Checks the tokens of one provider, for the members of one community.

    Keys are kept for KEYS_SECONDS. A key id that is not among them has the document fetched again,
    at most once in REFETCH_SECONDS_MIN, so that made-up key ids cannot make us flood the provider.
    While it does not answer, the keys already fetched hold on for STALE_SECONDS_MAX.
    """

    def __init__(
        self,
        *,
        jwks_url: str,
        issuer: str,
        community: str,
        clock: Clock,
        fetch: Fetch | None = None,
    ) -> None:
        _check_url(jwks_url)
        for name, value in (("issuer", issuer), ("identity_community", community)):
            if not value:
                raise SetupError(
                    f"door.{name} is empty while door.jwks_url is set",
                    field=name,
                    value="",
                    limit="all three of jwks_url, issuer and identity_community, or none",
                    next_step=f"set door.{name}",
                )
        self.community = community
        self._url = jwks_url
        self._issuer = issuer
        self._clock = clock
        self._fetch = fetch or fetched
        self._keys: dict[str, ProviderKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def claims(self, bearer: str, key_id: str) -> Mapping[str, object]:
        """Return the claims of a token that the provider signed; dates are judged by the caller.

        Passes on:
            UnauthenticatedError: the key is not the provider's, or the signature does not hold.
            UnavailableError: the provider does not answer, and no key of it is known.
        """
        key = await self._key(key_id)
        if key is None:
            refuse(f"the token's key {key_id[:60]!r} is not one of the identity provider's")
        return verified(bearer, key.key, key.algorithms, self._issuer)

    async def _key(self, key_id: str) -> ProviderKey | None:
        if key_id in self._keys and self._age() < KEYS_SECONDS:
            return self._keys[key_id]
        async with self._lock:
            known = key_id in self._keys and self._age() < KEYS_SECONDS
            waited = self._clock.monotonic() - self._tried_at >= REFETCH_SECONDS_MIN
            if not known and waited:
                await self._refetch()
            if self._age() >= STALE_SECONDS_MAX:
                raise UnavailableError(
                    "the identity provider does not answer",
                    field="jwks_url",
                    value=self._url,
                    next_step="try again in a minute; check door.jwks_url if it persists",
                )
            return self._keys.get(key_id)

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched_at

    async def _refetch(self) -> None:
        """Fetch the keys. While that fails, those of before go on for their time."""
        self._tried_at = self._clock.monotonic()
        try:
            self._keys = keys_of(await self._fetch(self._url))
        except UnavailableError:
            return
        self._fetched_at = self._tried_at


async def fetched(url: str, seconds_max: float = FETCH_SECONDS_MAX) -> bytes:
    """Read a document, at most DOCUMENT_BYTES_MAX in `seconds_max`; redirects are not followed.

    Raises:
        UnavailableError: it does not come, or is too long.
    """
    try:
        async with (
            asyncio.timeout(seconds_max),
            httpx.AsyncClient() as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > DOCUMENT_BYTES_MAX:
                    raise UnavailableError(
                        f"the document at {url} is longer than {DOCUMENT_BYTES_MAX} bytes"
                    )
            return bytes(content)
    except (httpx.HTTPError, TimeoutError) as exc:
        raise UnavailableError(f"{url} does not answer: {exc}") from exc


def keys_of(document: bytes) -> dict[str, ProviderKey]:
    """Return the usable keys of a JWKS document by key id.

    A key without an id, for encryption, of an unknown type, a shared secret or a weak one is left
    out: a token that names it is refused.

    Raises:
        UnavailableError: this is no JWKS document.
    """
    try:
        described = msgspec.json.decode(document, type=JwksDocument).keys[:KEYS_MAX]
    except (msgspec.DecodeError, RecursionError) as exc:
        raise UnavailableError(f"the identity provider sent no JWKS document: {exc}") from exc
    found = ((one.get("kid"), _usable(one)) for one in described)
    return {kid: key for kid, key in found if isinstance(kid, str) and kid and key is not None}


def _usable(described: dict[str, Any]) -> ProviderKey | None:
    kind = described.get("kty")
    family = ALGORITHMS.get(str(kind if kind == "RSA" else described.get("crv")))
    if family is None or described.get("use", "sig") != "sig" or "d" in described:
        return None
    named = described.get("alg")
    algorithms = family if named is None else [one for one in family if one == named]
    try:
        key: Any = jwt.PyJWK(described, algorithm=family[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if not algorithms or (kind == "RSA" and key.key_size < RSA_BITS_MIN):
        return None
    return ProviderKey(key, algorithms)


def _check_url(url: str) -> None:
    """Refuse an address that anybody on the way could answer.

    Raises:
        SetupError: it is neither https nor this machine.
    """
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "https" or (parts.scheme == "http" and local):
        return
    raise SetupError(
        f"door.jwks_url {url[:80]!r} is not safe",
        field="jwks_url",
        value=url[:80],
        limit="https, or http on this machine",
        next_step="give the https address of the provider's JWKS document",
    )
