"""From messages to changes: whole transactions where they fit a batch, parts of those that do not.

Pure, like the decoder below it. Memory is bounded by two batches, whatever a transaction holds.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.store.changes.pgoutput import (
    Begin,
    Commit,
    Decoder,
    RowChange,
    Said,
    Truncated,
)
from millrace.store.changes.types import MESSAGES, Change, Operation, Value
from millrace.store.types import Position

TOMBSTONE = "tombstone"
VERSION = "system_version"
COMMUNITY = "community_id"
CHANGES_MAX = 2_000
BYTES_MAX = 8 << 20


class Parcel(Struct, frozen=True):
    """Changes that may go out together.

    lsn: everything committed up to here is in this parcel or an earlier one; None in the middle
        of a transaction.
    xids: the transactions of the changes, as the log numbers them.
    """

    changes: list[Change]
    lsn: int | None
    xids: frozenset[int]


class Transactions:
    """Takes the messages of one stream, and gives parcels."""

    def __init__(
        self,
        tables: Collection[str],
        keys: Mapping[str, tuple[str, ...]],
        here: Position,
        *,
        changes_max: int = CHANGES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """Begin at `here`; changes carry its cluster and timeline."""
        self._wanted = frozenset(tables)
        self._decoder = Decoder(self._wanted | {TOMBSTONE}, keys)
        self.here = here
        self._changes_max = changes_max
        self._bytes_max = bytes_max
        self._lsn = here.lsn  # everything up to here has been taken
        self._told = here.lsn  # and given
        self._ready: list[Change] = []
        self._ready_bytes = 0
        self._xids: set[int] = set()
        self._begin: Begin | None = None
        self._open: list[tuple[RowChange, int | None]] = []
        self._open_bytes = 0
        self._parted = 0  # changes of the open transaction that have gone out in parts
        self._versions: dict[tuple[str, str, str], int] = {}

    @property
    def full(self) -> bool:
        """Say whether a parcel has to go out before more is taken."""
        return (
            len(self._ready) + len(self._open) >= self._changes_max
            or self._ready_bytes + self._open_bytes >= self._bytes_max
        )

    def take(self, data: bytes) -> None:
        """Take one message; one that cannot be read is an InvalidError."""
        message = self._decoder.read(data)
        if isinstance(message, RowChange):
            self._row(message, len(data))
        elif isinstance(message, Begin):
            self._begin = message
            self._parted = 0
            self._versions.clear()
        elif isinstance(message, Commit):
            self._commit(message)
        elif isinstance(message, Truncated):
            for table in message.tables:
                if table in self._wanted:
                    self._add(RowChange(Operation.TRUNCATE, table, (), None, None), None, 0)
        elif isinstance(message, Said) and message.transactional and MESSAGES in self._wanted:
            after: dict[str, Value] = {"prefix": message.prefix, "content": message.content}
            self._add(RowChange(Operation.MESSAGE, MESSAGES, (), None, after), None, len(data))

    def seen(self, lsn: int) -> None:
        """Hear that the server has sent everything that was committed up to `lsn`."""
        if self._begin is None:
            self._lsn = max(self._lsn, lsn)

    def cut(self) -> Parcel | None:
        """Return what may go out now, or None where there is nothing new."""
        if self._ready or self._lsn > self._told:
            parcel = Parcel(self._ready, self._lsn, frozenset(self._xids))
            self._told = self._lsn
            self._ready, self._ready_bytes, self._xids = [], 0, set()
            return parcel
        if not self.full:
            return None
        assert self._begin is not None, "what is open belongs to a transaction"
        part = self._placed(self._begin, _within(self._begin))
        return Parcel(part, None, frozenset({self._begin.xid}))

    def _row(self, row: RowChange, size: int) -> None:
        if row.table == TOMBSTONE and row.after is not None:
            self._remember(row.after)
        if row.table not in self._wanted:
            return
        version: Value = None
        if row.after is not None:
            version = row.after.get(VERSION)
        elif row.op is Operation.DELETE:
            version = self._versions.pop(_tombstone_key(row), None)
        self._add(row, version if isinstance(version, int) else None, size)

    def _remember(self, tombstone: Mapping[str, Value]) -> None:
        """Keep what a tombstone says until the delete comes that wrote it, right behind."""
        about, version = str(tombstone.get("table_name")), tombstone.get(VERSION)
        if about in self._wanted and isinstance(version, int):
            key = (about, str(tombstone.get(COMMUNITY)), str(tombstone.get("key")))
            self._versions[key] = version

    def _add(self, row: RowChange, version: int | None, size: int) -> None:
        """Put a change into the open transaction.

        Raises:
            InvalidError: none is open.
        """
        if self._begin is None:
            raise InvalidError(
                "the change stream has a change outside of a transaction",
                field=row.table,
                next_step="report this with the version of PostgreSQL",
            )
        self._open.append((row, version))
        self._open_bytes += size

    def _commit(self, commit: Commit) -> None:
        """End the open transaction.

        Raises:
            InvalidError: none is open.
        """
        begin = self._begin
        if begin is None:
            raise InvalidError(
                "the change stream has a commit without a beginning",
                value=commit.end_lsn,
                next_step="report this with the version of PostgreSQL",
            )
        if self._open or self._parted:
            size = self._open_bytes
            lsn = _within(begin) if self._parted else commit.end_lsn
            self._ready += self._placed(begin, lsn)
            self._ready_bytes += size
            self._xids.add(begin.xid)
        self._lsn = max(self._lsn, commit.end_lsn)
        self._begin = None
        self._versions.clear()

    def _placed(self, begin: Begin, lsn: int) -> list[Change]:
        """Return what is open as changes at `lsn`, and forget it."""
        position = Position(self.here.cluster, self.here.timeline, lsn)
        changes = [
            Change(
                op=row.op,
                table=row.table,
                key=row.key,
                before=row.before,
                after=row.after,
                version=version,
                position=position,
                committed_at=begin.committed_at,
                number=number,
                transaction=begin.xid,
            )
            for number, (row, version) in enumerate(self._open, self._parted)
        ]
        self._parted += len(changes)
        self._open, self._open_bytes = [], 0
        return changes


def _within(begin: Begin) -> int:
    """Return a place inside a commit whose end is not known yet.

    Not its first byte: the transaction before it may end there, and what was made up to that end
    must be told from what has this commit in it.
    """
    return begin.commit_lsn + 1


def _tombstone_key(row: RowChange) -> tuple[str, str, str]:
    """Return what the trigger calls a row: its key without the community, unless it is one."""
    rest = row.key[1:] if len(row.key) > 1 else row.key
    return row.table, str((row.before or {}).get(COMMUNITY)), "/".join(map(str, rest))
