"""Where a tree of source code names flags, and which flags nobody names.

A reference is a string literal that is exactly a key: between two equal quotes. All literals of a
file are found in one pass and looked up in the set of keys, so the time does not depend on how
many flags there are. A key that a program puts together from parts is not seen, and a document
that mentions one is no reference.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from millrace.release.flags.ignored import NAME, Ignored
from millrace.release.flags.types import KEY_MAX

FILE_BYTES_MAX = 2 << 20
FILES_MAX = 200_000
DEPTH_MAX = 64
PLACES_PER_KEY_MAX = 100
UNKNOWN_MAX = 1_000
LINE_CHARACTERS_MAX = 160
HEAD_BYTES = 8_192
SLASH = ord("/")

# Code of others, and what tools keep. Told in the result, so that nobody wonders.
OTHERS = frozenset({
    ".git", ".hg", ".svn", ".bzr", ".tox", ".nox", ".venv", "venv", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".hypothesis", ".gradle", ".idea", ".next", ".cache", "__pycache__",
    "site-packages", "node_modules", "bower_components", "vendor", "third_party", "Pods",
    "Carthage", "DerivedData",
})  # fmt: skip
# What builds leave. Only where no `.gitignore` says what is made and what is written.
MADE = frozenset({"build", "dist", "target", "out", "coverage", "_build"})
# No code: pictures, archives, binaries, and documents, in which a flag is only talked about.
NO_CODE = frozenset({
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".svg", ".pdf", ".woff", ".woff2", ".ttf",
    ".otf", ".eot", ".mp3", ".mp4", ".mov", ".webm", ".zip", ".gz", ".bz2", ".xz", ".zst", ".tar",
    ".jar", ".whl", ".so", ".dll", ".dylib", ".exe", ".o", ".a", ".class", ".pyc", ".pyo", ".wasm",
    ".bin", ".parquet", ".sqlite", ".db", ".npy", ".npz", ".pt", ".safetensors", ".onnx", ".lock",
    ".map", ".md", ".rst", ".txt", ".adoc", ".csv", ".tsv", ".jsonl", ".log",
})  # fmt: skip

LITERAL = re.compile(rb"""(["'`])([^\s"'`\\]{1,%d})(?=\1)""" % (4 * KEY_MAX))
# How a flag is asked for: OpenFeature's SDKs in several languages, the facade, OFREP's address.
CALL = re.compile(
    rb"""(?:\b(?:get_?(?:boolean|string|integer|int|float|double|number|object)_?(?:value|details)"""
    rb"""|(?:boolean|string|int|float|object)value(?:details)?"""
    rb"""|use(?:suspense)?(?:boolean|string|number|object)?flag(?:value|details)?"""
    rb"""|flags\.(?:evaluate|resolve))(?:_?async)?"""
    rb"""\(\s*(?:[\w.]+(?:\(\))?\s*,\s*)?(?:\w+\s*[:=]\s*)?["'`]"""
    rb"""|/ofrep/v1/evaluate/flags/)([^\s"'`\\/{}$<>]{1,%d})["'`?]""" % (4 * KEY_MAX),
    re.IGNORECASE,
)
# One of these stands in each of them; most files have none, and are not searched for calls.
CALL_MARKS = (b"alue(", b"etails(", b"Flag(", b"sync(", b"flags.", b"/ofrep/")


class Reference(Struct, frozen=True):
    """A place that names a flag.

    file: below the folder that was asked about, with `/`. line: from 1. text: the line, trimmed.
    """

    key: str
    file: str
    line: int
    text: str


class Found(Struct, kw_only=True):
    """What a tree says about flags.

    references: of every key that was asked for, at most PLACES_PER_KEY_MAX each; counts: all.
    unknown: places that ask for a key that there is not, in a way that only flags are asked for.
    skipped: what was not read, by reason. incomplete: why it stopped early; empty otherwise.
    """

    references: dict[str, list[Reference]]
    counts: dict[str, int]
    unknown: list[Reference] = field(default_factory=list[Reference])
    files: int = 0
    read_bytes: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    incomplete: str = ""

    def unreferenced(self) -> list[str]:
        """Return the keys that no place names, unless the search stopped early."""
        return [] if self.incomplete else sorted(key for key, n in self.counts.items() if not n)

    def skip(self, why: str) -> None:
        """Count something that is not read."""
        self.skipped[why] = self.skipped.get(why, 0) + 1


class Layer(NamedTuple):
    """A `.gitignore` and the folder that it speaks about, as a prefix of paths."""

    prefix: str
    ignored: Ignored


def search(root: Path, keys: Iterable[str], *, files_max: int = FILES_MAX) -> Found:
    """Return where the code below `root` names the keys, and asks for others.

    Args:
        root: a folder.
        keys: of all flags that there are.
        files_max: so that a search of a whole disk ends.

    What cannot be read is counted as skipped; nothing is raised but for `root` itself.
    """
    known = sorted(set(keys))
    found = Found(references={key: [] for key in known}, counts=dict.fromkeys(known, 0))
    wanted = {key.encode(): key for key in known}
    for path, relative in _files(root, found):
        if found.files >= files_max:
            found.incomplete = f"there are more than {files_max:,} files: name a smaller folder"
            break
        data = _code(path, found)
        if data is not None:
            _look(data, relative, wanted, found)
    return found


def _look(data: bytes, file: str, wanted: dict[bytes, str], found: Found) -> None:
    """Put down what one file names."""
    lines = _Lines(data)
    for hit in LITERAL.finditer(data):
        key = wanted.get(hit[2])
        if key is not None:
            _put(found, lines.reference(key, file, hit.start(2)))
    if any(mark in data for mark in CALL_MARKS):
        _look_at_calls(data, file, wanted, found)


def _look_at_calls(data: bytes, file: str, wanted: dict[bytes, str], found: Found) -> None:
    """Put down keys that there are not, and those in addresses, which are no literals."""
    lines = _Lines(data)
    for hit in CALL.finditer(data):
        key = wanted.get(hit[1])
        if key is None and len(found.unknown) < UNKNOWN_MAX:
            name = hit[1].decode(errors="replace")
            found.unknown.append(lines.reference(name, file, hit.start(1)))
        elif key is not None and data[hit.start(1) - 1] == SLASH:
            _put(found, lines.reference(key, file, hit.start(1)))


def _put(found: Found, place: Reference) -> None:
    """Count a place, and keep it where there are not too many of its key."""
    found.counts[place.key] += 1
    if len(found.references[place.key]) < PLACES_PER_KEY_MAX:
        found.references[place.key].append(place)


class _Lines:
    """The lines of a file, counted only as far as somebody asks, in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._counted = 0
        self._line = 1

    def reference(self, key: str, file: str, at: int) -> Reference:
        """Return the place of a byte, which must not be before the last one asked for."""
        self._line += self._data.count(b"\n", self._counted, at)
        self._counted = at
        start = self._data.rfind(b"\n", 0, at) + 1
        end = self._data.find(b"\n", at)
        # A minified file is one line: only what is around the key is shown.
        start = max(start, at - LINE_CHARACTERS_MAX // 2)
        whole = self._data[start : len(self._data) if end < 0 else end]
        text = whole[:LINE_CHARACTERS_MAX].decode(errors="replace").strip()
        return Reference(key, file, self._line, text)


def _code(path: str, found: Found) -> bytes | None:
    """Return a file's text, or None where it is none, or not code."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a Path for each of 100,000 files costs more
            if os.fstat(file.fileno()).st_size > FILE_BYTES_MAX:
                found.skip(f"files over {FILE_BYTES_MAX >> 20} MiB")
                return None
            data = file.read(FILE_BYTES_MAX)
    except OSError:
        found.skip("files that cannot be read")
        return None
    if b"\0" in data[:HEAD_BYTES]:
        found.skip("binary files")
        return None
    if path.endswith(".json") and _is_definitions(data):
        found.skip("files of flag definitions")
        return None
    found.files += 1
    found.read_bytes += len(data)
    return data


def _is_definitions(data: bytes) -> bool:
    """Return whether this is flagd's JSON, where flags are defined and not used."""
    if b'"flags"' not in data or b'"variants"' not in data:
        return False
    try:
        document: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(document, dict) and "flags" in document


def _files(root: Path, found: Found) -> Iterator[tuple[str, str]]:
    """Yield every file that may be code, as its path and as it is called below `root`.

    Raises:
        OSError: `root` is no folder that can be read.
    """
    base, layers = _above(root)
    pending: list[tuple[str, str, list[Layer], int]] = [(str(root), "", layers, 0)]
    while pending:
        folder, prefix, layers, depth = pending.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            if not prefix:
                raise  # the folder that was asked about, and not one in it
            found.skip("folders that cannot be read")
            continue
        layers = _with_layer(inside, base + prefix, layers)
        folders: list[tuple[str, str, list[Layer], int]] = []
        for entry in inside:
            name = prefix + entry.name
            if entry.is_symlink():
                continue
            if entry.is_dir():
                if _enters(entry, base + name, layers, found, depth):
                    folders.append((entry.path, name + "/", layers, depth + 1))
            elif os.path.splitext(entry.name)[1].lower() in NO_CODE:  # noqa: PTH122 - as above
                found.skip("documents, pictures and archives")
            elif _ignored(base + name, layers):
                found.skip("ignored files")
            else:
                yield entry.path, name
        pending.extend(reversed(folders))


def _enters(
    entry: os.DirEntry[str], name: str, layers: list[Layer], found: Found, depth: int
) -> bool:
    """Return whether the walk goes into a folder; counts it where not."""
    if entry.name in OTHERS or (entry.name in MADE and not layers) or _has_python(entry.path):
        found.skip(f"folders named {entry.name}")
        return False
    if _ignored(name + "/", layers):
        found.skip("ignored folders")
        return False
    if depth >= DEPTH_MAX:
        found.incomplete = f"folders are more than {DEPTH_MAX} deep at {name}"
        return False
    return True


def _has_python(folder: str) -> bool:
    """Return whether this is a virtual environment, whatever its name."""
    return os.path.exists(os.path.join(folder, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - as above


def _ignored(path: str, layers: list[Layer]) -> bool:
    """Return what the innermost file says that says anything."""
    for prefix, ignored in reversed(layers):
        verdict = ignored.verdict(path[len(prefix) :])
        if verdict is not None:
            return verdict
    return False


def _with_layer(inside: list[os.DirEntry[str]], prefix: str, layers: list[Layer]) -> list[Layer]:
    for entry in inside:
        if entry.name == NAME and entry.is_file(follow_symlinks=False):
            return [*layers, Layer(prefix, _read(Path(entry.path)))]
    return layers


def _above(root: Path) -> tuple[str, list[Layer]]:
    """Return where `root` is in its checkout, as a prefix, and what the folders above it ignore."""
    whole = root.resolve()
    for top in [whole, *whole.parents][:DEPTH_MAX]:
        if (top / ".git").exists():
            break
    else:
        return "", []
    layers = [Layer("", _read(top / ".git/info/exclude"))]
    between = reversed([folder for folder in whole.parents if folder.is_relative_to(top)])
    layers += [
        Layer(_prefix(folder, top), _read(folder / NAME))
        for folder in between
        if (folder / NAME).is_file()
    ]
    return _prefix(whole, top), layers


def _prefix(folder: Path, top: Path) -> str:
    relative = folder.relative_to(top).as_posix()
    return "" if relative == "." else relative + "/"


def _read(path: Path) -> Ignored:
    """Return the patterns of a file; none where it cannot be read."""
    try:
        return Ignored(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return Ignored([])
