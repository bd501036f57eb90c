"""The process that trains, as its server sees it: started, and started again, and ended with it.

It says nothing over pipes: how far it is stands in the table. It ends after each training, so that
the memory of the model goes back, and waits without a model for the next one. The pipe that it reads
from is its leash, as that of the embedding process (process.py).
"""

import asyncio
import logging
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from millrace.kernel.clock import Clock

PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 600.0
LIVED_SECONDS = 60.0  # a process that lived so long did not die of its start
END_SECONDS_MAX = 5.0

logger = logging.getLogger(__name__)


class TrainerProcess:
    """One child that trains. Use `start` and `stop`."""

    def __init__(self, command: Sequence[str], brief: bytes, clock: Clock) -> None:
        """Take how to start it; nothing starts yet.

        Args:
            command: of the process.
            brief: the one line that it reads: its settings, which are nobody else's to see.
            clock: tells how long it lived.
        """
        self._command = list(command)
        self._brief = brief
        self._clock = clock
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self.lives = 0

    @property
    def pid(self) -> int | None:
        """Return the number of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin to keep one process going. Safe to call twice."""
        if self._task is None:
            self._task = asyncio.create_task(self._kept())

    async def stop(self) -> None:
        """End it, whatever it is doing; it goes on there when it is started again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _kept(self) -> None:
        pause = PAUSE_SECONDS_MIN
        while True:
            began = self._clock.monotonic()
            status = await self._lived()
            if status == 0:
                pause = PAUSE_SECONDS_MIN
                continue
            if self._clock.monotonic() - began >= LIVED_SECONDS:
                pause = PAUSE_SECONDS_MIN
            logger.warning(
                "the process that trains ended with status %s; it is started again in %g s",
                status, pause,
            )  # fmt: skip
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _lived(self) -> int | None:
        """Start a process, wait for its end, and return its exit status."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=DEVNULL
            )
        except OSError as exc:  # no memory, or no room for one more process
            logger.warning("the process that trains cannot be started: %s", exc)
            return None
        self._process = process
        self.lives += 1
        assert process.stdin is not None, "a pipe"
        try:
            process.stdin.write(self._brief + b"\n")
            return await process.wait()
        finally:
            process.stdin.close()
            await asyncio.shield(_ended(process))
            self._process = None


async def _ended(process: Process) -> None:
    """Wait until a process that was let go has ended; one that does not listen is killed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS_MAX):
            await process.wait()
            return
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
