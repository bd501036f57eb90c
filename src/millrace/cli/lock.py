"""One `up` per data directory: the second is told who is there.

The kernel drops the lock with its process, so a killed `up` never leaves one behind; what is
written in the file only serves the message.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec import Struct

from millrace.kernel.errors import ConflictError, SetupError

FILE_NAME = "up.lock"


class Holder(Struct, frozen=True):
    """Who is up: the process and the address of its page."""

    pid: int
    address: str


@contextmanager
def held(data_dir: Path, address: str) -> Generator[None]:
    """Hold the data directory for this process until the block ends.

    Another process that is up on it is a ConflictError that names its number and address.

    Raises:
        SetupError: the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(data_dir / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise SetupError(
            f"the data directory {data_dir} cannot be used: {exc.strerror}",
            next_step="choose another with --data-dir, or mend its permissions",
        ) from exc
    try:
        if not _taken(handle):
            _refuse(data_dir, holder(data_dir))
        os.truncate(handle, 0)
        os.pwrite(handle, msgspec.json.encode(Holder(os.getpid(), address)), 0)
        yield
    finally:
        os.close(handle)


def refuse_if_held(data_dir: Path) -> None:
    """Say who is up on the folder, before any work is done; a ConflictError, as in `held`."""
    who = holder(data_dir)
    if who is not None:
        _refuse(data_dir, who)


def holder(data_dir: Path) -> Holder | None:
    """Return who is up on the folder, or None; asks the kernel, not the file alone."""
    file = data_dir / FILE_NAME
    try:
        handle = os.open(file, os.O_RDWR)
    except OSError:
        return None
    try:
        if _taken(handle):
            return None
        return msgspec.json.decode(file.read_bytes(), type=Holder)
    except msgspec.DecodeError:  # it is up, but has not written its name yet
        return Holder(0, "an address that it is about to take")
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse(data_dir: Path, who: Holder | None) -> NoReturn:
    """Say who is up.

    Raises:
        ConflictError: always.
    """
    who = who or Holder(0, "an address that it is about to leave")
    raise ConflictError(
        f"Millrace is already up on {data_dir}: process {who.pid} at {who.address}",
        value=str(data_dir),
        next_step=f"open {who.address}, end process {who.pid}, or choose another --data-dir",
    )
