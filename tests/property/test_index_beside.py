"""Indexes beside each other share one table of slots, and each has its own vectors.

Posts come, change, go and come back, authors are shut out, encoders are held, serve and are dropped, in
any order. Whatever happened, every index says the same of posts, and searches as one that was made
of its own vectors alone.
"""

import weakref
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from millrace.community.types import Audience, Key, PostKind
from millrace.feed.catalogue import AuthorFacts, Catalogue, PostFacts
from millrace.feed.index import PostIndex
from millrace.feed.slot_table import Scope

FIRST = "first"
DIMS = {FIRST: 6, "second": 3, "third": 9}
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
posts, people = st.integers(1, 8), st.integers(1, 4)  # few, so that steps meet each other
encoders, seeds = st.sampled_from(sorted(DIMS)), st.integers(0, 999)


def vector(version: str, seed: int) -> np.ndarray:
    """A unit vector of an encoder's length."""
    found = np.random.default_rng(seed).standard_normal(DIMS[version])
    return (found / np.linalg.norm(found)).astype(np.float32)


class Beside(RuleBasedStateMachine):
    """A catalogue, and what each encoder's vectors should be."""

    @initialize()
    def begin(self) -> None:
        self.catalogue = Catalogue(DIMS[FIRST], version=FIRST)
        self.facts: dict[Key, PostFacts] = {}
        self.shut: set[Key] = set()
        self.vectors: dict[str, dict[Key, np.ndarray]] = {FIRST: {}}

    @rule(post=posts, author=people, hidden=st.booleans())
    def put(self, post: int, author: int, hidden: bool) -> None:
        key = Key(1, post)
        self.facts[key] = PostFacts(
            key=key, author=Key(1, author), kind=PostKind.NOTE, topics=["boats"], language="en",
            audience=Audience.PUBLIC, created_at=BEGIN + timedelta(hours=post), hidden=hidden,
        )  # fmt: skip
        self.catalogue.put(self.facts[key], None)

    @rule(post=posts)
    def remove(self, post: int) -> None:
        key = Key(1, post)
        self.catalogue.remove(key)
        self.facts.pop(key, None)
        for kept in self.vectors.values():
            kept.pop(key, None)

    @rule(post=posts, version=encoders, seed=seeds)
    def embed(self, post: int, version: str, seed: int) -> None:
        key = Key(1, post)
        self.catalogue.put_vector(key, vector(version, seed), version)
        if version in self.vectors and key in self.facts:
            self.vectors[version][key] = vector(version, seed)

    @rule(keys=st.lists(posts, unique=True, max_size=8), version=encoders, seed=seeds)
    def embed_many(self, keys: list[int], version: str, seed: int) -> None:
        """A stretch that was read from the tables, with posts that are gone by now."""
        rows = [vector(version, seed + post) for post in keys]
        named = [Key(1, post) for post in keys]
        self.catalogue.put_vectors(named, np.array(rows, dtype=np.float32), version)
        if version in self.vectors:
            there = {k: row for k, row in zip(named, rows, strict=True) if k in self.facts}
            self.vectors[version].update(there)

    @rule(version=encoders)
    def prepare(self, version: str) -> None:
        if version in self.catalogue.indexes:
            self.catalogue.indexes[version].prepare()

    @rule(author=people, stands=st.booleans())
    def stand(self, author: int, stands: bool) -> None:
        key = Key(1, author)
        self.catalogue.put_author(AuthorFacts(key=key, name="", stands=stands))
        self.shut = self.shut - {key} if stands else self.shut | {key}

    @rule(version=encoders)
    def hold(self, version: str) -> None:
        self.catalogue.hold(version, DIMS[version])
        self.vectors.setdefault(version, {})

    @rule(version=encoders)
    def serve(self, version: str) -> None:
        if version in self.vectors:
            self.catalogue.serve(version)

    @rule(version=encoders)
    def drop(self, version: str) -> None:
        if version != self.catalogue.version:
            self.catalogue.drop(version)
            self.vectors.pop(version, None)

    @invariant()
    def every_index_says_the_same_of_posts(self) -> None:
        indexes = self.catalogue.indexes
        places = [{key: one.slot(key) for key in self.facts} for one in indexes.values()]
        used = np.array(sorted(places[0].values()), dtype=np.int64)
        alive = [one.alive(used).tolist() for one in indexes.values()]
        authors = [one.authors_of(used).tolist() for one in indexes.values()]

        assert indexes.keys() == self.vectors.keys()
        assert all(one == places[0] and None not in one.values() for one in places)
        assert all(one == alive[0] for one in alive)
        assert all(one == authors[0] for one in authors)
        assert {one.births for one in indexes.values()} == {self.catalogue.index.births}

    @invariant()
    def every_index_finds_by_its_own_vectors(self) -> None:
        for version, index in self.catalogue.indexes.items():
            shown = {
                key: found for key, found in self.vectors[version].items()
                if not self.facts[key].hidden and self.facts[key].author not in self.shut
            }  # fmt: skip
            query = vector(version, 1_000)
            hits = index.search(query, 40)
            wanted = sorted(shown, key=lambda key: -float(shown[key] @ query))
            scores = [float(shown[key] @ query) for key in wanted]

            assert len(index) == len(self.vectors[version])
            assert {*index.keys(hits.slots)} == {*wanted}
            assert np.allclose(hits.scores, scores, atol=1e-6)


TestBeside = Beside.TestCase
TestBeside.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_an_index_beside_a_full_one_grows_with_it() -> None:
    """More posts than there is room for come after the second index was made."""
    catalogue = Catalogue(DIMS[FIRST], version=FIRST)
    catalogue.hold("second", DIMS["second"])
    for post in range(1, 3 * PostIndex(1).capacity, 2):
        facts = PostFacts(
            key=Key(1, post), author=Key(1, post % 7), kind=PostKind.NOTE, topics=[], language="",
            audience=Audience.PUBLIC, created_at=BEGIN,
        )  # fmt: skip
        catalogue.put(facts, vector(FIRST, post))
        catalogue.put_vector(facts.key, vector("second", post), "second")
    catalogue.serve("second")
    hits = catalogue.index.search(vector("second", 2_001), 1)

    assert catalogue.index.keys(hits.slots) == [Key(1, 2_001)]


def note(post: int, hidden: bool = False) -> PostFacts:
    """A post by one of seven authors."""
    return PostFacts(
        key=Key(1, post), author=Key(1, post % 7), kind=PostKind.NOTE, topics=[], language="",
        audience=Audience.PUBLIC, created_at=BEGIN, hidden=hidden,
    )  # fmt: skip


def test_who_searches_a_dropped_index_finds_no_post_that_went_since_and_then_it_is_gone() -> None:
    """A feed that began with an encoder ends with it, whatever becomes of both meanwhile."""
    catalogue = Catalogue(DIMS[FIRST], version=FIRST)
    catalogue.hold("second", DIMS["second"])
    for post in (1, 2):
        catalogue.put(note(post), vector(FIRST, post))
        catalogue.put_vector(Key(1, post), vector("second", post), "second")
    held = catalogue.indexes["second"]
    catalogue.drop("second")
    catalogue.remove(Key(1, 1))
    for post in range(3, 2 * PostIndex(1).capacity):  # the first of them gets the slot of post 1
        catalogue.put(note(post), vector(FIRST, post))
    mask = held.mask(Scope(community_id=1))
    found = held.keys(held.search(vector("second", 1), 5, mask).slots)
    gone = weakref.ref(held)
    del held

    assert found == [Key(1, 2)]
    assert gone() is None


def test_a_change_of_a_row_leaves_vectors_and_what_is_remembered_of_them_alone() -> None:
    """Else whoever searches again has the post scored anew, though its vector is as it was."""
    catalogue = Catalogue(DIMS[FIRST], version=FIRST)
    catalogue.put(note(1), vector(FIRST, 1))
    before = catalogue.index.recollections.mark
    catalogue.put(note(1, hidden=True), None)
    catalogue.put(note(1), None)
    found = catalogue.index.search(vector(FIRST, 1), 1)

    assert catalogue.index.recollections.mark == before
    assert catalogue.index.keys(found.slots) == [Key(1, 1)]
