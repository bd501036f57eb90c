"""Own signing keys, rotated: the newest signs, older ones verify until their last token expired.

The private keys lie in the database, where every process of the installation finds them. Whoever
reads the database can sign: guard its backups as you guard the installation.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from msgspec import Struct

from millrace.community.claims import TOKEN_SECONDS_MAX, verified
from millrace.community.intake import QUERIES
from millrace.kernel.clock import Clock
from millrace.kernel.errors import UnauthenticatedError
from millrace.kernel.hashing import fingerprint
from millrace.store.router import Router
from millrace.store.session import Session

ALGORITHM = "EdDSA"
ISSUER = "millrace"
KEY_PREFIX = "millrace-"


class SigningKey(Struct, frozen=True):
    """One pair of keys."""

    key_id: str
    private_pem: str
    public_pem: str
    created_at: datetime
    retired_at: datetime | None

    def verifies_at(self, now: datetime) -> bool:
        """Return whether a token of this key may still be alive."""
        return verifies_at(self.retired_at, now)


def verifies_at(retired_at: datetime | None, now: datetime) -> bool:
    """Return whether a token may still be alive whose key was retired then, or never."""
    return retired_at is None or now < retired_at + timedelta(seconds=TOKEN_SECONDS_MAX)


class SigningKeys:
    """Makes, rotates and finds the keys."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    async def sign(self, claims: dict[str, object]) -> str:
        """Return the signed token of these claims; makes the first key where there is none."""
        key = await self._newest()
        return jwt.encode(claims, key.private_pem, algorithm=ALGORITHM, headers={"kid": key.key_id})

    async def claims(self, bearer: str, key_id: str) -> Mapping[str, object]:
        """Return the claims of a token that one of the own keys signed.

        Dates are not judged here, only the signature, its algorithm and who it is for.

        Raises:
            UnauthenticatedError: the key is unknown or too old, or the signature does not hold.
        """
        async with self._router.read() as session:
            key = await session.row(QUERIES["signing_key"], SigningKey, key_id=key_id)
        if key is None or not key.verifies_at(self._clock.now()):
            raise UnauthenticatedError(
                f"the token's key {key_id[:60]!r} is not, or no longer, ours",
                field="kid",
                value=key_id[:60],
                next_step="sign in again",
            )
        return verified(bearer, _public(key), [ALGORITHM], ISSUER)

    async def rotate(self, *, forget: bool = False) -> str:
        """Make a new key that signs from now on; return its id.

        Tokens of the older keys hold until they expire; with `forget` the older keys are deleted.
        Keys whose last token has expired are deleted in any case.
        """
        now = self._clock.now()
        async with self._router.write() as session:
            await session.value(QUERIES["lock_signing_keys"])
            await session.run(QUERIES["retire_signing_keys"], now=now)
            await session.run(
                QUERIES["delete_signing_keys"],
                retired_before=now - timedelta(seconds=0 if forget else TOKEN_SECONDS_MAX),
            )
            made = await self._make(session)
        return made.key_id

    async def jwks(self) -> dict[str, object]:
        """Return the public keys that verify tokens now, as a JWKS document."""
        now = self._clock.now()
        async with self._router.read() as session:
            keys = await session.rows(QUERIES["signing_keys"], SigningKey)
        return {"keys": [_jwk(key) for key in keys if key.verifies_at(now)]}

    async def _newest(self) -> SigningKey:
        async with self._router.read() as session:
            found = await session.row(QUERIES["newest_signing_key"], SigningKey)
        if found is not None:
            return found
        async with self._router.write() as session:
            await session.value(QUERIES["lock_signing_keys"])
            found = await session.row(QUERIES["newest_signing_key"], SigningKey)
            return found or await self._make(session)

    async def _make(self, session: Session) -> SigningKey:
        private = Ed25519PrivateKey.generate()
        public_pem = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private_pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        key = SigningKey(
            key_id=KEY_PREFIX + fingerprint(public_pem),
            private_pem=private_pem.decode(),
            public_pem=public_pem.decode(),
            created_at=self._clock.now(),
            retired_at=None,
        )
        await session.run(
            QUERIES["insert_signing_key"],
            key_id=key.key_id,
            algorithm=ALGORITHM,
            private_pem=key.private_pem,
            public_pem=key.public_pem,
            created_at=key.created_at,
        )
        return key


def _public(key: SigningKey) -> Ed25519PublicKey:
    public = serialization.load_pem_public_key(key.public_pem.encode())
    assert isinstance(public, Ed25519PublicKey), f"signing key {key.key_id} is not Ed25519"
    return public


def _jwk(key: SigningKey) -> dict[str, object]:
    described = OKPAlgorithm.to_jwk(_public(key), as_dict=True)
    return {**described, "kid": key.key_id, "use": "sig", "alg": ALGORITHM}
