"""What the command line needs of rooms that it may not import."""

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct

from millrace.wiring import Program

# An ASGI application. It is handed to the server as it stands, so its type is of no concern here.
Application: TypeAlias = Any


class Doors(Struct, frozen=True):
    """How to make the HTTP application of a program."""

    application: Callable[[Program], Application]
