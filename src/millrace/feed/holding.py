"""The encoders whose vectors this process holds, and the moment at which another one serves.

A consumer of the change stream, behind the one that keeps the catalogue. An encoder that is ready
gets an index beside the one that serves, filled from the tables while the stream goes on. When the
table says that it serves, it does from one request to the next, here as soon as its index is full:
whoever began with the other one ends with it. One that is retired is let go.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.catalogue import Catalogue
from millrace.feed.encoder_versions import NEWEST, PACKAGED, EncoderVersion, State
from millrace.feed.indexing import Indexing, unpacked_rows
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES
from millrace.kernel.errors import MillraceError
from millrace.store.changes.types import Batch, Change, Operation, Snapshot

TABLE = "encoder_version"
STRETCH = 2_000  # vectors of one read
RETRY_SECONDS = 2.0
LISTED = (State.READY, State.SERVING)

logger = logging.getLogger(__name__)


class VectorRow(Struct, frozen=True):
    """A post's vector."""

    community_id: int
    post_id: int
    vector: bytes

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.post_id)


class Held(Struct, frozen=True):
    """An encoder as far as whoever serves needs to know of it."""

    version: str
    name: str
    directory: str
    dims: int
    state: State
    added_at: datetime


class Holding:
    """An in-memory consumer of the change stream that keeps an index for each encoder."""

    def __init__(
        self,
        parts: FeedParts,
        catalogue: Catalogue,
        indexing: Indexing,
        switched: Callable[[], None],
    ) -> None:
        """Take where vectors go.

        Args:
            parts: the feed's surroundings.
            catalogue: has the indexes.
            indexing: follows the vectors.
            switched: is called when another encoder serves, in the same breath.
        """
        self._parts = parts
        self._catalogue = catalogue
        self._indexing = indexing
        self._switched = switched
        self._known: dict[str, Held] = {}
        self._full: set[str] = {catalogue.version}
        self._filling: dict[str, asyncio.Task[None]] = {}

    @property
    def name(self) -> str:
        """Return the name for logs and metrics."""
        return "encoders"

    @property
    def tables(self) -> frozenset[str]:
        """Return the tables whose changes it wants."""
        return frozenset({TABLE})

    async def begin(self, snapshot: Snapshot) -> None:
        """Hold what the table says. What is not the one that serves here is filled anew."""
        self.lost()
        rows = await snapshot.session.rows(QUERIES["encoder_versions"], EncoderVersion)
        self._known = {row.version: _held(row) for row in rows}
        for version in self._catalogue.indexes.keys() - {self._catalogue.version}:
            self._catalogue.drop(version)
        self._full = {self._catalogue.version}
        self._heed()

    async def apply(self, batch: Batch) -> None:
        """Take a batch, at once and whole: nothing is waited for.

        Raises:
            MillraceError: the table was emptied; everything is to be made anew from a snapshot.
        """
        for change in batch.changes:
            if change.op is Operation.TRUNCATE:
                raise MillraceError(f"table {TABLE} was emptied: the indexes begin anew")
            self._take(change)
        if batch.changes:
            self._heed()

    def lost(self) -> None:
        """Fill no more: what is held serves on, and the stream begins anew."""
        for version in list(self._filling):
            self._stop_filling(version)

    def of(self, name: str) -> str | None:
        """Return the version that a flag names, None where its vectors are not all here."""
        return self._catalogue.called.get(name)

    def bytes_held(self) -> dict[str, int]:
        """Return how much memory the vectors of each encoder take, at the least."""
        return {
            version: index.capacity * index.dims * 5  # four bytes each, and one for a first look
            for version, index in self._catalogue.indexes.items()
        }

    def _take(self, change: Change) -> None:
        version, row = str(change.key[0]), change.after
        if row is None:
            self._known.pop(version, None)
            return
        self._known[version] = Held(
            version=version,
            name=str(row["name"]),
            directory=str(row["directory"]),
            dims=int(str(row["dims"])),
            state=State(str(row["state"])),
            added_at=_moment(row["added_at"]),
        )

    def _heed(self) -> None:
        """Do what the table says: hold, serve, let go."""
        catalogue = self._catalogue
        held = {one.version: one for one in self._known.values() if one.state in LISTED}
        for version, one in held.items():
            if version not in catalogue.indexes:
                self._fill(one)
        serving = next((one for one in held.values() if one.state is State.SERVING), None)
        others = self._full - {catalogue.version}
        if serving is not None and serving.version in others:
            logger.info("encoder %r serves from now on", serving.name)
            catalogue.serve(serving.version)
            self._switched()
        for version in catalogue.indexes.keys() - held.keys() - {catalogue.version}:
            self._stop_filling(version)
            self._full.discard(version)
            catalogue.drop(version)
        catalogue.called = self._names(held)

    def _names(self, held: dict[str, Held]) -> dict[str, str]:
        """Return what a flag may call the encoders whose vectors are all here."""
        full = [one for one in held.values() if one.version in self._full]
        names = {one.version: one.version for one in full}
        names |= {one.name: one.version for one in full}
        packaged = [one for one in full if not one.directory]
        if packaged:  # there are two where its histories came in otherwise before
            names[PACKAGED] = max(packaged, key=lambda one: one.added_at).version
        if full:
            names[NEWEST] = max(full, key=lambda one: one.added_at).version
        return names

    # ------------------------------------------------- an index beside

    def _fill(self, one: Held) -> None:
        self._catalogue.hold(one.version, one.dims)
        self._indexing.watch(one.version)  # before the stream goes on
        task = asyncio.create_task(self._filled(one.version))
        self._filling[one.version] = task
        task.add_done_callback(lambda done: self._over(one.version, done))

    def _over(self, version: str, done: "asyncio.Task[None]") -> None:
        if self._filling.get(version) is done:
            del self._filling[version]
        if not done.cancelled() and (error := done.exception()) is not None:
            # A fault: nobody is given this encoder here. The others serve on.
            logger.error("the index of encoder %s is not filled", version, exc_info=error)

    def _stop_filling(self, version: str) -> None:
        self._indexing.unwatch(version)
        task = self._filling.pop(version, None)
        if task is not None:
            task.cancel()

    async def _filled(self, version: str) -> None:
        """Fill an index from the tables, until it is full; an outage is waited for."""
        while True:
            try:
                await self._read(version)
            except (MillraceError, OSError) as exc:
                logger.warning("the vectors of encoder %s are read again: %s", version, exc)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._indexing.unwatch(version)
        self._full.add(version)
        self._heed()

    async def _read(self, version: str) -> None:
        """Read every vector of a version, but for those that the stream told meanwhile."""
        newer = self._indexing.watch(version)
        after = Key(0, 0)
        while True:
            async with self._parts.router.read() as session:
                rows = await session.rows(
                    QUERIES["vectors_of_version"],
                    VectorRow,
                    model_version=version,
                    community_id=after.community_id,
                    after=after.id,
                    limit=STRETCH,
                )
            older = [row for row in rows if row.key not in newer]
            vectors = unpacked_rows([row.vector for row in older])
            self._catalogue.put_vectors([row.key for row in older], vectors, version)
            index = self._catalogue.indexes.get(version)
            if index is not None:  # what the first search would have to make, where nobody waits
                await asyncio.to_thread(index.prepare)
            if len(rows) < STRETCH:
                return
            after = rows[-1].key


def _held(row: EncoderVersion) -> Held:
    return Held(row.version, row.name, row.directory, row.dims, row.state, row.added_at)


def _moment(value: object) -> datetime:
    assert isinstance(value, datetime), f"{value!r} is no moment"
    return value
