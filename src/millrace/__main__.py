"""The `millrace` command: the one place that joins the command line to the HTTP doors.

`cli` and `api` stand on one line and do not import each other; `cli` says what it needs in
`cli/ports.py`, and this file fits it.
"""

import sys

from millrace.cli.main import run
from millrace.cli.ports import Application, Doors
from millrace.wiring import Program


def _application(program: Program) -> Application:
    """Build the HTTP application, late: most commands do without it."""
    from millrace.api.app import create_app

    return create_app(program)


def main() -> None:
    """Run the command line and leave with its exit status."""
    sys.exit(run(Doors(_application)))


if __name__ == "__main__":
    main()
