"""What every measuring command prints beside its figures: seed, machine, versions, seconds."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

from msgspec import Struct

PACKAGES = ("millrace", "numpy")


class Start(Struct, frozen=True):
    """The moment and the state of the machine when a measurement began."""

    seed: int
    at: float
    load: float


def begin(seed: int) -> Start:
    """Note when a measurement begins and how busy the machine is then."""
    return Start(seed=seed, at=perf_counter(), load=round(os.getloadavg()[0], 2))


def finish(
    start: Start, figures: dict[str, object], packages: Sequence[str] = ()
) -> dict[str, object]:
    """Return the figures with the keys that every measuring command shares.

    Args:
        start: what `begin` returned.
        figures: the command's own keys.
        packages: further packages whose versions matter to the figures.
    """
    return {
        **figures,
        "seed": start.seed,
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": _memory_gib(),
            "processor": _processor(),
            "load_at_start": start.load,
        },
        "versions": {"python": platform.python_version(), **_versions((*PACKAGES, *packages))},
        "seconds": round(perf_counter() - start.at, 2),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package, "absent" where there is none."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _memory_gib() -> float:
    """Return the memory of the machine."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _processor() -> str:
    """Return the name of the processor as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
