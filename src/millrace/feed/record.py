"""A served feed as it is logged: written in the newest formats, read in all of them.

Features as they were at serving are what a fit learns from. The formats are frozen (records/);
the first byte says which one it is. Format 1 had none: it begins with zstd's own magic number.
Format 4 is format 3 with what a member's vector was pooled from; who has nothing of that is written
in format 3.
"""

import msgspec
import zstandard
from msgspec.structs import replace

from millrace.feed.records import v1, v2, v3, v4
from millrace.feed.records.types import Change, Note, RankedPost, Record, RemovedPost
from millrace.feed.run import Run
from millrace.feed.types import Adjustment, SourceNote
from millrace.kernel.errors import MillraceError

__all__ = ["RankedPost", "Record", "RemovedPost", "changes", "decode", "encode", "notes", "of"]

LEVEL = 1  # of zstd: level 3 takes twice the time for some per cent
BYTES_MAX = 64 << 20
_COMPRESSOR = zstandard.ZstdCompressor(level=LEVEL)  # one thread records: the event loop's


def encode(run: Run) -> bytes:
    """Return the bytes of the record of a run that is over."""
    number, plain = _encoded(run)
    return bytes([number]) + _COMPRESSOR.compress(plain)


def of(run: Run) -> Record:
    """Return the record of a run, as somebody would read it who reads it from the log."""
    number, plain = _encoded(run)
    return READERS[number](plain)


def _encoded(run: Run) -> tuple[int, bytes]:
    """Return a record and the number of its format."""
    plain = v3.encode(run)
    pool = None if run.state is None else run.state.pool
    if pool is None or run.parts is None:
        return v3.FORMAT, plain
    return v4.FORMAT, v4.encode(plain, pool, run.parts)


def _pooled(plain: bytes) -> Record:
    """Read a record of format 4; what is none is a DecodeError."""
    body, pooled = v4.decode(plain)
    return replace(v3.decode(body), format=v4.FORMAT, pooled=pooled)


READERS = {v2.FORMAT: v2.decode, v3.FORMAT: v3.decode, v4.FORMAT: _pooled}


def decode(content: bytes) -> Record:
    """Read a record.

    Raises:
        MillraceError: another release wrote a format that this one does not know.
    """
    try:
        reader = READERS.get(content[0]) if content else None
        return v1.decode(_plain(content)) if reader is None else reader(_plain(content[1:]))
    except (msgspec.DecodeError, zstandard.ZstdError, ValueError) as exc:
        raise MillraceError(
            "a served feed has a format that this release cannot read",
            limit=f"formats 1 to {v4.FORMAT}",
            next_step="ask for a new feed",
        ) from exc


def notes(lines: list[Note]) -> list[SourceNote]:
    """Return sources as they were noted."""
    return [SourceNote(*line) for line in lines]


def changes(lines: list[Change]) -> list[Adjustment]:
    """Return adjustments as they were noted."""
    return [Adjustment(*line) for line in lines]


def _plain(content: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(content, max_output_size=BYTES_MAX)
