"""Keeps up with what a server decides with, from outside, in a thread of its own.

It reads a snapshot, listens for changes, and reads again what changed. While the server is away it
keeps what it knows and says that it is stale.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any, Protocol, cast

import httpx
import msgspec
from msgspec import Struct

from millrace.kernel.errors import (
    InvalidError,
    MillraceError,
    TooManyError,
    UnauthenticatedError,
)
from millrace.kernel.rng import Rng
from millrace.release.flags import snapshot
from millrace.release.flags.snapshot import Known

SNAPSHOT = "/v1/flag-snapshot"
EVENTS = "/ofrep/v1/events"
USAGE = "/v1/flag-usage"
SECONDS_MAX = 10.0
"""For one request; a stream may be silent for `SILENT_SECONDS_MAX`."""

SILENT_SECONDS_MAX = 60.0
AGAIN_SECONDS = 0.2
AGAIN_SECONDS_MAX = 10.0
LISTENED_SECONDS = 1.0
"""A stream that ends sooner did not work."""

LATE_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Another process of the server may hear of a change a moment after the one that told of it."""

PAUSE_PER_READING = 3
"""After reading it rests so many times as long, so that changes in a row keep neither side busy."""

USAGE_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Told(Protocol):
    """Who hears how it goes. All of it is called from the follower's thread."""

    def current(self, before: Known, after: Known) -> None:
        """Hear that all is known as of now."""
        ...

    def stale(self, message: str) -> None:
        """Hear that the server cannot be asked: what is known may be old."""
        ...

    def refused(self, message: str) -> None:
        """Hear that the token is not good, or no longer."""
        ...


class Server(Struct, frozen=True, kw_only=True):
    """Where the server is, and who asks. token: asked for anew each time, so that it can change."""

    address: str
    token: Callable[[], str]


class Follower:
    """One thread that follows one server."""

    def __init__(
        self,
        server: Server,
        told: Told,
        rng: Rng,
        used: Callable[[], Mapping[tuple[str, str], int]],
    ) -> None:
        """Tell `told` how it goes, and the server what was `used` since it was last asked."""
        self._server = server
        self._told = told
        self._rng = rng
        self._used = used
        self._known = snapshot.NOTHING
        self._counts: dict[tuple[str, str], int] = {}
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._begun = Event()
        self._ends = False
        self._wanted: str | None = None

    def start(self) -> None:
        """Begin to follow; again, where it was stopped."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._ends = False
        self._begun.clear()
        self._thread = Thread(target=self._work, name="millrace-flags", daemon=True)
        self._thread.start()
        self._begun.wait()

    def stop(self, seconds: float) -> None:
        """End, and say what was used once more; after so long without that."""
        self._ends = True
        if self._thread is None or self._loop is None or self._task is None:
            return
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        finally:
            if not self._ends:
                self._told.stale("the thread that follows the server has ended")

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._news = asyncio.Event()
        self._begun.set()
        timeout = httpx.Timeout(SECONDS_MAX)
        async with httpx.AsyncClient(base_url=self._server.address, timeout=timeout) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follow(client))
                    group.create_task(self._report(client))
            except asyncio.CancelledError:
                await self._say_used(client)

    # ------------------------------------------------- what decides

    async def _follow(self, client: httpx.AsyncClient) -> None:
        """Read and listen, again and again; wait longer each time that it does not work."""
        clock, failures = asyncio.get_running_loop().time, 0
        while True:
            seconds = await self._read_and_tell(client)
            if seconds is None:
                began = clock()
                await self._listen(client)
                if clock() - began > LISTENED_SECONDS:
                    failures = 0
                    continue  # it listened, and the server hung up: look at once what changed
            failures += 1
            wait = min(AGAIN_SECONDS * 2 ** min(failures - 1, 10), AGAIN_SECONDS_MAX)
            # Not all who follow one server come back to it in the same moment.
            await asyncio.sleep(max(seconds or 0.0, wait * self._rng.uniform(0.5, 1.0)))

    async def _read_and_tell(self, client: httpx.AsyncClient) -> float | None:
        """Read, and tell what is wrong; return how long to wait at least, None where all is well."""
        try:
            await self._read(client)
        except UnauthenticatedError as error:
            self._told.refused(error.message)
            return AGAIN_SECONDS_MAX
        except TooManyError as error:
            self._told.stale(error.message)
            return error.retry_seconds
        except _FAILURES as error:
            self._told.stale(f"{type(error).__name__}: {error}")
            return 0.0
        return None

    async def _read(self, client: httpx.AsyncClient) -> None:
        """Read what there is, unless it is known."""
        before = self._known
        headers = self._headers() | ({"if-none-match": f'"{before.etag}"'} if before.etag else {})
        answer = await client.get(SNAPSHOT, headers=headers)
        if answer.status_code != 304:
            _expect_success(answer)
            self._known = snapshot.read(answer.content, before)
        self._told.current(before, self._known)

    async def _listen(self, client: httpx.AsyncClient) -> None:
        """Read again whenever the server says so, until it hangs up or cannot be heard.

        That by itself makes nothing stale: the next reading tells.
        """
        headers = self._headers() | {"last-event-id": self._known.etag}
        timeout = httpx.Timeout(SECONDS_MAX, read=SILENT_SECONDS_MAX)
        try:
            async with client.stream("GET", EVENTS, headers=headers, timeout=timeout) as answer:
                _expect_success(answer)
                tasks = [
                    asyncio.create_task(self._hear(answer)),
                    asyncio.create_task(self._keep_up(client)),
                ]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    ends = await asyncio.gather(*tasks, return_exceptions=True)
        except (MillraceError, *_FAILURES) as error:
            logger.info("the stream of changes ended: %s", error)
            return
        for end in ends:
            if isinstance(end, Exception):
                logger.info("the stream of changes ended: %s", end)

    async def _hear(self, answer: httpx.Response) -> None:
        """Note what the server tells of; only the last of it matters."""
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                self._wanted = _etag_of(line.removeprefix("data:"))
                self._news.set()

    async def _keep_up(self, client: httpx.AsyncClient) -> None:
        """Read until what is known is what the server told of, with pauses as long as reading takes."""
        clock = asyncio.get_running_loop().time
        rested = 0.0
        while True:
            await self._news.wait()
            self._news.clear()
            for seconds in LATE_SECONDS:
                if self._known.etag == self._wanted:
                    break
                await asyncio.sleep(max(seconds, rested - clock()))
                began = clock()
                await self._read(client)
                took = clock() - began
                rested = clock() + min(PAUSE_PER_READING * took, AGAIN_SECONDS_MAX)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._server.token()}"}

    # ------------------------------------------------- what was used

    async def _report(self, client: httpx.AsyncClient) -> None:
        while True:
            await asyncio.sleep(USAGE_SECONDS)
            await self._say_used(client)

    async def _say_used(self, client: httpx.AsyncClient) -> None:
        """Tell how often each variant was given; what could not be told is told next time."""
        for place, times in self._used().items():
            self._counts[place] = self._counts.get(place, 0) + times
        if not self._counts:
            return
        lines = [
            {"key": key, "variant": variant, "evaluations": times}
            for (key, variant), times in self._counts.items()
        ]
        try:
            answer = await client.post(USAGE, json={"lines": lines}, headers=self._headers())
            _expect_success(answer)
        except (MillraceError, *_FAILURES) as error:
            logger.info("how often flags are used could not be told: %s", error)
        else:
            self._counts.clear()


_FAILURES = (httpx.HTTPError, msgspec.MsgspecError, InvalidError)


def _expect_success(answer: httpx.Response) -> None:
    """Refuse an answer that is none.

    Raises:
        UnauthenticatedError: the token is not good.
        TooManyError: the server has too much to do.
    """
    status = answer.status_code
    if status in {401, 403}:
        raise UnauthenticatedError(
            f"{answer.url} answers {status}: the token must be that of a flag reader",
            next_step="millrace operator create NAME --role flag_reader",
        )
    if status == 429:
        seconds = answer.headers.get("retry-after", "")
        raise TooManyError(
            f"{answer.url} answers 429", retry_seconds=float(seconds) if seconds.isdigit() else 1.0
        )
    answer.raise_for_status()


def _etag_of(data: str) -> str | None:
    """Return the etag that an event names; None where it names none."""
    try:
        found: Any = json.loads(data)
    except ValueError:
        return None
    etag = cast("dict[str, Any]", found).get("etag") if isinstance(found, dict) else None
    return etag if isinstance(etag, str) else None
