"""The `millrace` command: the one place that joins the command line to the HTTP doors.

`cli` and `api` stand on one line and do not import each other; `cli` says what it needs in
`cli/ports.py`, and this file fits it. The doors are imported late: most commands do without them.
The command line itself is imported where Ctrl-C is met, because that takes a second.
"""

import sys
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millrace.wiring import Program

INTERRUPTED = 130


def _free_address(host: str, port: int) -> tuple[str, int]:
    from millrace.api.serve import free_address

    return free_address(host, port)


def _serving(program: "Program", host: str, port: int) -> AbstractAsyncContextManager[str]:
    from millrace.api.app import create_app
    from millrace.api.serve import serving

    return serving(create_app(program), host, port)


def _run() -> int:
    from millrace.cli.main import run
    from millrace.cli.ports import Doors

    return run(Doors(_free_address, _serving))


def main() -> None:
    """Run the command line and leave with its exit status."""
    try:
        status = _run()
    except KeyboardInterrupt:
        sys.stderr.write("ended by Ctrl-C\n")
        status = INTERRUPTED
    sys.exit(status)


if __name__ == "__main__":
    main()
