"""A write with the same Idempotency-Key runs once; repetitions get the first answer.

A key belongs to its caller and to one request: method, address, media type and body. Only answers
that changed something are kept (status below 400); after any other answer the key is free again,
so that a client mends its request, or tries again, under the same key.

When a process dies between a write and keeping its answer, nobody knows whether the write
happened. The key then stays taken: a repetition is told so, and never runs the write twice.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from millrace.api.errors import KeyInUseError, KeyReusedError, MalformedError
from millrace.kernel.clock import Clock
from millrace.kernel.errors import UnavailableError
from millrace.store.queries import load
from millrace.store.router import Router
from millrace.store.session import Session, document

QUERIES = load("millrace.api")
KEY_CHARACTERS_MAX = 200
KEPT_SECONDS = 24 * 3600
RUNNING_SECONDS_MAX = 120  # no request runs longer, so an older one has lost its process
SWEEP_SECONDS = 600
ABANDONED_MAX = 10_000
KEPT_HEADERS = ("content-type", "etag", "location")


class KeptAnswer(Struct, frozen=True):
    """What the first request with a key answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Row(Struct, frozen=True):
    request_hash: str
    status: int | None
    headers: dict[str, str] | None
    body: bytes | None
    created_at: datetime


class Claim(Struct, frozen=True):
    """A key that this request holds."""

    subject: str
    key: str
    request_hash: str


def key_of(headers: Mapping[str, str]) -> str | None:
    """Return the request's idempotency key, or None.

    Raises:
        MalformedError: the key is empty, too long, or not of visible ASCII characters.
    """
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= KEY_CHARACTERS_MAX or not all("!" <= letter <= "~" for letter in key):
        raise MalformedError(
            "the idempotency key cannot be used",
            field="Idempotency-Key",
            value=key,
            limit=f"1 to {KEY_CHARACTERS_MAX} visible ASCII characters",
            next_step="send a new random key, for example a UUID",
        )
    return key


def request_hash(method: str, target: bytes, media_type: str, body: bytes) -> str:
    """Return what two requests share only when they ask for the same."""
    digest = hashlib.sha256()
    for part in (method.encode(), target, media_type.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


class Keys:
    """The keys and their answers, in the database, so that they outlive a process."""

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._abandoned: set[tuple[str, str]] = set()
        self._swept = float("-inf")

    async def claim(self, subject: str, key: str, wanted: str) -> Claim | KeptAnswer:
        """Take a key, or return the answer that it already has.

        A key of another request is a KeyReusedError; one whose first request is still running, or
        was lost with its process, a KeyInUseError.
        """
        now = self._clock.now()
        place = (subject, key)
        expired = now - timedelta(seconds=KEPT_SECONDS)
        async with self._router.write() as session:
            taken = await session.value(
                QUERIES["claim_key"],
                subject=subject,
                key=key,
                request_hash=wanted,
                now=now,
                expired=expired,
                abandoned=place in self._abandoned,
            )
            row = None
            if taken is None:
                row = await session.row(QUERIES["kept_answer"], _Row, subject=subject, key=key)
            await self._sweep(session, expired)
        if taken is not None:
            self._abandoned.discard(place)
            return Claim(subject, key, wanted)
        return _repeated(row, key, wanted, now)

    async def keep(self, claim: Claim, answer: KeptAnswer) -> None:
        """Remember an answer for the repetitions."""
        async with self._router.write() as session:
            session.later(
                QUERIES["keep_answer"],
                subject=claim.subject,
                key=claim.key,
                request_hash=claim.request_hash,
                status=answer.status,
                headers=document(answer.headers),
                body=answer.body,
            )

    async def free(self, claim: Claim) -> None:
        """Give a key back: its request changed nothing.

        Where the database is away, this process remembers the key as abandoned instead.
        """
        try:
            async with self._router.write() as session:
                session.later(QUERIES["free_key"], subject=claim.subject, key=claim.key)
        except UnavailableError:
            if len(self._abandoned) < ABANDONED_MAX:
                self._abandoned.add((claim.subject, claim.key))

    async def _sweep(self, session: Session, expired: datetime) -> None:
        """Drop old keys now and then, on the way."""
        moment = self._clock.monotonic()
        if moment - self._swept >= SWEEP_SECONDS:
            self._swept = moment
            await session.run(QUERIES["drop_old_keys"], expired=expired)


def _repeated(row: _Row | None, key: str, wanted: str, now: datetime) -> KeptAnswer:
    """Decide what a repetition gets.

    Raises:
        KeyReusedError: the key belongs to another request.
        KeyInUseError: there is no answer to repeat.
    """
    if row is not None and row.request_hash != wanted:
        raise KeyReusedError(
            "this idempotency key was used for another request",
            field="Idempotency-Key",
            value=key,
            limit="one request per key",
            next_step="send a new key with a new request",
        )
    if row is not None and row.status is not None:
        return KeptAnswer(row.status, row.headers or {}, row.body or b"")
    if row is not None and now - row.created_at > timedelta(seconds=RUNNING_SECONDS_MAX):
        raise KeyInUseError(
            "the first request with this key was lost before its answer was kept",
            next_step="look whether its effect is there; if not, send it with a new key",
            retry_seconds=None,
        )
    raise KeyInUseError(
        "the first request with this key is still running",
        next_step="send the request again with the same key",
        retry_seconds=1.0,
    )
