"""Goal: a token that holds names who asks with the role of this moment; any other is refused."""

import asyncio
import base64
import hmac
import json
from datetime import timedelta

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm

from millrace.community.claims import BEARER_MAX, TOKEN_SECONDS_MAX
from millrace.community.identity import Identity
from millrace.community.provider import IdentityProvider
from millrace.community.testing import NOON, OPERATOR, FakeProvider, Rooms
from millrace.community.types import MemberDraft, Role
from millrace.kernel.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    SetupError,
    UnauthenticatedError,
    UnavailableError,
)

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

pytestmark = pytest.mark.services
ISSUER = "https://id.example.org"


@pytest.fixture
async def rooms(router):
    return Rooms(router)


@pytest.fixture
async def ann(rooms):
    return (await rooms.people(await rooms.community("home"), "ann"))[0]


@pytest.fixture
async def identity(rooms):
    return Identity(router=rooms.router, clock=rooms.clock)


def parts(token):
    """Return header and claims of a token, unverified."""
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]


def joined(header, claims, signature=b"x"):
    """Return a token made by hand."""
    raw = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in raw)


async def test_a_token_names_its_member(identity, ann):
    """What is issued authenticates, with or without the scheme in front, until it expires."""
    issued = await identity.issue(ann.name, 600)
    header, claims = parts(issued.token)

    assert await identity.authenticate(issued.token) == ann
    assert await identity.authenticate(f"Bearer {issued.token}") == ann
    assert await identity.token_id(issued.token) == issued.token_id
    assert issued.expires_at == NOON + timedelta(seconds=600)
    assert (header["alg"], claims["aud"], claims["sub"], claims["role"]) == (
        "EdDSA",
        "millrace",
        ann.name,
        "member",
    )


async def test_expiry_has_a_small_leeway(identity, rooms, ann):
    """A token holds ten seconds longer than it says, for clocks that differ, and not eleven."""
    issued = await identity.issue(ann.name, 60)
    rooms.clock.move(69)
    assert await identity.authenticate(issued.token) == ann
    rooms.clock.move(2)
    with pytest.raises(UnauthenticatedError, match="the token has expired"):
        await identity.authenticate(issued.token)


async def test_a_demotion_and_a_removal_count_at_once(identity, rooms, ann):
    """The role in a token is for show: the database decides on each request."""
    home = ann.member.community_id
    issued = await identity.issue(ann.name, 600)
    draft = MemberDraft(external_id="ann", display_name="Ann", role=Role.MODERATOR)
    await rooms.members.upsert(OPERATOR, home, [draft])
    assert (await identity.authenticate(issued.token)).role is Role.MODERATOR
    await rooms.people(home, "ann")
    assert (await identity.authenticate(issued.token)).role is Role.MEMBER
    await rooms.members.remove(OPERATOR, ann.member, "left")
    with pytest.raises(UnauthenticatedError, match="was removed or disabled"):
        await identity.authenticate(issued.token)
    with pytest.raises(NotFoundError, match="who may sign in"):
        await identity.issue(ann.name, 600)


async def test_operators(identity):
    """An operator gets a token once, and loses it with the account."""
    issued = await identity.create_operator("ola", Role.OPERATOR)
    viewer = await identity.authenticate(issued.token)
    manager = await identity.create_operator("rob", Role.RELEASE_MANAGER)
    assert (viewer.role, viewer.member, viewer.name, viewer.oversees) == (
        Role.OPERATOR,
        None,
        "operator:ola",
        True,
    )
    assert not (await identity.authenticate(manager.token)).oversees
    with pytest.raises(ConflictError, match="there is an operator ola already"):
        await identity.create_operator("ola", Role.OPERATOR)
    for name, role in (
        ("Ola!", Role.OPERATOR),
        ("", Role.OPERATOR),
        ("x" * 61, Role.OPERATOR),
        ("mo", Role.MODERATOR),
    ):
        with pytest.raises(InvalidError):
            await identity.create_operator(name, role)
    await identity.disable_operator("ola", "operator:rob", "left")
    await identity.disable_operator("ola", "operator:rob", "left")
    with pytest.raises(UnauthenticatedError, match="operator:ola was removed or disabled"):
        await identity.authenticate(issued.token)
    with pytest.raises(NotFoundError, match="there is no operator 'nobody'"):
        await identity.disable_operator("nobody", "x", "y")


async def test_revocation(identity, rooms, ann, conninfo):
    """A revoked token holds no more; others do; old revocations are dropped with their tokens."""
    one, two = await identity.issue(ann.name, 600), await identity.issue(ann.name, 600)
    await identity.revoke(one.token_id, "operator:ola", "stolen")
    await identity.revoke(one.token_id, "operator:ola", "stolen")
    with pytest.raises(UnauthenticatedError, match="the token was revoked"):
        await identity.authenticate(one.token)
    assert await identity.authenticate(two.token) == ann
    rooms.clock.move(TOKEN_SECONDS_MAX + 60)
    await identity.revoke(two.token_id, "operator:ola", "")
    with psycopg.connect(conninfo) as db:
        left = db.execute("select token_id, revoked_by from revoked_token").fetchall()

    assert left == [(two.token_id, "operator:ola")]


async def test_rotation(identity, rooms, ann):
    """The new key signs, the old one verifies until its last token is over; then it is gone."""
    before = await identity.issue(ann.name, TOKEN_SECONDS_MAX)
    rooms.clock.move(60)
    new = await identity.rotate()
    after = await identity.issue(ann.name, 600)
    published = await identity.jwks()

    assert parts(after.token)[0]["kid"] == new != parts(before.token)[0]["kid"]
    assert await identity.authenticate(before.token) == ann
    assert await identity.authenticate(after.token) == ann
    assert len(published["keys"]) == 2
    assert all(set(key) == {"kty", "crv", "x", "kid", "use", "alg"} for key in published["keys"])
    rooms.clock.move(TOKEN_SECONDS_MAX)
    assert len((await identity.jwks())["keys"]) == 1
    with pytest.raises(UnauthenticatedError, match="is not, or no longer, ours"):
        await identity.authenticate(before.token)


async def test_a_key_that_leaked_is_forgotten(identity, ann):
    """Rotating with forget ends every token at once."""
    issued = await identity.issue(ann.name, 600)
    await identity.rotate(forget=True)
    with pytest.raises(UnauthenticatedError, match="no longer, ours"):
        await identity.authenticate(issued.token)


async def test_tampering(identity, ann):
    """Whatever is changed in a token, it does not hold any more."""
    issued = await identity.issue(ann.name, 600)
    header, claims = parts(issued.token)
    head, body, signature = issued.token.split(".")
    other = joined(header, claims | {"sub": "operator:root"}).split(".")[1]
    public = jwt.PyJWK((await identity.jwks())["keys"][0]).key.public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    body_head = {"alg": "HS256", "kid": header["kid"]}
    unsigned = joined(body_head, claims).rpartition(".")[0]
    confused = joined(body_head, claims, hmac.new(public, unsigned.encode(), "sha256").digest())
    stranger = jwt.encode(
        claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": header["kid"]}
    )
    for token in (
        "", " ", "x", "a.b.c", "\ud800", "ü.ü.ü", "Bearer ", f"{head}.{other}.{signature}",
        f"{head}.{body}.", f"{head}.{body}", joined(header | {"alg": "none"}, claims, b""),
        joined({"alg": "EdDSA"}, claims), joined(header | {"kid": 5}, claims), joined(header | {"kid": "none"}, claims),
        joined(header | {"kid": "millrace-none"}, claims), confused, stranger, issued.token + "x" * BEARER_MAX,
    ):  # fmt: skip
        with pytest.raises(UnauthenticatedError):
            await identity.authenticate(token)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"aud": "other"}, "does not hold"),
        ({"iss": "other"}, "does not hold"),
        ({"sub": 5}, "does not hold"),
        ({"sub": "member:9-9"}, "does not exist"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": float("nan")}, "expired"),
        ({"exp": float("inf")}, "lives longer"),
        ({"exp": (NOON + timedelta(days=400)).timestamp()}, "lives longer"),
        ({"iat": (NOON + timedelta(seconds=30)).timestamp()}, "not valid yet"),
        ({"nbf": (NOON + timedelta(seconds=30)).timestamp()}, "not valid yet"),
    ],
)
async def test_claims_that_do_not_hold(identity, ann, conninfo, change, reason):
    """Even a good signature does not save a token with wrong claims."""
    issued = await identity.issue(ann.name, 600)
    header, claims = parts(issued.token)
    with psycopg.connect(conninfo) as db:
        (pem,) = db.execute("select private_pem from signing_key").fetchone()
    signed = jwt.api_jws.encode(
        json.dumps(claims | change).encode(), pem, algorithm="EdDSA", headers={"kid": header["kid"]}
    )
    with pytest.raises(UnauthenticatedError, match=reason):
        await identity.authenticate(signed)


@pytest.mark.parametrize(
    ("subject", "seconds", "error"),
    [
        ("member:1-2", 60, NotFoundError), ("operator:none", 60, NotFoundError), ("member:x", 60, InvalidError),
        ("robot:x", 60, InvalidError), ("", 60, InvalidError), ("operator:none", 0, InvalidError),
        ("operator:none", TOKEN_SECONDS_MAX + 1, InvalidError), ("operator:a\x00b", 60, NotFoundError),
    ],
)  # fmt: skip
async def test_who_gets_no_token(identity, subject, seconds, error):
    """A token is issued to somebody who exists, for a time that is bounded."""
    with pytest.raises(error):
        await identity.issue(subject, seconds)


# ------------------------------------------------------------------- an identity provider


@pytest.fixture
def fake():
    made = FakeProvider()
    made.rotate("k1")
    return made


@pytest.fixture
def foreign(rooms, fake):
    provider = IdentityProvider(
        jwks_url="https://id.example.org/jwks",
        issuer=ISSUER,
        community="home",
        clock=rooms.clock,
        fetch=fake.fetch,
    )
    return Identity(router=rooms.router, clock=rooms.clock, provider=provider)


def claims(**changes):
    now = NOON.timestamp()
    return {
        "iss": ISSUER,
        "aud": ["millrace", "x"],
        "sub": "ann",
        "iat": now,
        "exp": now + 3600,
    } | changes


async def test_a_provider_names_a_member(foreign, fake, ann):
    """Its `sub` is the external id of a member of the configured community; own tokens hold too."""
    own = await foreign.issue(ann.name, 60)

    assert await foreign.authenticate(fake.token("k1", **claims())) == ann
    assert await foreign.authenticate(fake.token("k1", **claims())) == ann
    assert await foreign.authenticate(own.token) == ann
    assert fake.fetches == 1


async def test_a_providers_token_can_be_revoked(foreign, fake, ann):
    """Signing out ends a provider's token too, though its own id means nothing here."""
    token = fake.token("k1", **claims(jti="same"))
    other = fake.token("k1", **claims(jti="same", iat=NOON.timestamp() - 1))
    await foreign.revoke(await foreign.token_id(token), ann.name, "signed out")
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        await foreign.authenticate(token)
    assert await foreign.authenticate(other) == ann


async def test_a_revoked_token_cannot_be_signed_another_way(rooms, ann):
    """Every ES256 signature (r, s) has a twin (r, n - s), which anybody can write."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)

    async def fetch(_url):
        return json.dumps({"keys": [public | {"kid": "k1"}]}).encode()

    foreign = Identity(
        router=rooms.router,
        clock=rooms.clock,
        provider=IdentityProvider(
            jwks_url="https://id.example.org/jwks",
            issuer=ISSUER,
            community="home",
            clock=rooms.clock,
            fetch=fetch,
        ),
    )
    token = jwt.encode(claims(), key, algorithm="ES256", headers={"kid": "k1"})
    said, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    twin = f"{said}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"
    assert await foreign.authenticate(twin) == ann

    await foreign.revoke(await foreign.token_id(token), ann.name, "signed out")

    for one in (token, twin):
        with pytest.raises(UnauthenticatedError, match="was revoked"):
            await foreign.authenticate(one)


@pytest.mark.parametrize(
    "change",
    [{"sub": "nobody"}, {"sub": "a\x00"}, {"iss": "millrace"}, {"aud": "other"}, {"exp": 0}, {"exp": 1e18},
     {"sub": "member:1-2"}, {"sub": "operator:root"}],
)  # fmt: skip
async def test_a_providers_token_that_does_not_hold(foreign, fake, ann, change):
    """The provider speaks for members of one community, to us, for now, and for nobody else."""
    with pytest.raises(UnauthenticatedError):
        await foreign.authenticate(fake.token("k1", **claims(**change)))


async def test_unknown_keys_are_fetched_at_most_once_a_minute(foreign, fake, rooms, ann):
    """A new key is found by itself; made-up key ids do not make us flood the provider."""
    await foreign.authenticate(fake.token("k1", **claims()))
    fake.rotate("k2")
    token = fake.token("k2", **claims())
    for _ in range(5):
        with pytest.raises(
            UnauthenticatedError, match="'k2' is not one of the identity provider's"
        ):
            await foreign.authenticate(token)
    assert fake.fetches == 1
    rooms.clock.move(61)
    assert await foreign.authenticate(token) == ann
    assert fake.fetches == 2


async def test_a_silent_provider(foreign, fake, rooms, ann):
    """Without any key it is an outage; with keys of before, they hold on for a day."""
    fake.silent = True
    for _ in range(3):
        with pytest.raises(UnavailableError, match="identity provider does not answer"):
            await foreign.authenticate(fake.token("k1", **claims()))
    assert fake.fetches == 1
    fake.silent = False
    rooms.clock.move(61)
    assert await foreign.authenticate(fake.token("k1", **claims())) == ann
    fake.silent = True
    rooms.clock.move(3 * 3600)
    assert (
        await foreign.authenticate(
            fake.token("k1", **claims(exp=rooms.clock.now().timestamp() + 9))
        )
        == ann
    )
    rooms.clock.move(24 * 3600)
    with pytest.raises(UnavailableError):
        await foreign.authenticate(
            fake.token("k1", **claims(exp=rooms.clock.now().timestamp() + 9))
        )


async def test_a_key_that_the_provider_withdrew(foreign, fake, rooms, ann):
    """A key is believed for ten minutes after the provider dropped it, and no longer."""
    token = fake.token("k1", **claims())
    await foreign.authenticate(token)
    fake.keys.clear()
    rooms.clock.move(601)
    with pytest.raises(UnauthenticatedError):
        await foreign.authenticate(token)


async def test_without_a_provider_its_tokens_mean_nothing(identity, fake, ann):
    """Where none is set, no foreign key is believed."""
    with pytest.raises(UnauthenticatedError, match="'k1' is not ours"):
        await identity.authenticate(fake.token("k1", **claims()))


async def test_algorithms_belong_to_keys(rooms, ann):
    """An RSA key verifies RSA; the same public key as a shared secret does not; weak ones neither."""
    strong, weak = (rsa.generate_private_key(65_537, bits) for bits in (2048, 1024))
    described = [
        {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid}
        for kid, key in (("strong", strong), ("weak", weak))
    ] + [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken"},
        {"crv": 5},
    ]

    async def fetch(url):
        return json.dumps({"keys": described}).encode()

    provider = IdentityProvider(
        jwks_url="https://x.org/", issuer=ISSUER, community="home", clock=rooms.clock, fetch=fetch
    )
    identity = Identity(router=rooms.router, clock=rooms.clock, provider=provider)
    public = strong.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert (
        await identity.authenticate(
            jwt.encode(claims(), strong, algorithm="PS256", headers={"kid": "strong"})
        )
        == ann
    )
    header = {"alg": "HS256", "typ": "JWT"}
    for token in (
        shared(header | {"kid": "strong"}, public),
        shared(header | {"kid": "shared"}, base64.urlsafe_b64decode("c2VjcmV0")),
        joined(header | {"kid": "broken"}, claims()),
        joined(header | {"kid": "strong", "alg": "none"}, claims(), b""),
    ):
        with pytest.raises(UnauthenticatedError):
            await identity.authenticate(token)
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = jwt.encode(claims(), weak, algorithm="RS256", headers={"kid": "weak"})
    with pytest.raises(UnauthenticatedError):
        await identity.authenticate(token)


def shared(header, secret):
    """Return a token signed with a shared secret, which the library would refuse to do."""
    unsigned = joined(header, claims()).rpartition(".")[0]
    return joined(header, claims(), hmac.new(secret, unsigned.encode(), "sha256").digest())


@pytest.mark.parametrize(
    ("url", "issuer", "community"),
    [("http://id.example.org/", ISSUER, "home"), ("file:///etc/passwd", ISSUER, "home"),
     ("https://x.org/", "", "home"), ("https://x.org/", ISSUER, "")],
)  # fmt: skip
def test_a_provider_that_cannot_be_trusted_is_not_set_up(rooms, url, issuer, community):
    """Plain http to another machine, or half a setting, stops the start with the reason."""
    with pytest.raises(SetupError):
        IdentityProvider(jwks_url=url, issuer=issuer, community=community, clock=rooms.clock)


async def test_the_first_key_is_made_once(identity, ann):
    """Requests that all find no key agree on one."""
    issued = await asyncio.gather(*(identity.issue(ann.name, 60) for _ in range(6)))

    assert len({parts(one.token)[0]["kid"] for one in issued}) == 1
    assert len({one.token_id for one in issued}) == 6
