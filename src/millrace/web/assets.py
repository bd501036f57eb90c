"""The files that pages load: read once, served from memory, named by their content."""

from importlib.resources import files

from msgspec import Struct

from millrace.kernel.errors import NotFoundError
from millrace.kernel.hashing import fingerprint

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(Struct, frozen=True):
    """One file: its content, its type, and a version that changes with the content."""

    content: bytes
    media_type: str
    version: str


class Assets:
    """Every file of `static/`. Nothing else can be asked for, so no path can climb out."""

    def __init__(self) -> None:
        self._assets: dict[str, Asset] = {}
        for file in files("millrace.web").joinpath("static").iterdir():
            suffix = "." + file.name.rpartition(".")[2]
            if suffix in TYPES:
                content = file.read_bytes()
                self._assets[file.name] = Asset(content, TYPES[suffix], fingerprint(content))

    def address(self, name: str) -> str:
        """Return the address of a file; it changes when the content does, so it may be kept."""
        return f"/static/{name}?v={self._assets[name].version}"

    def get(self, name: str) -> Asset:
        """Return a file.

        Raises:
            NotFoundError: `static/` has no such file; names it.
        """
        found = self._assets.get(name)
        if found is None:
            raise NotFoundError(
                f"there is no file {name[:80]!r} under /static",
                field="path",
                value=name[:80],
                next_step="reload the page; it names the files of the running version",
            )
        return found
