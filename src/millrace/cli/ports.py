"""What the command line needs of rooms that it may not import."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from millrace.wiring import Program


class Doors(Struct, frozen=True):
    """How to open the HTTP doors.

    free_address: the address that can be listened on for a host and a port, 0 for any free one;
        asked before any work is done. One that cannot be used is a SetupError.
    serving: serves a program at a host and a port until the block ends; lends its URL.
    """

    free_address: Callable[[str, int], tuple[str, int]]
    serving: Callable[[Program, str, int], AbstractAsyncContextManager[str]]
