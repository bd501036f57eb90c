"""The command line as a test drives it: in this process, away from any settings of the machine."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from millrace.api.serve import free_address
from millrace.cli import main
from millrace.cli.ports import Doors
from millrace.wiring import Program


@asynccontextmanager
async def closed(_program: Program, host: str, port: int) -> AsyncGenerator[str]:
    """Serve nothing: no command here opens the doors."""
    yield f"http://{host}:{port}"


DOORS = Doors(free_address, closed)


class Ran(Struct, frozen=True):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return the one object on standard output."""
        return json.loads(self.out)


Millrace = Callable[..., Ran]


def run(arguments: tuple[str, ...]) -> int:
    """Run one command and return its status; what it prints is the caller's to catch."""
    return main.run(DOORS, list(arguments))
