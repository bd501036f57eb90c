"""The server's processes as the system shows them, and what a dead one leaves behind.

PostgreSQL's own pid file is not enough: after a crash or a restart of the machine its number may
belong to somebody else, and PostgreSQL would then refuse to start, or `pg_ctl stop` would hit the
wrong process. So each server carries a mark in its command line, and only a process with the mark
counts.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from millrace.kernel.errors import SetupError
from millrace.kernel.hashing import fingerprint

PROC = Path("/proc")
POLL_SECONDS = 0.02
QUIT_SECONDS_MAX = 10.0


def wait_until(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Wait for a condition; say whether it came true in time."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


class Postmaster:
    """The server of one cluster folder; there may be none."""

    def __init__(self, cluster: Path, sockets: Path) -> None:
        self._cluster = cluster
        self._file = cluster / "postmaster.pid"
        self._socket = sockets / ".s.PGSQL.5432"
        self.mark = f"millrace-{fingerprint(os.fsencode(cluster))}"

    def pid(self) -> int | None:
        """Return the number of the living server, or None."""
        written = self._written()
        return written if written is not None and self._is_ours(written) else None

    def is_ready(self) -> bool:
        """Say whether the server lives and accepts connections."""
        lines = self._lines()
        return len(lines) >= 8 and lines[7].strip() == "ready" and self.pid() is not None

    def clear(self) -> None:
        """End what a dead server left running and remove its stale files. Needs the folder's lock.

        Raises:
            SetupError: something still answers that this process cannot see.
        """
        if not self.end_leftovers():
            raise SetupError(
                f"processes of a dead server cannot be ended: {self._members()}",
                next_step="end them by hand, then start again",
            )
        if self._answers():
            raise SetupError(
                f"a server answers at {self._socket} that this process cannot see",
                next_step="stop it where it runs, perhaps in another container",
            )
        for stale in (
            self._file,
            self._socket,
            self._socket.with_name(f"{self._socket.name}.lock"),
        ):
            stale.unlink(missing_ok=True)

    def end_leftovers(self) -> bool:
        """Ask the rest of a dead server to leave, then make it; say whether all went.

        Needs the folder's lock, and a server that is dead or may be ended.
        """
        for how in (signal.SIGQUIT, signal.SIGKILL):
            for member in self._members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, how)
            if wait_until(lambda: not self._members(), QUIT_SECONDS_MAX):
                return True
        return False

    def _members(self) -> list[int]:
        """Return every process with our mark: the server and its children."""
        numbers = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
        return [number for number in numbers if self._is_ours(number)]

    def _is_ours(self, number: int) -> bool:
        """Say whether a process has our mark and our user. Anybody may read this, in containers too."""
        process = PROC / str(number)
        try:
            if self.mark.encode() not in (process / "cmdline").read_bytes():
                return False
            return process.stat().st_uid == self._cluster.stat().st_uid
        except OSError:
            return False

    def _lines(self) -> list[str]:
        try:
            return self._file.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return []

    def _written(self) -> int | None:
        first = (self._lines() or [""])[0].strip()
        return int(first) if first.isascii() and first.isdecimal() else None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(1.0)
            try:
                caller.connect(str(self._socket))
            except OSError:
                return False
            return True
