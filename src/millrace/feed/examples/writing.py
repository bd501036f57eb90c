"""Writes a folder of examples: four tables as Arrow files or Parquet, and what they say of themselves.

A folder is made beside its place and renamed, so that nobody ever reads half of one. The same
examples make the same bytes, and the same fingerprint; a folder that has them already is left alone.
Arrow files are not compressed, so that a reader maps them into memory and copies nothing.
"""

import hashlib
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from millrace.feed.examples.types import (
    FORMAT,
    MANIFEST,
    MEMBERS,
    MOMENTS,
    POSTS,
    WORDINGS,
    Manifest,
    MemberState,
    Moment,
    PostState,
    Wording,
    schemas,
)
from millrace.kernel.errors import InvalidError

Encoding: TypeAlias = Literal["arrow", "parquet"]
Row: TypeAlias = Wording | PostState | MemberState | Moment

ROWS_TOGETHER = {WORDINGS: 4_096, POSTS: 16_384, MEMBERS: 4_096, MOMENTS: 4_096}
"""Rows of one batch: what is held in memory before it is written."""
PIECE = 1 << 20


class Table:
    """One table on its way to a file. Rows are numbered in the order in which they come."""

    def __init__(self, name: str, file: Path, encoding: Encoding) -> None:
        self._arrow: Any = import_module("pyarrow")
        self._schema = schemas()[name]
        self._names: list[str] = self._schema.names
        self._together = ROWS_TOGETHER[name]
        self._rows: list[Row] = []
        self.count = 0
        if encoding == "arrow":
            self._file: Any = self._arrow.OSFile(str(file), "wb")
            self._writer: Any = self._arrow.ipc.new_file(self._file, self._schema)
        else:
            parquet: Any = import_module("pyarrow.parquet")
            self._file = self._arrow.OSFile(str(file), "wb")
            self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def add(self, row: Row) -> int:
        """Write a row by and by; return its number."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= self._together:
            self._flush()
        return self.count - 1

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [
            self._arrow.array(
                [getattr(row, name) for row in self._rows], self._schema.field(name).type
            )
            for name in self._names
        ]
        self._writer.write_batch(self._arrow.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows = []


class Tables(Struct, frozen=True):
    """The tables of one folder."""

    wordings: Table
    posts: Table
    members: Table
    moments: Table

    def close(self) -> None:
        """Finish every file."""
        for table in (self.wordings, self.posts, self.members, self.moments):
            table.close()


@contextmanager
def beside(folder: Path) -> Generator[Path]:
    """Lend an empty folder beside another one; it is gone when the block ends.

    Raises:
        InvalidError: there is something else in the place.
    """
    if (
        folder.exists()
        and not is_examples(folder)
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise InvalidError(
            f"{folder} is there, and is no folder of examples",
            field="DIR",
            value=str(folder),
            limit="a new or empty folder, or one that an earlier export made",
            next_step="name another folder",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.parent / f".{folder.name}.{os.getpid()}.new"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def opened(folder: Path, encoding: Encoding) -> Tables:
    """Return new tables in a folder."""
    found = {name: Table(name, folder / file, encoding) for name, file in files(encoding).items()}
    return Tables(found[WORDINGS], found[POSTS], found[MEMBERS], found[MOMENTS])


def files(encoding: Encoding) -> dict[str, str]:
    """Return the file of each table, by the table's name."""
    return {name: f"{name}.{encoding}" for name in (WORDINGS, POSTS, MEMBERS, MOMENTS)}


def finished(made: Path, folder: Path, manifest: Manifest) -> bool:
    """Put what was made into its place, durably; return whether it differs from what was there.

    Args:
        made: the new folder, with its tables; its manifest is written here.
        folder: the place.
        manifest: what it says of itself, with the fingerprint of the tables.
    """
    before = manifest_of(folder) if is_examples(folder) else None
    if before is not None and _same(before, manifest) and not _damaged(folder, before):
        return False
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (made / MANIFEST).write_bytes(text + b"\n")
    for file in [*made.iterdir(), made]:
        _flushed(file)
    aside = folder.parent / f".{folder.name}.{os.getpid()}.old"
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(aside)
    made.rename(folder)
    _flushed(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)
    return True


def is_examples(folder: Path) -> bool:
    """Return whether an export made a folder."""
    return (folder / MANIFEST).is_file() and FORMAT.encode() in (folder / MANIFEST).read_bytes()


def manifest_of(folder: Path) -> Manifest:
    """Read what a folder says of itself.

    Raises:
        InvalidError: there is no manifest, or one of another release.
    """
    try:
        found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as exc:
        raise InvalidError(
            f"{folder} is no folder of examples",
            field=MANIFEST,
            value=str(exc),
            limit=FORMAT,
            next_step="make one with `millrace train export DIR`",
        ) from exc
    if found.format != FORMAT:
        raise InvalidError(
            f"{folder} has examples of the format {found.format!r}",
            field="format",
            value=found.format,
            limit=FORMAT,
            next_step="export them again with this release",
        )
    return found


def fingerprint_of(folder: Path, tables: Mapping[str, str]) -> str:
    """Return the name of the tables' bytes; the tables by their names, in the order of these."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tables):
        file = folder / tables[name]
        found.update(f"{name} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while piece := content.read(PIECE):
                found.update(piece)
    return found.hexdigest()


def _same(before: Manifest, after: Manifest) -> bool:
    """Return whether two manifests say the same, but for when they were made."""
    return msgspec.structs.replace(before, made_at=after.made_at) == after


def _damaged(folder: Path, manifest: Manifest) -> bool:
    try:
        return fingerprint_of(folder, manifest.tables) != manifest.fingerprint
    except OSError:
        return True


def _flushed(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
