"""The mean vectors that are taken away where histories are pooled: made once, known to all.

Every server takes the same away, else one member would have several vectors. So whoever embeds makes
them from a bounded sample of the vectors of each encoder, when their number grew by a half and once a
day, and writes them into a table of the publication, which servers follow.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
from msgspec import Struct

from millrace.feed.embeddings import Embeddings, packed
from millrace.feed.parts import FeedParts
from millrace.feed.pooled_history import Averages, PooledHistory, Vectors
from millrace.feed.repository import QUERIES
from millrace.feed.slot_table import microseconds
from millrace.kernel.errors import MillraceError
from millrace.store.changes.types import Batch, Operation, Row, Snapshot
from millrace.store.router import Router

SAMPLE = 4_096  # vectors of each kind; their mean is true to a hundredth of its length
UNKNOWN = 20
"""So many vectors of nothing are counted with: the mean of a handful is a text, not what all share."""
GROWTH = 0.5
AGE = timedelta(days=1)
LOOK_SECONDS = 0.5
RETRY_SECONDS = 2.0
TABLES = frozenset({"encoder_version", "encoder_averages"})

logger = logging.getLogger(__name__)


class AveragesRow(Struct, frozen=True, kw_only=True):
    """The averages of an encoder as they are stored, with how many vectors there were then."""

    model_version: str
    posts: bytes
    profiles: bytes
    posts_counted: int
    profiles_counted: int
    made_at: datetime


class Counted(Struct, frozen=True):
    """How many vectors there are."""

    posts: int
    profiles: int


class VectorRow(Struct, frozen=True):
    """A stored vector."""

    vector: bytes


class FormRow(Struct, frozen=True):
    """An encoder and how it pools histories."""

    version: str
    history: PooledHistory | None


class Known(Struct, frozen=True):
    """How an encoder's histories are pooled, and what is taken away.

    how: None where a member's prompt shows the history. made_at: microseconds since 1970; 0 for none.
    """

    how: PooledHistory | None
    averages: Averages
    made_at: int


async def read(router: Router, version: str, dims: int) -> tuple[Averages, int]:
    """Return the averages of an encoder as the table has them, and when they were made.

    Args:
        router: of the installation.
        version: of the encoder.
        dims: the length of its vectors.
    """
    async with router.read() as session:
        rows = await session.rows(QUERIES["encoder_averages"], AveragesRow)
    for row in rows:
        if row.model_version == version:
            return _averages(row.posts, row.profiles), microseconds(row.made_at)
    return Averages.nothing(dims), 0


class AveragesBook:
    """An in-memory consumer of the change stream that knows how every encoder pools histories."""

    def __init__(self, version: str, how: PooledHistory | None) -> None:
        """Take the encoder that the process began with, for before the stream has begun."""
        self._how: dict[str, PooledHistory | None] = {version: how}
        self._averages: dict[str, tuple[Averages, int]] = {}

    def of(self, version: str, dims: int) -> Known:
        """Return what is known of an encoder whose vectors have so many numbers."""
        averages, made_at = self._averages.get(version) or (Averages.nothing(dims), 0)
        return Known(self._how.get(version), averages, made_at)

    @property
    def name(self) -> str:
        """Return the name for logs and metrics."""
        return "averages"

    @property
    def tables(self) -> frozenset[str]:
        """Return the tables whose changes it wants."""
        return TABLES

    async def begin(self, snapshot: Snapshot) -> None:
        """Know what the tables say."""
        session = snapshot.session
        forms = await session.rows(QUERIES["encoder_versions"], FormRow)
        rows = await session.rows(QUERIES["encoder_averages"], AveragesRow)
        self._how |= {row.version: row.history for row in forms}
        self._averages = {
            row.model_version: (_averages(row.posts, row.profiles), microseconds(row.made_at))
            for row in rows
        }

    def lost(self) -> None:
        """Nothing to do: what is known serves on."""

    async def apply(self, batch: Batch) -> None:
        """Take a batch, at once and whole: nothing is waited for.

        Raises:
            MillraceError: a table was emptied; everything is to be made anew from a snapshot.
        """
        for change in batch.changes:
            if change.op is Operation.TRUNCATE:
                raise MillraceError(f"table {change.table} was emptied: the averages begin anew")
            version, row = str(change.key[0]), change.after
            if change.table == "encoder_averages":
                self._take(version, row)
            elif row is not None:
                text = row["history"]
                self._how[version] = (
                    msgspec.json.decode(text, type=PooledHistory) if isinstance(text, str) else None
                )

    def _take(self, version: str, row: Row | None) -> None:
        if row is None:
            self._averages.pop(version, None)
            return
        posts, profiles, made_at = row["posts"], row["profiles"], row["made_at"]
        if not isinstance(posts, bytes) or not isinstance(profiles, bytes):
            return  # a value that did not change is left out: then the other row was the same
        assert isinstance(made_at, datetime), f"{made_at!r} is no moment"
        self._averages[version] = (_averages(posts, profiles), microseconds(made_at))


class AveragesMaker:
    """Makes the averages of encoders that pool histories, for as long as it runs."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts
        self._made: dict[str, AveragesRow] = {}
        self._since: dict[str, Counted] = {}  # what had been stored here when they were made
        self.current: Mapping[str, Embeddings] = {}
        """Whose vectors are made, by version; whoever knows puts it here."""

    async def run(self) -> None:
        """Make what is due until cancelled; what fails is tried again."""
        while True:
            try:
                await self.look()
            except (MillraceError, OSError) as exc:
                logger.warning("averages are made again: %s", exc)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Make what is due."""
        for version, embeddings in list(self.current.items()):
            if embeddings.encoder.history is None:
                continue
            if version not in self._since:
                await self._recall(version)
            stored = Counted(*embeddings.stored)
            known, since = self._made.get(version), self._since.get(version)
            if due(known, since, stored, self._parts.clock.now()):
                await self.make(embeddings)
                self._since[version] = stored

    async def make(self, embeddings: Embeddings) -> None:
        """Make and store the averages of an encoder, where it has any vectors."""
        version, router = embeddings.version, self._parts.router
        async with router.read() as session:
            count = await session.row(QUERIES["count_vectors"], Counted, model_version=version)
        assert count is not None, "a count is a row"
        if not count.posts and not count.profiles:
            return
        dims = embeddings.encoder.dims
        posts = await self._mean("sample_posts", version, count.posts, dims)
        profiles = await self._mean("sample_profiles", version, count.profiles, dims)
        row = AveragesRow(
            model_version=version,
            posts=packed(posts),
            profiles=packed(profiles),
            posts_counted=count.posts,
            profiles_counted=count.profiles,
            made_at=self._parts.clock.now(),
        )
        async with router.write() as session:
            await session.run(QUERIES["keep_averages"], **msgspec.structs.asdict(row))
        self._made[version] = row

    async def _recall(self, version: str) -> None:
        """Read what was made before this process began."""
        async with self._parts.router.read() as session:
            rows = await session.rows(QUERIES["encoder_averages"], AveragesRow)
        self._made |= {row.model_version: row for row in rows if row.model_version == version}
        if version in self._made:
            self._since[version] = Counted(0, 0)

    async def _mean(self, query: str, version: str, count: int, dims: int) -> Vectors:
        """Return the mean of a sample of so many vectors, and of `UNKNOWN` of nothing."""
        if not count:
            return np.zeros(dims, np.float32)
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES[query],
                VectorRow,
                model_version=version,
                percent=min(100.0, 100.0 * SAMPLE / count),
                limit=2 * SAMPLE,
            )
        return mean([row.vector for row in rows], dims)


def mean(contents: Sequence[bytes], dims: int) -> Vectors:
    """Return the mean of stored vectors and of `UNKNOWN` of nothing. Shape: (dims,)."""
    if not contents:
        return np.zeros(dims, np.float32)
    rows = np.frombuffer(b"".join(contents), dtype="<f2").reshape(-1, dims)
    total = rows.sum(axis=0, dtype=np.float64)
    return (total / (len(rows) + UNKNOWN)).astype(np.float32)


def due(known: AveragesRow | None, before: Counted | None, stored: Counted, now: datetime) -> bool:
    """Return whether averages are to be made again.

    Args:
        known: those that there are.
        before: how many vectors this process had stored when they were looked at; None for never.
        stored: how many it has stored by now.
        now: the moment.
    """
    if before is None:
        return True
    if known is None:  # there was nothing to make them of
        return stored != before
    posts, profiles = stored.posts - before.posts, stored.profiles - before.profiles
    return (
        now - known.made_at >= AGE
        or posts >= GROWTH * (known.posts_counted + UNKNOWN)
        or profiles >= GROWTH * (known.profiles_counted + UNKNOWN)
    )


def _averages(posts: bytes, profiles: bytes) -> Averages:
    """Return averages as they are stored: shorter than one, so they stay as long as they are."""
    return Averages(_whole(posts), _whole(profiles))


def _whole(content: bytes) -> Vectors:
    return np.frombuffer(content, dtype="<f2").astype(np.float32)
