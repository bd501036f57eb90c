"""A server in a process of its own, as `millrace serve` runs it, and what it costs the machine."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from millrace.kernel.errors import UnavailableError

READY = b"Millrace is ready at http://"
READY_SECONDS_MAX = 180.0
END_SECONDS_MAX = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


class Usage(Struct, frozen=True):
    """Seconds of processor time so far: of the server with the process that embeds beside it, of
    PostgreSQL, and of this process."""

    server: float
    database: float
    client: float


class Server(Struct, frozen=True, kw_only=True):
    """A running server. `postmaster` is the process of its database."""

    host: str
    port: int
    pid: int
    postmaster: int

    def rss_mib_peak(self) -> float:
        """Return the most memory that the server ever had, and its embedding process.

        The sum of what each had at its own worst moment: never less than both had at once.
        """
        return round(sum(_peak_mib(pid) for pid in (self.pid, *_children(self.pid))), 1)

    def usage(self) -> Usage:
        """Return the processor time that was spent until now."""
        times = os.times()
        return Usage(
            _with_children(self.pid), _with_children(self.postmaster), times.user + times.system
        )


@asynccontextmanager
async def serving(
    data_dir: Path, variables: Mapping[str, str], database: Path | None = None
) -> AsyncGenerator[Server]:
    """Start `millrace serve` on a data directory, and end it.

    Args:
        data_dir: with a database that nobody else uses.
        variables: settings, as MILLRACE_* variables.
        database: the data directory of an embedded server that runs already, which the settings
            name by its address; the server's own by default.

    Raises:
        UnavailableError: it does not come up; what it said last is in the message.
    """
    errors = data_dir / "serve.log"
    with errors.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 ASYNC220 - our own command; it returns at once
            [sys.executable, "-m", "millrace", "serve", "--port", "0", "--data-dir", str(data_dir)],
            env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS_MAX):
            line = await asyncio.to_thread(process.stdout.readline)
        if not line.startswith(READY):
            raise UnavailableError(f"the server did not come up: {errors.read_text()[-1_000:]}")
        host, _, port = line.removeprefix(READY).decode().strip().partition(":")
        held = (database or data_dir) / "postgres" / "postmaster.pid"
        postmaster = int(held.read_text().split()[0])
        yield Server(host=host, port=int(port), pid=process.pid, postmaster=postmaster)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()


def _seconds(pid: int) -> float:
    """Return the processor time of one process, that of its ended children included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / TICKS


def _with_children(pid: int) -> float:
    """Return the processor time of a process and its living and ended children."""
    return _seconds(pid) + sum(_seconds(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
