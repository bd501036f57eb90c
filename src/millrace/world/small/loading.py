"""Loads the small community into a program."""

from pathlib import Path

from millrace.world.importers.directory import import_dir
from millrace.world.loader import silent
from millrace.world.ports import Rooms, Watch
from millrace.world.rejects import RejectsList
from millrace.world.types import ImportReport

FOLDER = Path(__file__).parent / "data"


async def load(program: Rooms, progress: Watch = silent) -> ImportReport:
    """Take the small community in; taking it in again changes nothing.

    Its times count back from the first time that it was loaded, which the database keeps as the
    date of its communities.

    Args:
        program: the rooms.
        progress: told of each file: its name, how much is read, and how much there is.
    """
    rejects = RejectsList()
    report = await import_dir(program, FOLDER, rejects=rejects, watch=progress)
    assert not rejects.rows, f"the small community does not fit its own format: {rejects.rows[0]}"
    return report
