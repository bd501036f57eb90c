"""Requests of a guest who behaves: bounded in rate, patient where the server is busy or away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import msgspec
from msgspec import Struct

from millrace.kernel.clock import Clock
from millrace.kernel.errors import MillraceError, UnavailableError

RATE_DEFAULT = 20.0
BURST = 10.0
TRIES_MAX = 8
WAIT_FIRST_SECONDS, WAIT_SECONDS_MAX = 0.5, 30.0
ASKED_SECONDS_MAX = 120.0
AWAY = frozenset({500, 502, 503, 504})
TIMEOUT_SECONDS = 30.0

Signed = Callable[[bool], Awaitable[dict[str, str]]]
"""Returns the headers that say who asks; True where the ones before did not hold."""


class Bucket:
    """At most so many requests a second, a few at once."""

    def __init__(self, clock: Clock, rate: float) -> None:
        assert rate > 0, "a rate is above 0"
        self._clock = clock
        self._rate = rate
        self._due = clock.monotonic()

    def wait(self) -> float:
        """Take one; return how long to wait before it is used."""
        now = self._clock.monotonic()
        self._due = max(self._due, now - BURST / self._rate) + 1.0 / self._rate
        return max(0.0, self._due - now)


class Ask(Struct, frozen=True, kw_only=True):
    """One request. `once`: whether a repetition must not write a second time."""

    method: str
    path: str
    params: dict[str, str | int] = {}
    body: Any = None
    once: bool = False


class Client:
    """Sends requests to one server, one after another.

    Args:
        url: of the server.
        clock: of the server's world.
        rate: requests a second at most.
    """

    def __init__(self, url: str, *, clock: Clock, rate: float = RATE_DEFAULT) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS)
        self._bucket = Bucket(clock, rate)

    async def close(self) -> None:
        """Leave the server."""
        await self._http.aclose()

    async def send(self, ask: Ask, signed: Signed) -> httpx.Response:
        """Send one request until it is answered.

        Where the server says how long to wait, that long is waited; where it is away, longer each
        time, about a minute and a half in all.

        Raises:
            MillraceError: it was refused.
            UnavailableError: the server stayed away or busy.
        """
        headers = {} if ask.body is None else {"content-type": "application/json"}
        if ask.once:
            headers["idempotency-key"] = uuid4().hex
        wait, anew = WAIT_FIRST_SECONDS, False
        for _ in range(TRIES_MAX):
            await asyncio.sleep(self._bucket.wait())
            answer = await self._sent(ask, headers | await signed(anew))
            if answer is not None and answer.is_success:
                return answer
            anew = answer is not None and answer.status_code == 401
            if answer is not None and answer.status_code not in AWAY | {401, 429}:
                raise MillraceError(
                    f"{ask.method} {ask.path}: {answer.status_code} {answer.text[:200]}"
                )
            await asyncio.sleep(_asked(answer) or wait)
            wait = min(wait * 2, WAIT_SECONDS_MAX)
        raise UnavailableError(
            f"{ask.method} {ask.path}: the server stayed away", next_step="see whether it is up"
        )

    async def _sent(self, ask: Ask, headers: dict[str, str]) -> httpx.Response | None:
        """Return the answer, or None where the server does not answer."""
        content = None if ask.body is None else msgspec.json.encode(ask.body)
        try:
            return await self._http.request(
                ask.method, ask.path, params=ask.params, content=content, headers=headers
            )
        except httpx.TransportError:
            return None


def _asked(answer: httpx.Response | None) -> float:
    """Return how long the server asks to wait; 0 where it does not say."""
    text = "" if answer is None else str(answer.headers.get("retry-after", ""))
    return min(float(text), ASKED_SECONDS_MAX) if text.isdecimal() else 0.0
