"""Nouns of an import: rows on their way in, and the report of what became of them."""

from typing import TypeAlias

from msgspec import Struct, field

from millrace.community.types import (
    CommentDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
)

Draft: TypeAlias = (
    MemberDraft | PostDraft | CommentDraft | FollowDraft | ImpressionDraft | EngagementDraft
)

BATCH_ROWS = 500
"""Rows that are taken together. Each verb takes its part of them in one transaction."""

ROW_BYTES_MAX = 4 << 20
"""The longest line that is read; a longer one is rejected unread."""

SHOWN_MAX = 300
"""How much of a rejected row is written down."""

EXIT_TAKEN = 0
EXIT_BROKEN = 7
EXIT_REJECTED = 8


class Place(Struct, frozen=True):
    """Where a row stands: a file's name and a line (a Parquet file counts rows), from 1."""

    file: str
    line: int


class Row(Struct, frozen=True):
    """One readable row and what it says: it is taken when every draft of it is."""

    place: Place
    community: str
    drafts: tuple[Draft, ...]
    shown: str


class Reject(Struct, frozen=True):
    """A row that was not taken. `column` is 0 where only the field is known."""

    file: str
    line: int
    column: int
    field: str
    reason: str
    row: str


class Skip(Struct, frozen=True):
    """A row that is left out by a rule of the import, not by a fault."""

    place: Place
    reason: str


class Broken(Struct, frozen=True):
    """A file that cannot be read any further."""

    file: str
    reason: str


class Reached(Struct, frozen=True):
    """How far the reading of a file is; in bytes, or in rows for Parquet."""

    file: str
    done: int
    total: int


Event: TypeAlias = Row | Reject | Skip | Broken | Reached
"""What a reader tells of a file, in the order of the file."""


class FileReport(Struct):
    """What became of one file: rows = taken + rejected + the sum of skipped."""

    rows: int = 0
    taken: int = 0
    rejected: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    broken: str = ""


class NounReport(Struct):
    """What became of the drafts of one noun."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0


class ImportReport(Struct, kw_only=True):
    """What an import did.

    communities: external id to community id.
    ignored: files of the folder that are no part of the format.
    rejects_file: where the rejected rows are, or empty when there is none.
    learned: whether a feed was fitted on what came in; it is not where nothing new came.
    not_learned: why it could not be fitted, or empty.
    """

    kind: str
    folder: str
    communities: dict[str, int] = field(default_factory=dict[str, int])
    files: dict[str, FileReport] = field(default_factory=dict[str, FileReport])
    nouns: dict[str, NounReport] = field(default_factory=dict[str, NounReport])
    ignored: list[str] = field(default_factory=list[str])
    rejects_file: str = ""
    learned: bool = False
    not_learned: str = ""
    seconds: float = 0.0

    @property
    def rejected(self) -> int:
        """Return how many rows were not taken."""
        return sum(one.rejected for one in self.files.values())

    @property
    def exit_status(self) -> int:
        """Return 0 when all was taken, 7 when a file is broken, 8 when rows were rejected."""
        if any(one.broken for one in self.files.values()):
            return EXIT_BROKEN
        return EXIT_REJECTED if self.rejected else EXIT_TAKEN


def shortened(text: str) -> str:
    """Return the start of a row, as it is written to the rejects file."""
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"
