"""The `<row .../>` elements of a Stack Exchange XML file, as a stream.

Expat reads line by line. A document type is refused where it begins, so that no entity can be
declared, expanded or fetched (decision 0060). A fault costs one row: the reader picks up at the
next line that begins a row.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

import msgspec

from millrace.world.types import ROW_BYTES_MAX, Broken, Place, Reached, Reject, shortened

REACHED_ROWS = 200
ROOT_BYTES_MAX = 64 << 10


class XmlRow(msgspec.Struct, frozen=True):
    """One row: where it stands and its attributes."""

    place: Place
    values: dict[str, str]

    @property
    def shown(self) -> str:
        """Return the row as the rejects file shows it."""
        return shortened(msgspec.json.encode(self.values).decode())


class _RefusedError(Exception):
    """The file is no dump of this kind, or carries a document type."""


class _FaultError(Exception):
    """One row cannot be read; the column is 0 where it is not known.

    nested: the fault is that the row before was never closed.
    """

    def __init__(self, reason: str, column: int = 0, *, nested: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column
        self.nested = nested


class _Reader:
    """One expat parser over lines; a fresh one is made after a fault."""

    def __init__(self, file: str, root: str) -> None:
        self.file = file
        self.root = root
        self.line = 0
        self.found: list[XmlRow] = []
        self.opened = False
        self.closed = False
        self.unfinished: tuple[int, bytes] | None = None  # where something began that has no end
        self._depth = 0
        self._pending = 0
        self._parser = self._fresh(None)

    def _fresh(self, encoding: str | None) -> expat.XMLParserType:
        parser = expat.ParserCreate(encoding)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        self._depth = 0
        self._pending = 0
        self.unfinished = None
        return parser

    def again(self) -> None:
        """Begin anew inside the root, after a fault."""
        self._parser = self._fresh("utf-8")
        self._parser.Parse(f"<{self.root}>".encode())

    def feed(self, line: bytes) -> None:
        """Read one line; its rows are in `found`.

        Raises:
            _FaultError: the line is no XML; names the column.
        """
        self._pending += len(line)
        if self._pending > ROW_BYTES_MAX:
            raise _FaultError(f"no row ends within {ROW_BYTES_MAX:,} bytes")
        try:
            self._parser.Parse(line)
        except expat.ExpatError as exc:
            raise _FaultError(f"it is not XML: {exc}", exc.offset + 1) from exc
        except (ValueError, LookupError) as exc:  # an encoding that Python does not know
            raise _FaultError(f"it is not XML: {exc}") from exc
        if self._pending and self.unfinished is None and line.strip():
            self.unfinished = (self.line, line)

    def ends_inside_a_row(self) -> bool:
        """Return whether something that is not blank was read after the last whole element."""
        try:
            self._parser.Parse(b"", True)  # noqa: FBT003 - expat takes it by place only
        except expat.ExpatError as exc:
            return exc.code in _INSIDE
        return False

    def _start(self, name: str, values: dict[str, str]) -> None:
        self._moved()
        self._depth += 1
        if self._depth == 1 and name != self.root:
            raise _RefusedError(f"its root is <{name[:60]}>, a dump has <{self.root}>")
        self.opened = True
        if self._depth > 2:
            raise _FaultError(f"<{name[:60]}> stands within another element", nested=True)
        if self._depth == 2 and name != "row":
            raise _FaultError(f"<{name[:60]}> stands where a row should")
        if self._depth == 2:
            self.found.append(XmlRow(Place(self.file, self.line), values))

    def _end(self, _name: str) -> None:
        self._moved()
        self._depth -= 1
        self.closed = self._depth == 0

    def _moved(self) -> None:
        self._pending = 0
        self.unfinished = None

    def _doctype(self, *_: object) -> None:
        raise _RefusedError("it has a document type (<!DOCTYPE ...>), which is never read")


_INSIDE = frozenset(
    expat.errors.codes[name]
    for name in (expat.errors.XML_ERROR_UNCLOSED_TOKEN, expat.errors.XML_ERROR_PARTIAL_CHAR)
)


def refusal(path: Path, root: str) -> str:
    """Return why this is no dump file with this root, or nothing when it is one."""
    reader = _Reader(path.name, root)
    read = 0
    try:
        with path.open("rb") as file:
            while not reader.opened:
                line = file.readline(ROOT_BYTES_MAX)
                read += len(line)
                if not line or read > ROOT_BYTES_MAX:
                    return f"there is no <{root}> in it"
                reader.feed(line)
    except _RefusedError as exc:
        return str(exc)
    except _FaultError as exc:
        # The root may stand before the fault in the same line; then the fault is a row's.
        return "" if reader.opened else exc.reason
    except OSError as exc:
        return f"it cannot be read: {exc}"
    return ""


def xml_rows(path: Path, root: str) -> Iterator[XmlRow | Reject | Broken | Reached]:
    """Yield every row of one file; what is no row is rejected once, at its line."""
    total = path.stat().st_size
    reader = _Reader(path.name, root)
    yield Reached(path.name, 0, total)
    rows = 0
    try:
        with path.open("rb") as file:
            for event in _lines(file, reader):
                yield event
                rows += 1
                if rows % REACHED_ROWS == 0:
                    yield Reached(path.name, file.tell(), total)
    except _RefusedError as exc:
        yield Broken(path.name, f"line {reader.line}: {exc}")
    except OSError as exc:
        yield Broken(path.name, f"line {reader.line}: it cannot be read any further: {exc}")
    yield Reached(path.name, total, total)


def _lines(file: BinaryIO, reader: _Reader) -> Iterator[XmlRow | Reject | Broken]:
    lost = False
    last = b""
    while line := file.readline(ROW_BYTES_MAX + 1):
        reader.line += 1
        if len(line) > ROW_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = file.readline(ROW_BYTES_MAX)
            reason = f"a line is longer than {ROW_BYTES_MAX:,} bytes"
            yield _fault(reader, reader.line, 0, reason, b"")
            continue
        if lost and not line.lstrip().startswith((b"<row", f"</{reader.root}".encode())):
            continue  # still the row that was rejected
        lost = False
        last = line
        began = reader.unfinished
        fault = _fed(reader, line)
        if fault is not None and (began or fault.nested) and line.lstrip().startswith(b"<row"):
            # The fault is that of the row before, which never ended: this one gets a fresh start.
            yield from _earlier(reader, began, fault)
            fault = _fed(reader, line)
        yield from reader.found
        reader.found.clear()
        if fault is not None:
            if reader.closed:
                reason = f"line {reader.line}: there is text after </{reader.root}>"
                yield Broken(reader.file, reason)
                return
            yield _fault(reader, reader.line, fault.column, fault.reason, line)
            reader.again()
            lost = True
    if reader.closed:
        return
    if not lost and reader.ends_inside_a_row():
        yield _fault(reader, reader.line, len(last), "the file ends within this row", last)
    yield Broken(reader.file, f"it is cut after line {reader.line}: </{reader.root}> is missing")


def _earlier(
    reader: _Reader, began: tuple[int, bytes] | None, fault: _FaultError
) -> Iterator[Reject]:
    """Reject what began on an earlier line, unless it was told already, and begin anew."""
    if began is not None:
        yield _fault(reader, began[0], 0, fault.reason, began[1])
    reader.found.clear()
    reader.again()


def _fed(reader: _Reader, line: bytes) -> _FaultError | None:
    try:
        reader.feed(line)
    except _FaultError as exc:
        return exc
    return None


def _fault(reader: _Reader, line: int, column: int, reason: str, text: bytes) -> Reject:
    shown = shortened(text.decode("utf-8", "replace").strip())
    return Reject(reader.file, line, column, "", reason, shown)
