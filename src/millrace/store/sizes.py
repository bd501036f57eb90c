"""How much disk and memory the installation takes."""

import os
from pathlib import Path

from msgspec import Struct

from millrace.store.queries import load
from millrace.store.router import Router

QUERIES = load("millrace.store")
PROC = Path("/proc")
KIB = 1024


class TableSize(Struct, frozen=True):
    """A table with its indexes, in bytes on disk."""

    name: str
    bytes: int


class DatabaseSize(Struct, frozen=True):
    """The whole database in bytes on disk, and its largest tables."""

    bytes: int
    tables: list[TableSize]


class ProcessId(Struct, frozen=True):
    """A process of the server."""

    pid: int


async def database_size(router: Router, tables: int = 6) -> DatabaseSize:
    """Return what the database takes; costs a look at the file of each table."""
    async with router.read() as session:
        whole = await session.value(QUERIES["database_bytes"])
        found = await session.rows(QUERIES["largest_tables"], TableSize, limit=tables)
    return DatabaseSize(int(whole), found)


async def server_memory(router: Router, proc: Path = PROC) -> int | None:
    """Return the memory of the server's processes in bytes, shared pages counted once.

    None where the server runs elsewhere, or the system does not tell.
    """
    async with router.read() as session:
        found = await session.rows(QUERIES["server_processes"], ProcessId)
    parts = [own_share(one.pid, proc) for one in found]
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None


def own_share(pid: int, proc: Path = PROC) -> int | None:
    """Return a process's own share of memory in bytes (PSS); None where nobody may look."""
    try:
        text = (proc / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * KIB
    return None


def resident_memory(proc: Path = PROC, pid: int | None = None) -> tuple[int, int] | None:
    """Return a process's memory in bytes, now and at its highest; None where unknown.

    Args:
        proc: where the kernel tells it.
        pid: of the process; this one by default.
    """
    try:
        text = (proc / str(os.getpid() if pid is None else pid) / "status").read_text(
            encoding="utf-8"
        )
    except OSError:
        return None
    found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "VmRSS" not in found or "VmHWM" not in found:
        return None
    return int(found["VmRSS"].split()[0]) * KIB, int(found["VmHWM"].split()[0]) * KIB
