"""The `millrace` command: the one place that joins the command line to the HTTP doors.

`cli` and `api` stand on one line and do not import each other; `cli` says what it needs in
`cli/ports.py`, and this file fits it. The doors are imported late: most commands do without them.
"""

import sys
from contextlib import AbstractAsyncContextManager

from millrace.cli.main import run
from millrace.cli.ports import Doors
from millrace.wiring import Program


def _free_address(host: str, port: int) -> tuple[str, int]:
    from millrace.api.serve import free_address

    return free_address(host, port)


def _serving(program: Program, host: str, port: int) -> AbstractAsyncContextManager[str]:
    from millrace.api.app import create_app
    from millrace.api.serve import serving

    return serving(create_app(program), host, port)


def main() -> None:
    """Run the command line and leave with its exit status."""
    sys.exit(run(Doors(_free_address, _serving)))


if __name__ == "__main__":
    main()
