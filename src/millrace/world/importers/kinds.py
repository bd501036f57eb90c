"""The kinds of import that there are, by the names that `--import` and `millrace import` use."""

from pathlib import Path

from millrace.kernel.errors import InvalidError
from millrace.world.importers import deskdrop, directory, stackexchange
from millrace.world.loader import silent
from millrace.world.ports import Rooms, Watch
from millrace.world.rejects import RejectsFile
from millrace.world.types import ImportReport

KINDS = {
    directory.KIND: directory.import_dir,
    stackexchange.KIND: stackexchange.import_stackexchange,
    deskdrop.KIND: deskdrop.import_deskdrop,
}


async def bring(
    rooms: Rooms,
    kind: str,
    folder: Path,
    *,
    community: str = "",
    rejects: Path | None = None,
    watch: Watch = silent,
) -> ImportReport:
    """Import a folder, and write what is not taken to a rejects file.

    Args:
        rooms: the program.
        kind: `dir`, `stackexchange` or `deskdrop`.
        folder: what to import.
        community: external id of the community; what it defaults to depends on the kind.
        rejects: where rejected rows go; by default `<folder's name>.rejects.jsonl` here.
        watch: told of progress.

    Raises:
        InvalidError: there is no such kind. A folder that cannot be imported is one too.
    """
    work = KINDS.get(kind)
    if work is None:
        raise InvalidError(
            f"there is no import of kind {kind[:60]!r}",
            field="KIND",
            value=kind[:60],
            limit=" or ".join(KINDS),
            next_step="see `millrace import --help`",
        )
    with RejectsFile(rejects or default_rejects(folder)) as kept:
        report = await work(rooms, folder, rejects=kept, community=community, watch=watch)
        report.rejects_file = str(kept.path) if kept.count else ""
    return report


def default_rejects(folder: Path) -> Path:
    """Return where the rejected rows of a folder go: beside the caller, never into the folder."""
    return Path(f"{folder.absolute().name or 'import'}.rejects.jsonl")
