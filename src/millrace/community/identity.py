"""Who is who: tokens issued, checked, revoked.

A token says who somebody is (`member:<key>` or `operator:<name>`). What they may do is read from
the database on every request, so a demotion, a removal and a revocation count at once.
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from millrace.community import validator
from millrace.community.claims import (
    AUDIENCE,
    LEEWAY_SECONDS,
    TOKEN_SECONDS_MAX,
    Claims,
    dated,
    key_id_of,
    refuse,
)
from millrace.community.intake import QUERIES
from millrace.community.provider import IdentityProvider
from millrace.community.signing import ISSUER, KEY_PREFIX, SigningKeys, verifies_at
from millrace.community.types import OFFICES, REASON_MAX, IssuedToken, Key, Role, Viewer, parse_key
from millrace.kernel.clock import Clock
from millrace.kernel.errors import (
    BannedError,
    ConflictError,
    InvalidError,
    NotFoundError,
)
from millrace.kernel.hashing import fingerprint
from millrace.store.router import Router
from millrace.store.session import Session

OPERATOR_TOKEN_SECONDS = 30 * 24 * 3600
OPERATOR_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,58}[a-z0-9])?")
TOKEN_ID_MAX = 64
VERIFIED_MAX = 10_000  # tokens whose signature is not checked again; the oldest are forgotten


class Standing(Struct, frozen=True):
    """What a subject may do now, and since when they may do nothing."""

    role: Role
    ended_at: datetime | None
    banned_at: datetime | None
    banned_reason: str | None


class _TokenStanding(Struct, frozen=True):
    """All that may end a token, or change what its member may do, read at once.

    role: None where there is no such member.
    """

    key_retired_at: datetime | None
    revoked: bool
    role: Role | None
    ended_at: datetime | None
    banned_at: datetime | None
    banned_reason: str | None


class _Verified(Struct, frozen=True):
    """A token whose signature held: its key, and what it says."""

    key_id: str
    raw: Mapping[str, object]
    claims: Claims


class _Ended(Struct, frozen=True):
    """A subject who may do nothing any more."""

    subject: str


class ProviderMember(Struct, frozen=True):
    """The member whom a provider named."""

    community_id: int
    member_id: int


class Identity:
    """Issues and checks tokens. Own ones, and those of one identity provider if there is one."""

    def __init__(
        self, *, router: Router, clock: Clock, provider: IdentityProvider | None = None
    ) -> None:
        self._router = router
        self._clock = clock
        self._provider = provider
        self._keys = SigningKeys(router=router, clock=clock)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def issue(self, subject: str, seconds: int) -> IssuedToken:
        """Return a token for `member:<key>` or `operator:<name>` that holds for `seconds`.

        Raises:
            InvalidError: the subject has another form, or the time is outside its bounds.
            NotFoundError: there is no such subject, or it is removed or disabled.

        Passes on:
            BannedError: the member is banned.
        """
        if not 1 <= seconds <= TOKEN_SECONDS_MAX:
            raise InvalidError(
                f"a token of {seconds} s is outside 1 to {TOKEN_SECONDS_MAX} s",
                field="seconds",
                value=seconds,
                limit=TOKEN_SECONDS_MAX,
                next_step="ask for a shorter time and sign in again when it is over",
            )
        standing = await self._standing(subject)
        if standing is None or standing.ended_at is not None:
            raise NotFoundError(
                f"there is no {subject} who may sign in",
                field="subject",
                value=subject,
                limit="a member who is not removed, an operator who is not disabled",
                next_step="check the name",
            )
        _expect_not_banned(subject, standing)
        now = self._clock.now()
        expires = now + timedelta(seconds=seconds)
        token_id = uuid4().hex
        token = await self._keys.sign(
            {
                "iss": ISSUER,
                "aud": AUDIENCE,
                "sub": subject,
                "role": standing.role.value,
                "iat": int(now.timestamp()),
                "exp": int(expires.timestamp()),
                "jti": token_id,
            }
        )
        return IssuedToken(token=token, token_id=token_id, expires_at=expires)

    async def authenticate(self, bearer: str) -> Viewer:
        """Return who carries this token, with the role that they have now.

        Passes on:
            UnauthenticatedError: the token does not hold; the message names the reason.
        """
        known = self._verified.get(_print_of(bearer))
        viewer = None if known is None else await self._viewer_again(known)
        if viewer is not None:
            return viewer
        claims = await self._claims(bearer)
        async with self._router.read() as session:
            reason = await session.value(QUERIES["revocation"], token_id=claims.jti)
            standing = await _standing(session, claims.sub)
        if reason is not None:
            refuse("the token was revoked")
        return _viewer(claims.sub, standing)

    async def _viewer_again(self, known: _Verified) -> Viewer | None:
        """Return who carries a token whose signature held before; None where its key is gone.

        A signature does not change; everything that may change is read, in one round trip.
        """
        now, claims = self._clock.now(), known.claims
        if not claims.sub.startswith("member:"):
            return None
        key = parse_key(claims.sub.removeprefix("member:"), "subject")
        async with self._router.read() as session:
            found = await session.row(
                QUERIES["standing_of_token"],
                _TokenStanding,
                key_id=known.key_id,
                token_id=claims.jti,
                community_id=key.community_id,
                member_id=key.id,
            )
        if found is None or not verifies_at(found.key_retired_at, now):
            return None
        dated(known.raw, now)
        if found.revoked:
            refuse("the token was revoked")
        if found.role is None:
            return _viewer(claims.sub, None)
        standing = Standing(found.role, found.ended_at, found.banned_at, found.banned_reason)
        return _viewer(claims.sub, standing)

    async def ended(self, subjects: Collection[str]) -> frozenset[str]:
        """Return which of some subjects may do nothing any more, in one question for all of them."""
        parts = [subject.partition(":")[::2] for subject in subjects]
        members = [parse_key(name, "subject") for kind, name in parts if kind == "member"]
        async with self._router.read() as session:
            found = await session.rows(
                QUERIES["ended_subjects"],
                _Ended,
                communities=[key.community_id for key in members],
                members=[key.id for key in members],
                operators=[name for kind, name in parts if kind == "operator"],
            )
        return frozenset(one.subject for one in found)

    async def token_id(self, bearer: str) -> str:
        """Return the id of a token that holds, for revoking it: signing out.

        Passes on:
            UnauthenticatedError: the token does not hold.
        """
        return (await self._claims(bearer)).jti

    async def revoke(self, token_id: str, by: str, reason: str, *, subject: str = "") -> None:
        """End a token before its time. Revoking twice, or an unknown id, changes nothing else.

        Passes on:
            InvalidError: a text is too long or cannot be stored.
        """
        now = self._clock.now()
        async with self._router.write() as session:
            await session.run(QUERIES["delete_revocations"], now=now)
            await session.run(
                QUERIES["insert_revocation"],
                token_id=validator.name("token_id", token_id, TOKEN_ID_MAX),
                subject=validator.line("subject", subject, REASON_MAX),
                by=validator.name("by", by, REASON_MAX),
                reason=validator.prose("reason", reason, REASON_MAX),
                now=now,
                # No token lives longer, so after that the row may go.
                expires_at=now + timedelta(seconds=TOKEN_SECONDS_MAX + LEEWAY_SECONDS + 1),
            )

    async def rotate(self, *, forget: bool = False) -> str:
        """Make a new signing key and return its id.

        Tokens of older keys hold until they expire; with `forget`, for a key that leaked, they end
        now and everybody signs in again.
        """
        return await self._keys.rotate(forget=forget)

    async def jwks(self) -> dict[str, object]:
        """Return the public keys that verify own tokens."""
        return await self._keys.jwks()

    async def create_operator(
        self, name: str, role: Role, seconds: int = OPERATOR_TOKEN_SECONDS
    ) -> IssuedToken:
        """Make an account of the installation, and return its first token.

        Raises:
            InvalidError: the name or the role is wrong.
            ConflictError: the name is taken.
        """
        if not OPERATOR_NAME.fullmatch(name):
            raise InvalidError(
                f"operator name {name[:60]!r} is not usable",
                field="name",
                value=name[:60],
                limit="1 to 60 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends",
                next_step="choose another name",
            )
        if role not in OFFICES:
            raise InvalidError(
                f"role {str(role)!r} is not one of an operator",
                field="role",
                value=str(role),
                limit=", ".join(OFFICES),
                next_step="moderators are members: set their role in a member import",
            )
        async with self._router.write() as session:
            made = await session.run(
                QUERIES["insert_operator"], name=name, role=role.value, now=self._clock.now()
            )
        if not made:
            raise ConflictError(
                f"there is an operator {name} already",
                field="name",
                value=name,
                limit="a new name",
                next_step="choose another name, or issue a token to this one",
            )
        return await self.issue(f"operator:{name}", seconds)

    async def disable_operator(self, name: str, by: str, reason: str) -> None:
        """End an operator account: its tokens hold no more. Disabling twice changes nothing.

        Raises:
            NotFoundError: there is no such operator.

        Passes on:
            InvalidError: a text is too long or cannot be stored.
        """
        text = validator.searchable(name)
        async with self._router.write() as session:
            known = await session.row(QUERIES["operator_standing"], Standing, name=text)
            if known is None:
                raise NotFoundError(
                    f"there is no operator {text!r}",
                    field="name",
                    value=text,
                    limit="an existing operator",
                    next_step="check the name",
                )
            await session.run(
                QUERIES["disable_operator"],
                name=text,
                now=self._clock.now(),
                by=validator.name("by", by, REASON_MAX),
                reason=validator.prose("reason", reason, REASON_MAX),
            )

    async def _claims(self, bearer: str) -> Claims:
        """Return the claims of a token whose signature and dates hold."""
        text = bearer.strip()
        if text[:7].lower() == "bearer ":
            text = text[7:].strip()
        key_id = key_id_of(text)
        if key_id.startswith(KEY_PREFIX):
            raw = await self._keys.claims(text, key_id)
            claims = dated(raw, self._clock.now())
            self._verified[_print_of(bearer)] = _Verified(key_id, raw, claims)
            while len(self._verified) > VERIFIED_MAX:
                self._verified.popitem(last=False)
            return claims
        if self._provider is None:
            refuse(f"the token's key {key_id[:60]!r} is not ours")
        return await self._translated(text, key_id, self._provider)

    async def _translated(self, text: str, key_id: str, provider: IdentityProvider) -> Claims:
        """Return the claims of a provider's token in own terms.

        Its `sub` becomes the member with that external id. Its own id is not unique beyond the
        provider, so the token is known by the fingerprint of what is signed: a signature can be written
        in several ways.
        """
        claims = dated(await provider.claims(text, key_id), self._clock.now())
        async with self._router.read() as session:
            found = await session.row(
                QUERIES["member_of_provider"],
                ProviderMember,
                community=provider.community,
                subject=validator.searchable(claims.sub),
            )
        if found is None:
            refuse(f"the identity provider's {claims.sub[:60]!r} is not a member here")
        return replace(
            claims,
            sub=f"member:{Key(found.community_id, found.member_id)}",
            jti=f"provider-{fingerprint(text.rpartition('.')[0].encode())}",
        )

    async def _standing(self, subject: str) -> Standing | None:
        async with self._router.read() as session:
            return await _standing(session, subject)


def _print_of(bearer: str) -> bytes:
    """Return what a token is remembered by; the token itself is not kept."""
    return sha256(bearer.encode(errors="replace")).digest()


async def _standing(session: Session, subject: str) -> Standing | None:
    """Return what the subject may do, or None where there is no such subject.

    Raises:
        InvalidError: the subject has another form.
    """
    kind, _, name = subject.partition(":")
    if kind == "member":
        key = parse_key(name, "subject")
        return await session.row(
            QUERIES["member_standing"],
            Standing,
            community_id=key.community_id,
            member_id=key.id,
        )
    if kind == "operator":
        return await session.row(
            QUERIES["operator_standing"], Standing, name=validator.searchable(name)
        )
    raise InvalidError(
        f"subject {subject[:60]!r} is unknown",
        field="subject",
        value=subject[:60],
        limit="member:<community>-<id> or operator:<name>",
        next_step="name a member or an operator",
    )


def _expect_not_banned(subject: str, standing: Standing) -> None:
    """Refuse a member who is banned, and say why.

    Raises:
        BannedError: names the day and the reason.
    """
    if standing.banned_at is None:
        return
    raise BannedError(
        f"{subject} is banned since {standing.banned_at:%Y-%m-%d}: {standing.banned_reason}",
        field="token",
        value=subject,
        limit="a member who is not banned",
        next_step="ask a moderator of the community",
    )


def _viewer(subject: str, standing: Standing | None) -> Viewer:
    """Return the subject as a viewer.

    Passes on:
        UnauthenticatedError: there is no such subject, or it may do nothing any more.
        BannedError: the member is banned.
    """
    if standing is None:
        refuse(f"{subject} does not exist here")
    if standing.ended_at is not None:
        refuse(f"{subject} was removed or disabled")
    _expect_not_banned(subject, standing)
    kind, _, name = subject.partition(":")
    member = parse_key(name, "subject") if kind == "member" else None
    return Viewer(standing.role, member, subject)
