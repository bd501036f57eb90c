"""What ranking needs to know of every standing post, column by column.

The columns lie beside the slots of the index, so that a candidate is a number and its features are
a gather. Numbers of an author are kept once, beside the index's number of the author. A post of
somebody who is banned, or a hidden one, keeps its slot and is not found: it can come back.

It is derived: the change stream fills it (indexing.py), and it may be behind the tables by as much
as the stream is. Whoever shows a post asks the tables once more.

There may be an index for each of several encoders. They share one table of slots, so the columns are
those of all; one serves whoever is not told otherwise (holding.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import (
    TOPICS_MAX,
    Audience,
    Key,
    MemberCounts,
    PostCounts,
    PostKind,
)
from millrace.feed.coarse import Coarse
from millrace.feed.features import KIND_NUMBER, long_words, words
from millrace.feed.first_look import LookMaker
from millrace.feed.index import PostIndex, Slots, Vector
from millrace.feed.slot_table import CAPACITY_MIN, IndexEntry, doubled

KINDS = tuple(PostKind)
POST_COUNTS = PostCounts.__struct_fields__
AUTHOR_COUNTS = MemberCounts.__struct_fields__
AUTHORS_MIN = 1_024
NO_TOPIC = 0


class PostFacts(Struct, frozen=True, kw_only=True):
    """A post as ranking needs it.

    language: without its region. hidden: a moderator took it out of sight.
    """

    key: Key
    author: Key
    kind: PostKind
    topics: Sequence[str]
    language: str
    audience: Audience
    created_at: datetime
    hidden: bool = False


class AuthorFacts(Struct, frozen=True, kw_only=True):
    """A member as an author: the name that cards show, and whether the posts may be shown."""

    key: Key
    name: str
    stands: bool


class Topics:
    """Every topic that a post has, by number; 0 is no topic."""

    def __init__(self) -> None:
        self.names: list[str] = [""]
        self.words: list[frozenset[str]] = [frozenset()]
        self._numbers: dict[str, int] = {}
        self._of_word: dict[str, list[int]] = {}

    def number(self, name: str) -> int:
        """Return the number of a topic; a new one gets the next."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
            self.words.append(words(name))
            for word in long_words(name):
                self._of_word.setdefault(word, []).append(number)
        return number

    def known(self, name: str) -> int:
        """Return the number of a topic, NO_TOPIC where no post ever had it."""
        return self._numbers.get(name, NO_TOPIC)

    def touched(self, spoken: Iterable[str]) -> list[int]:
        """Return the topics with a word that says something among those; one may come twice."""
        return [number for word in spoken for number in self._of_word.get(word, ())]


class Catalogue:
    """The standing posts. Written by one consumer of the change stream, read by the pipeline."""

    def __init__(
        self,
        dims: int,
        capacity: int = CAPACITY_MIN,
        version: str = "",
        look: LookMaker = Coarse,
    ) -> None:
        """Begin with an index for one encoder.

        Args:
            dims: the length of its vectors.
            capacity: for how many posts there is room at first.
            version: of the encoder.
            look: what searches look at first, of this encoder's index and of any other's.
        """
        self.index = PostIndex(dims, capacity, look)
        self.table = self.index.table
        self.version = version
        self.indexes: dict[str, PostIndex] = {version: self.index}
        self.called: dict[str, str] = {}  # what a flag may call an encoder, and its version
        self.topics = Topics()
        self.communities: dict[int, str] = {}
        size = self.index.capacity
        self._kind = np.zeros(size, dtype=np.int8)
        self._topics = np.zeros((size, TOPICS_MAX), dtype=np.int32)
        self._counts = np.zeros((size, len(POST_COUNTS)), dtype=np.int64)
        self._hidden = np.zeros(size, dtype=np.bool_)
        self._stands = np.ones(AUTHORS_MIN, dtype=np.bool_)
        self._author_counts = np.zeros((AUTHORS_MIN, len(AUTHOR_COUNTS)), dtype=np.int64)
        self._names: dict[int, str] = {}
        self._shown = 0

    # ------------------------------------------------- one index for each encoder

    def hold(self, version: str, dims: int) -> None:
        """Have an index for one more encoder, empty of vectors; nobody searches it by itself."""
        if version not in self.indexes:
            self.indexes[version] = self.index.beside(dims)

    def serve(self, version: str) -> None:
        """Let the index of an encoder that is held be the one that serves, at once."""
        self.index, self.version = self.indexes[version], version

    def drop(self, version: str) -> None:
        """Forget the index of an encoder that does not serve."""
        assert version != self.version, f"encoder {version} serves"
        self.indexes.pop(version, None)

    # ------------------------------------------------- written by the stream

    def put(self, facts: PostFacts, vector: Vector | None) -> bool:
        """Insert a post, or bring it up to date; return whether it may be shown only from now on.

        `vector` None leaves the one that is there.
        """
        table = self.table
        before = table.slot(facts.key)
        was_shown = before is not None and table.is_alive(before)
        entry = IndexEntry(
            key=facts.key,
            author=facts.author,
            created_at=facts.created_at,
            language=facts.language,
            audience=facts.audience,
        )
        slot = table.put(entry)
        if vector is not None:
            self.index.set_vector(slot, vector)
        self._fit()
        if before is None:
            self._counts[slot] = 0
        self._kind[slot] = KIND_NUMBER[facts.kind]
        self._topics[slot] = NO_TOPIC
        numbers = [self.topics.number(topic) for topic in facts.topics[:TOPICS_MAX]]
        self._topics[slot, : len(numbers)] = numbers
        self._hidden[slot] = facts.hidden
        shown = self._show(slot)
        self._shown += shown - was_shown
        return shown and not was_shown

    def put_vector(self, key: Key, vector: Vector | None, version: str | None = None) -> None:
        """Give a standing post another vector of an encoder, or none; others are left alone.

        Args:
            key: of the post.
            vector: None for none.
            version: of the encoder; by default the one that serves.
        """
        index = self.index if version is None else self.indexes.get(version)
        slot = None if index is None else index.slot(key)
        if index is not None and slot is not None:
            index.set_vector(slot, vector)

    def put_vectors(self, keys: Sequence[Key], vectors: Vector, version: str) -> None:
        """Give many posts vectors of an encoder; those that do not stand any more are left out.

        Args:
            keys: of the posts, each once.
            vectors: of the same posts, a row each.
            version: of the encoder; one that is not held is left alone.
        """
        index = self.indexes.get(version)
        if index is None or not keys:
            return
        slots = [self.table.slot(key) for key in keys]
        there = [slot for slot in slots if slot is not None]
        if len(there) < len(slots):
            vectors = vectors[[place for place, slot in enumerate(slots) if slot is not None]]
        index.set_vectors(there, vectors)

    def put_counts(self, key: Key, counts: Mapping[str, int] | Sequence[int]) -> None:
        """Set the eight numbers of a post; one that is not there is left alone."""
        slot = self.table.slot(key)
        if slot is not None:
            self._counts[slot] = _in_order(counts, POST_COUNTS)

    def put_author(self, facts: AuthorFacts) -> list[Key]:
        """Set what is known of an author; return the posts that may be shown only from now on."""
        number = self._author_number(facts.key)
        self._names[number] = facts.name
        if bool(self._stands[number]) == facts.stands:
            return []
        self._stands[number] = facts.stands
        changed: list[Key] = []
        for slot in self.table.slots_of_author(number):
            if self._show(slot) == facts.stands and not self._hidden[slot]:
                self._shown += 1 if facts.stands else -1
                changed.append(self.table.entry(slot).key)
        return changed if facts.stands else []

    def put_author_counts(self, author: Key, counts: Mapping[str, int] | Sequence[int]) -> None:
        """Set the four numbers of an author."""
        number = self._author_number(author)
        self._author_counts[number] = _in_order(counts, AUTHOR_COUNTS)

    def remove(self, key: Key) -> None:
        """Forget a post."""
        slot = self.table.slot(key)
        if slot is not None:
            self._shown -= self.table.is_alive(slot)
            self.table.remove(key)

    def _author_number(self, author: Key) -> int:
        """Return the number of an author; a new one gets the next."""
        number = self.table.author_number(author)
        self._fit()
        return number

    def _show(self, slot: int) -> bool:
        """Let a post be found, or not, by what is known of it and of its author."""
        author = self.table.author_of(slot)
        alive = bool(self._stands[author]) and not bool(self._hidden[slot])
        self.table.show(slot, alive=alive)
        return alive

    def _fit(self) -> None:
        """Grow the columns as the index and the authors have grown."""
        while len(self._kind) < self.table.capacity:
            self._kind = doubled(self._kind)
            self._topics = doubled(self._topics)
            self._counts = doubled(self._counts)
            self._hidden = doubled(self._hidden)
        while len(self._stands) < self.table.authors:
            self._stands = np.concatenate([self._stands, np.ones_like(self._stands)])
            self._author_counts = doubled(self._author_counts)

    # ------------------------------------------------- read by the pipeline

    def __len__(self) -> int:
        """Return how many posts may be shown to somebody."""
        return self._shown

    def slot(self, key: Key) -> int | None:
        """Return the slot of a post, or None where it is not known."""
        return self.table.slot(key)

    def kinds(self, slots: Slots) -> NDArray[np.int8]:
        """Return the numbers of the kinds, as in KINDS."""
        return self._kind[slots]

    def topic_numbers(self, slots: Slots) -> NDArray[np.int32]:
        """Return the topics of posts, filled up with NO_TOPIC. Shape: (len(slots), TOPICS_MAX)."""
        return self._topics[slots]

    def counts(self, slots: Slots) -> NDArray[np.int64]:
        """Return the numbers of posts in the order of POST_COUNTS."""
        return self._counts[slots]

    def author_counts(self, slots: Slots) -> NDArray[np.int64]:
        """Return the numbers of the authors of posts in the order of AUTHOR_COUNTS."""
        return self._author_counts[self.table.authors_of(slots)]

    def author_stands(self, slots: Slots) -> NDArray[np.bool_]:
        """Return which posts have an author who is neither removed nor banned."""
        return self._stands[self.table.authors_of(slots)]

    def author_name(self, number: int) -> str:
        """Return the name of an author as cards show it."""
        return self._names.get(number, "")

    def keys(self, slots: Slots) -> list[Key]:
        """Return the posts in slots."""
        return [Key(community, post) for post, community in self.table.ids(slots).tolist()]

    def facts(self, key: Key) -> PostFacts | None:
        """Return what is known of one post; None where it is not known."""
        slot = self.table.slot(key)
        if slot is None:
            return None
        entry = self.table.entry(slot)
        numbers: list[int] = self._topics[slot].tolist()
        return PostFacts(
            key=entry.key,
            author=entry.author,
            kind=KINDS[int(self._kind[slot])],
            topics=[self.topics.names[number] for number in numbers if number != NO_TOPIC],
            language=entry.language,
            audience=entry.audience,
            created_at=entry.created_at,
            hidden=bool(self._hidden[slot]),
        )


def _in_order(counts: Mapping[str, int] | Sequence[int], names: Iterable[str]) -> list[int]:
    """Return numbers in the order of their columns."""
    if isinstance(counts, Mapping):
        return [counts[name] for name in names]
    return list(counts)
