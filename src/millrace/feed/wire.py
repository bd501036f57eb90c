"""What a server and its embedding process say to each other: lines of JSON over two pipes.

Formats of one release: both are started from the same files, so nothing here outlives a deploy.
"""

from enum import StrEnum

import msgspec
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.types import FitReport
from millrace.kernel.errors import MillraceError, SetupError
from millrace.store.changes.types import StreamState

LINE_BYTES_MAX = 1 << 20


class Verb(StrEnum):
    """What a server asks for."""

    EMBED = "embed"
    SETTLE = "settle"
    FIT = "fit"


class Asked(Struct, frozen=True, kw_only=True):
    """A question.

    seconds: how long whoever asks waits to settle.
    version: of which encoder; empty for the one that the process began with.
    """

    number: int
    verb: Verb
    member: Key | None = None
    seconds: float = 0.0
    version: str = ""


class Told(Struct, frozen=True, kw_only=True, tag="told"):
    """The first line: which model makes the vectors."""

    version: str
    dims: int
    tokens_max: int
    history: PooledHistory | None = None


class Report(Struct, frozen=True, kw_only=True, tag="report"):
    """How freshness does, whenever that has changed, and every few seconds."""

    missing: int
    waiting: int
    lag: float
    failures: int
    stream: StreamState


class Failure(Struct, frozen=True, kw_only=True):
    """An error, as it is told to whoever asked."""

    message: str
    next_step: str | None
    field: str | None = None
    value: str | None = None


class Refused(Struct, frozen=True, kw_only=True, tag="refused"):
    """The last line of a process that cannot work here; a person has to mend something."""

    failure: Failure


class Answered(Struct, frozen=True, kw_only=True, tag="answered"):
    """The answer to a question: nothing else than its number is an answer too.

    vector, position: of a member; no vector where there is no such member.
    """

    number: int
    vector: bytes | None = None
    position: str = ""
    report: FitReport | None = None
    failure: Failure | None = None


Line = Told | Report | Refused | Answered

_questions = msgspec.json.Decoder(Asked)
_lines = msgspec.json.Decoder(Line)


def written(line: Line | Asked) -> bytes:
    """Return something that is said, as a line."""
    return msgspec.json.encode(line) + b"\n"


def question(line: bytes) -> Asked:
    """Return what a server asks."""
    return _questions.decode(line)


def read(line: bytes) -> Line:
    """Return what an embedding process says."""
    return _lines.decode(line)


def failure_of(exc: BaseException) -> Failure:
    """Return an error in words."""
    if isinstance(exc, MillraceError):
        value = None if exc.value is None else str(exc.value)
        return Failure(message=exc.message, next_step=exc.next_step, field=exc.field, value=value)
    return Failure(message=str(exc) or type(exc).__name__, next_step=None)


def setup(failure: Failure) -> SetupError:
    """Return the error of a process that cannot work here."""
    return SetupError(
        failure.message, field=failure.field, value=failure.value, next_step=failure.next_step
    )
