"""The embedding process as its server sees it: started, heard, asked, and started again.

It ends with its server, however that ends, because it reads from a pipe that closes then
(desk.py). When it dies it is started again, after a pause that grows while it does not live long.
"""

import asyncio
import logging
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import numpy as np
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.prompts.types import Prompt
from millrace.feed.types import FitReport
from millrace.feed.wire import (
    LINE_BYTES_MAX,
    Answered,
    Asked,
    Line,
    Refused,
    Report,
    Told,
    Verb,
    read,
    setup,
    written,
)
from millrace.kernel.clock import Clock
from millrace.kernel.errors import UnavailableError

PAUSE_SECONDS_MIN = 0.25
PAUSE_SECONDS_MAX = 30.0
LIVED_SECONDS = 60.0  # a process that lived so long did not die of its start
END_SECONDS_MAX = 5.0
LATE_SECONDS = 5.0
SILENT_SECONDS = 5.0
"""It reports every two seconds at least; who is silent for longer hangs, and its lag grows."""

logger = logging.getLogger(__name__)


class EmbeddingProcess:
    """One child that embeds, and whatever is asked of it."""

    def __init__(self, command: Sequence[str], brief: bytes, clock: Clock) -> None:
        """Take how to start it; nothing starts yet.

        Args:
            command: of the process.
            brief: the first line that it reads: its settings, which are nobody else's to see.
            clock: tells how long it has been silent.
        """
        self._command = list(command)
        self._brief = brief
        self._clock = clock
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._told: asyncio.Future[Told] | None = None
        self._asked: dict[int, asyncio.Future[Answered | None]] = {}
        self._number = 0
        self._up = asyncio.Event()
        self._heard_at = clock.monotonic()
        self._stopping = False
        self._report: Report | None = None
        self.restarts = 0

    async def start(self) -> Told:
        """Start it, and return which model it has loaded.

        What it refuses for is a SetupError.
        """
        self._told = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._kept())
        return await self._told

    async def stop(self) -> None:
        """End it, and wait until it has ended. Safe to call twice."""
        self._stopping = True
        if self._task is None:
            return
        self._let_go()
        await asyncio.wait({self._task}, timeout=END_SECONDS_MAX)
        self._task.cancel()  # it is in its pause, or it does not listen
        await asyncio.wait({self._task})
        self._task = None

    # ------------------------------------------------- how it does

    @property
    def pid(self) -> int | None:
        """Return the number of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def report(self) -> Report | None:
        """Return the newest report, of the process that lives or of the last one."""
        return self._report

    def silent(self) -> float:
        """Return for how many seconds nothing was heard that should have been."""
        passed = self._clock.monotonic() - self._heard_at
        return passed if passed > SILENT_SECONDS or not self._up.is_set() else 0.0

    async def ready(self) -> None:
        """Wait until it can be asked."""
        await self._up.wait()

    # ------------------------------------------------- what it is asked

    async def embed(self, member: Key, version: str = "") -> Answered:
        """Have a member's vector of an encoder made now.

        Raises:
            UnavailableError: it is gone, or could not make it.
        """
        answer = await self._ask(Verb.EMBED, member=member, version=version)
        if answer is None:
            raise UnavailableError(
                "the embedding process is being started again", next_step="try again in a moment"
            )
        return answer

    async def fit(self, version: str = "") -> FitReport:
        """Have the scorer fitted there, so that it takes nothing from whoever serves.

        Args:
            version: of the encoder that serves here; there another one may lead for a moment more.

        Raises:
            UnavailableError: it is gone, or could not.
        """
        answer = await self._ask(Verb.FIT, version=version)
        if answer is None or answer.report is None:
            raise UnavailableError(
                "the embedding process ended while it fitted", next_step="it is tried again"
            )
        return answer.report

    async def settle(self, seconds_max: float) -> bool:
        """Wait until everything committed before this call is in vectors.

        Returns whether it is: else the process ended meanwhile, and another is to be asked.

        Passes on:
            UnavailableError: the database or the encoder fails again and again.
        """
        seconds = seconds_max + LATE_SECONDS  # whoever asks gives up first, in its own words
        return await self._ask(Verb.SETTLE, seconds=seconds) is not None

    async def _ask(
        self,
        verb: Verb,
        *,
        member: Key | None = None,
        seconds: float = 0.0,
        version: str = "",
    ) -> Answered | None:
        """Ask; return None where it has ended, or ends before it answers.

        Raises:
            UnavailableError: it could not; in its words.
        """
        process = self._process
        if process is None or process.stdin is None or not self._up.is_set():
            return None
        self._number += 1
        number = self._number
        answered: asyncio.Future[Answered | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        asked = Asked(number=number, verb=verb, member=member, seconds=seconds, version=version)
        try:
            process.stdin.write(written(asked))
            found = await answered
        finally:
            self._asked.pop(number, None)
        if found is not None and found.failure is not None:
            raise UnavailableError(found.failure.message, next_step=found.failure.next_step)
        return found

    # ------------------------------------------------- its life

    async def _kept(self) -> None:
        """Keep one process going until it is not wanted any more."""
        pause = PAUSE_SECONDS_MIN
        while not self._stopping:
            began = self._clock.monotonic()
            status = await self._lived()
            if self._stopping or not self._is_told:
                break
            if self._clock.monotonic() - began >= LIVED_SECONDS:
                pause = PAUSE_SECONDS_MIN
            self.restarts += 1
            logger.warning(
                "the embedding process ended with status %s; it is started again in %g s",
                status, pause,
            )  # fmt: skip
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    @property
    def _is_told(self) -> bool:
        """Whether the first one told its model; else whoever started it was told why not."""
        return self._told is not None and self._told.done() and not self._told.exception()

    async def _lived(self) -> int | None:
        """Start a process and hear it to its end; return its exit status."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES_MAX
            )
        except OSError as exc:  # no memory, or no room for one more process
            logger.warning("the embedding process cannot be started: %s", exc)
            self._forget()
            return None
        self._process = process
        assert process.stdin is not None, "a pipe"
        assert process.stdout is not None, "a pipe"
        process.stdin.write(self._brief + b"\n")
        try:
            if self._stopping:
                process.stdin.close()
            while line := await process.stdout.readline():
                self._hear(read(line))
        except (ValueError, msgspec.DecodeError) as exc:
            logger.warning("what the embedding process says cannot be read: %s", exc)
        finally:
            self._up.clear()
            self._forget()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            self._process = None
        return process.returncode

    def _hear(self, line: Line) -> None:
        """Take what it says."""
        self._heard_at = self._clock.monotonic()
        match line:
            case Told():
                self._meet(line)
            case Refused():
                self._refuse(line)
            case Report():
                self._report = line
            case Answered():
                waiting = self._asked.get(line.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(line)

    def _meet(self, told: Told) -> None:
        """Hear which model it has. Whose vectors are compared, the table says, and not this."""
        assert self._told is not None, "it was started"
        if not self._told.done():
            self._told.set_result(told)
        elif self._told.result() != told:
            logger.info("the embedding process began with encoder %s", told.version)
        self._up.set()

    def _refuse(self, line: Refused) -> None:
        assert self._told is not None, "it was started"
        if self._told.done():
            logger.error("the embedding process cannot work: %s", line.failure.message)
        else:
            self._told.set_exception(setup(line.failure))

    def _forget(self) -> None:
        """Let everybody who waits for an answer know that none comes."""
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_result(None)
        if self._told is not None and not self._told.done():
            self._told.set_exception(
                UnavailableError(
                    "the embedding process ended before it had loaded its model",
                    next_step="see what it said before this, and start again",
                )
            )

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


class FarEncoder:
    """The model of the embedding process: known by its name here, and never loaded."""

    def __init__(self, told: Told) -> None:
        self._told = told

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under."""
        return self._told.version

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return self._told.dims

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        return self._told.tokens_max

    @property
    def history(self) -> PooledHistory | None:
        """Return how a history is pooled; None where a member's prompt shows it in words."""
        return self._told.history

    def count(self, text: str) -> int:
        """Refuse: prompts are cut where the vocabulary is.

        Raises:
            UnavailableError: always.
        """
        raise UnavailableError(f"{len(text)} characters are not counted here", next_step=_ELSEWHERE)

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Refuse, but for nothing at all.

        Raises:
            UnavailableError: there is something to embed.
        """
        if prompts:
            raise UnavailableError(
                f"{len(prompts)} prompts are not embedded here", next_step=_ELSEWHERE
            )
        return np.zeros((0, self.dims), dtype=np.float32)


_ELSEWHERE = "ask the embedding process, which has the model, or set feed.embedding to here"
