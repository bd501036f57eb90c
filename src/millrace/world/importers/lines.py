"""Rows of a JSON Lines or Parquet file, one after another, in bounded memory."""

import gzip
import re
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from millrace.world.types import (
    BATCH_ROWS,
    ROW_BYTES_MAX,
    Broken,
    Place,
    Reached,
    Reject,
    Skip,
    shortened,
)

JSON_LINES = ".jsonl"
JSON_LINES_GZ = ".jsonl.gz"
PARQUET = ".parquet"
SUFFIXES = (JSON_LINES, JSON_LINES_GZ, PARQUET)

REACHED_ROWS = 200
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_BYTE = re.compile(r"\(byte (\d+)\)")


class Line(msgspec.Struct, frozen=True):
    """One readable row: its place, its fields without those that are null, and how it looks."""

    place: Place
    fields: dict[str, Any]
    shown: str


LineEvent = Line | Reject | Skip | Broken | Reached


def lines_of(path: Path) -> Iterator[LineEvent]:
    """Yield every row of one file, and what is no row once, at its line."""
    yield from _parquet(path) if path.name.endswith(PARQUET) else _json_lines(path)


# ------------------------------------------------- JSON Lines


def _json_lines(path: Path) -> Iterator[LineEvent]:
    total = path.stat().st_size
    at = 0
    yield Reached(path.name, 0, total)
    try:
        with path.open("rb") as raw:
            zipped = path.name.endswith(JSON_LINES_GZ)
            file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if zipped else raw
            while line := file.readline(ROW_BYTES_MAX + 1):
                at += 1
                yield _decoded(Place(path.name, at), _whole(file, line))
                if at % REACHED_ROWS == 0:
                    yield Reached(path.name, raw.tell(), total)
    except (OSError, EOFError, zlib.error) as exc:
        yield Broken(path.name, f"after line {at}: it cannot be read any further: {exc}")
    yield Reached(path.name, total, total)


def _whole(file: BinaryIO, line: bytes) -> bytes | None:
    """Return the line, or None after passing over one that is too long."""
    if len(line) <= ROW_BYTES_MAX:
        return line
    while line and not line.endswith(b"\n"):
        line = file.readline(ROW_BYTES_MAX)
    return None


def _decoded(place: Place, line: bytes | None) -> LineEvent:
    if line is None:
        return _reject(place, 0, f"the line is longer than {ROW_BYTES_MAX:,} bytes", b"")
    text = line.removeprefix(b"\xef\xbb\xbf") if place.line == 1 else line
    if not text.strip():
        return Skip(place, "blank line")
    try:
        found = _OBJECT.decode(text)
    except RecursionError:
        return _reject(place, 0, "it is nested too deeply", line)
    except UnicodeDecodeError as exc:
        return _reject(place, exc.start + 1, "it is not UTF-8", line)
    except msgspec.DecodeError as exc:
        byte = _BYTE.search(str(exc))
        column = int(byte[1]) + 1 if byte else len(text.rstrip()) if "truncated" in str(exc) else 0
        return _reject(place, column, f"it is not a JSON object: {exc}", line)
    fields = {name: value for name, value in found.items() if value is not None}
    return Line(place, fields, shortened(text.decode("utf-8", "replace").strip()))


def _reject(place: Place, column: int, reason: str, line: bytes) -> Reject:
    shown = shortened(line.decode("utf-8", "replace").strip())
    return Reject(place.file, place.line, column, "", reason, shown)


# ------------------------------------------------- Parquet


def _parquet(path: Path) -> Iterator[LineEvent]:
    # Loaded late: most imports have no Parquet. pyarrow has no types.
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    at = 0
    try:
        with parquet.ParquetFile(path) as file:
            total = int(file.metadata.num_rows)
            yield Reached(path.name, 0, total)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for found in cast("list[dict[str, Any]]", batch.to_pylist()):
                    at += 1
                    yield _line(Place(path.name, at), found)
                yield Reached(path.name, at, total)
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as exc:
        reason = str(exc).split("\n", 1)[0][:300]
        yield Broken(path.name, f"after row {at}: it cannot be read any further: {reason}")


def _line(place: Place, found: dict[str, Any]) -> Line:
    fields = {name: value for name, value in found.items() if value is not None}
    shown = msgspec.json.encode(fields, enc_hook=str).decode("utf-8", "replace")
    return Line(place, fields, shortened(shown))
