"""What a feed knows of its member beside the history: profile, vector and relations, in memory.

Read from the tables when a member is first asked for. An edit of the profile and a new vector are
worked in as they are committed; a follow, a block (of either side), a mute or a change of the
neighbours lets what is held go. So all of it is at most as old as the change stream lags, and never
older than the token of whoever asks.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from msgspec.structs import replace

from millrace.community.languages import code_of, primary
from millrace.community.types import Key, Relations
from millrace.feed.embeddings import Embeddings, Vector, unpacked
from millrace.feed.features import words
from millrace.feed.parts import FeedParts
from millrace.feed.repository import MemberRow
from millrace.store.cache import Bounds, CacheStatistics, InProcessCache, Loaded
from millrace.store.changes.types import UNCHANGED, Batch, Change, Operation, Row, Snapshot
from millrace.store.types import Position

TABLES = frozenset({"member", "member_embedding", "community", "follow", "block", "mute", "nearby"})
BOUNDS = Bounds(entries_max=20_000)
CODE = re.compile(r"[a-z]{2,3}")
SAID = ("display_name", "headline", "about", "skills", "place", "languages")


class Profile:
    """A standing member as the feed reads them, with the vector and what follows from the text."""

    __slots__ = ("languages", "row", "vector", "version", "words")

    def __init__(self, row: MemberRow, version: str) -> None:
        """Take a row with the vector of an encoder, and the encoder's version."""
        self.row = row
        self.version = version
        self.vector: Vector | None = None if row.vector is None else unpacked(row.vector)
        self._read()

    def _read(self) -> None:
        self.languages = languages_of(self.row)
        self.words = words(self.row.headline, *self.row.skills)

    def says(self, row: Row, version: int) -> None:
        """Take the member's row after a commit, unless a newer one is there."""
        if version > self.row.system_version:
            said = {name: row[name] for name in SAID if row[name] is not UNCHANGED}
            self.row = replace(self.row, system_version=version, **said)
            self._read()

    def embedded(self, row: Row, version: str) -> None:
        """Take the member's vector after a commit, unless one from a later place is there."""
        if version != self.version:
            return
        content, position = row["vector"], str(row["position"])
        if not isinstance(content, bytes) or lsn_of(position) < lsn_of(self.row.position):
            return
        self.vector = unpacked(content)
        self.row = replace(
            self.row,
            vector=content,
            position=position,
            source_version=cast("int", row["source_version"]),
            prompt_hash=cast("str", row["prompt_hash"]),
        )


class Profiles:
    """An in-memory consumer of the change stream that keeps profiles and relations of members."""

    def __init__(self, parts: FeedParts, embeddings: Embeddings, bounds: Bounds = BOUNDS) -> None:
        self._parts = parts
        self._embeddings = embeddings
        self._model = parts.encoder.version
        self._bounds = bounds
        self._applied: Position | None = None  # None while the stream is interrupted
        self._profiles = self._emptied()
        self._relations: InProcessCache[Key, Relations] = InProcessCache(
            tokens=parts.router, load=self._load_relations, bounds=bounds
        )
        self._appliers: dict[str, Callable[[Change], None]] = {
            "member": self._member,
            "member_embedding": self._member_embedding,
            "community": self._community,
            "follow": self._follow,
            "block": self._block,
            "mute": self._follow,
            "nearby": self._nearby,
        }
        assert self._appliers.keys() == TABLES, "every table has what applies it"

    def held(
        self, member: Key, position: Position | None
    ) -> tuple[Profile | None, Relations | None]:
        """Return what is held and counts for a reader who must see a position."""
        profile = self._profiles.held(member, position)
        relations = self._relations.held(member, position)
        return profile and profile.value, relations and relations.value

    async def of(self, member: Key, token: str = "") -> Profile | None:
        """Return a standing member's profile, or None, never older than the token."""
        return await self._profiles.read(member, token)

    async def relations(self, member: Key, token: str = "") -> Relations:
        """Return whom a member follows and must not meet, never older than the token."""
        found = await self._relations.read(member, token)
        assert found is not None, "a member without any relation has empty ones"
        return found

    def serve(self, version: str) -> None:
        """Hold the vectors of another encoder from now on; who is asked for is read again."""
        self._model = version
        self._profiles = self._emptied()
        if self._applied is not None:
            self._profiles.begin(self._applied)

    def _emptied(self) -> InProcessCache[Key, Profile]:
        """Return a cache for profiles with the vectors of the encoder that serves."""
        return InProcessCache(
            tokens=self._parts.router, load=self._load_profiles, bounds=self._bounds
        )

    def statistics(self) -> Mapping[str, CacheStatistics]:
        """Return how the caches do, by what they hold."""
        return {"profiles": self._profiles.statistics(), "relations": self._relations.statistics()}

    # ------------------------------------------------- from the tables

    async def _load_profiles(self, members: Sequence[Key]) -> Mapping[Key, Loaded[Profile]]:
        version = self._model
        rows = await asyncio.gather(
            *(self._embeddings.row(member, version=version) for member in members)
        )
        found = zip(members, rows, strict=True)
        return {member: Loaded(Profile(row, version)) for member, row in found if row is not None}

    async def _load_relations(self, members: Sequence[Key]) -> Mapping[Key, Loaded[Relations]]:
        found = await asyncio.gather(*(self._parts.relations.of(member) for member in members))
        return {member: Loaded(one) for member, one in zip(members, found, strict=True)}

    # ------------------------------------------------- from the stream

    @property
    def name(self) -> str:
        """Return the name for logs and metrics."""
        return "profiles"

    @property
    def tables(self) -> frozenset[str]:
        """Return the tables whose changes it wants."""
        return TABLES

    async def begin(self, snapshot: Snapshot) -> None:
        """Follow the stream from a snapshot on; members are loaded as they come."""
        self._applied = snapshot.position
        self._profiles.begin(snapshot.position)
        self._relations.begin(snapshot.position)

    def lost(self) -> None:
        """Hear that the stream is interrupted: from now on members are loaded for each request."""
        self._applied = None
        self._profiles.lost()
        self._relations.lost()

    async def apply(self, batch: Batch) -> None:
        """Take a batch, at once and whole: nothing is waited for."""
        for change in batch.changes:
            if change.op is Operation.TRUNCATE:
                self._profiles.forget_all(change.position)
                self._relations.forget_all(change.position)
            else:
                self._appliers[change.table](change)
        if batch.position is not None:
            self._applied = batch.position
            self._profiles.advance(batch.position)
            self._relations.advance(batch.position)

    def _member(self, change: Change) -> None:
        member, row, version = _key(change), change.after, change.version
        if row is None or version is None or row["removed_at"] is not None:
            self._profiles.invalidate(member, change.position)
        else:
            self._profiles.fold(member, lambda held: held.says(row, version), change.position)

    def _member_embedding(self, change: Change) -> None:
        member, row = _key(change), change.after
        version = str(change.key[2])
        if version != self._model:
            return
        if row is None:
            self._profiles.invalidate(member, change.position)
        else:
            self._profiles.fold(member, lambda held: held.embedded(row, version), change.position)

    def _community(self, change: Change) -> None:
        home = change.key[0]
        self._profiles.invalidate_where(lambda key, _: key.community_id == home, change.position)

    def _follow(self, change: Change) -> None:
        """Take a follow or a mute: it is known to the one who did it."""
        self._relations.invalidate(_key(change), change.position)

    def _block(self, change: Change) -> None:
        """Take a block: it holds both ways."""
        self._relations.invalidate(_key(change), change.position)
        self._relations.invalidate(_key(change, 2), change.position)

    def _nearby(self, change: Change) -> None:
        home = change.key[0]
        self._relations.invalidate_where(lambda key, _: key.community_id == home, change.position)


def languages_of(row: MemberRow) -> frozenset[str]:
    """Return the languages that the member reads, with that of the community; empty for any.

    A word that is not known ("some Klingon") says too little to leave posts out, so then every
    language passes. Regions say nothing about who can read what: `pt` and `pt-BR` are one.
    """
    codes = [code_of(text) or primary(text.strip()) for text in row.languages]
    if not codes or not all(CODE.fullmatch(code) for code in codes):
        return frozenset()
    return frozenset({*codes, primary(row.community_language)}) - {""}


def lsn_of(position: str | None) -> int:
    """Return a place of the log as PostgreSQL writes it as a number; 0 where there is none."""
    if not position:
        return 0
    high, _, low = position.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def _key(change: Change, start: int = 0) -> Key:
    """Return the member whom two columns of the key name."""
    return Key(cast("int", change.key[start]), cast("int", change.key[start + 1]))
