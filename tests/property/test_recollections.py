"""Whoever searches again with the same vector is answered as from the beginning, to the last bit."""

import asyncio
import tracemalloc
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from kinds_of_index import EXACT_KINDS, machines

from millrace.community.types import Audience, Key
from millrace.feed.coarse import Coarse
from millrace.feed.index import BLOCK, IndexEntry, PostIndex
from millrace.feed.recollections import (
    CHANGES_MAX,
    ROW_BYTES,
    ROWS_EACH_MAX,
    Recollection,
    Recollections,
    weight_of,
)
from millrace.feed.scanning import SPARE, Scanner

START = datetime(2026, 1, 1, tzinfo=UTC)
DIMS, K = 6, 5
POSTS = st.integers(1, 140)
SEEDS = st.integers(0, 60)
SHARES = st.sampled_from([0.05, 0.5, 0.9, 1.0])


def vector(seed):
    """Few different ones, near to each other in pairs, so that there are ties and close calls."""
    centre = np.random.default_rng(seed % 7).standard_normal(DIMS)
    return (centre + 0.05 * np.random.default_rng(seed).standard_normal(DIMS)).astype(np.float32)


def entry(number):
    return IndexEntry(
        key=Key(1, number),
        author=Key(1, number % 5),
        created_at=START,
        language="en",
        audience=Audience.PUBLIC,
    )


class Again(RuleBasedStateMachine):
    """A scanner that remembers, beside an index that does not."""

    look = Coarse

    @initialize(seed=SEEDS)
    def begin(self, seed):
        self.index = PostIndex(DIMS, look=self.look)
        self.scanners = [Scanner(self.index), Scanner(self.index, at_once=0)]
        for number in range(1, 121):
            self.index.put(entry(number), vector(seed + number))

    def teardown(self):
        for scanner in getattr(self, "scanners", []):
            scanner.close()

    @rule(number=POSTS, seed=SEEDS)
    def write(self, number, seed):
        self.index.put(entry(number), vector(seed))

    @rule(number=POSTS)
    def write_without_a_vector(self, number):
        self.index.put(entry(number), None)

    @rule(number=POSTS)
    def remove(self, number):
        self.index.remove(Key(1, number))

    @rule(number=POSTS, alive=st.booleans())
    def show(self, number, alive):
        slot = self.index.slot(Key(1, number))
        if slot is not None:
            self.index.show(slot, alive=alive)

    @rule(start=st.integers(200, 1_200))
    def grow(self, start):
        for number in range(start, start + 2 * BLOCK // 3):
            self.index.put(entry(number), vector(number))

    @rule(
        query=st.integers(0, 3), share=SHARES, seed=SEEDS, k=st.integers(1, K), thread=st.booleans()
    )
    def search(self, query, share, seed, k, thread):
        chance = np.random.default_rng(seed).random(self.index.capacity)
        used = len(self.index.home(1))
        mask = (chance < share)[:used]

        found = asyncio.run(self.scanners[thread].search(vector(query), k, mask))

        plain = self.index.search(vector(query), k, mask)
        assert found.slots.tolist() == plain.slots.tolist()
        assert found.scores.tolist() == plain.scores.tolist()


ENOUGH = settings(max_examples=20, stateful_step_count=30, deadline=None)
# Not through lists: what was remembered of an exact search has posts that lists may miss.
globals().update(machines(Again, EXACT_KINDS, ENOUGH))


@pytest.fixture
def index():
    found = PostIndex(DIMS, look=partial(Coarse, posts_min=0))
    for number in range(1, 400):
        found.put(entry(number), vector(number))
    return found


async def test_what_was_near_is_enough_while_little_changes(index):
    """Another mask, a post that came and one that went: no second look; a narrow mask needs one."""
    scanner, everything = Scanner(index), np.ones(index.capacity, dtype=np.bool_)
    await scanner.search(vector(1), K, everything)
    hits = (await scanner.search(vector(1), K, everything)).slots
    without = everything.copy()
    without[hits[:2]] = False
    index.put(entry(900), vector(1))
    index.remove(Key(1, 8))
    await scanner.search(vector(1), K, without)

    known = index.recollections
    assert (known.hits, known.misses, len(known)) == (2, 1, 1)

    none_of_them = everything.copy()
    none_of_them[[slot for slot in range(400) if slot % 7 < 6]] = False
    again = await scanner.search(vector(1), K, none_of_them)
    scanner.close()

    assert known.misses == 2
    assert again.slots.tolist() == index.search(vector(1), K, none_of_them).slots.tolist()


async def test_what_was_near_and_not_kept_is_not_forgotten():
    """Only so many are kept; newcomers that score less than others do not fill their places."""
    index, query = (
        PostIndex(DIMS, look=partial(Coarse, posts_min=0)),
        vector(1) / np.float32(np.linalg.norm(vector(1))),
    )
    for number in range(1, 201):
        index.put(entry(number), query * np.float32(1 - number / 10_000))
    scanner, mask = Scanner(index), np.ones(index.capacity, dtype=np.bool_)
    await scanner.search(query, K, mask)
    assert len(index.recollections.get(index.query(query)).slots) == SPARE * K
    for number in range(900, 910):
        index.put(entry(number), query * np.float32(1 - 30 / 10_000))
    mask[[index.slot(Key(1, number)) for number in range(1, SPARE * K - 1)]] = False

    found = await scanner.search(query, K, mask)
    scanner.close()

    assert [key.id for key in index.keys(found.slots)] == [14, 15, 16, 17, 18]


def near_so_many(rows):
    slots = np.arange(rows, dtype=np.int32)
    return Recollection(0, np.float32(0.5), slots, np.zeros(rows, dtype=np.float32))


@pytest.mark.parametrize("rows", [3, 30, 1_200, ROWS_EACH_MAX])
def test_recollections_take_no_more_memory_than_they_may(rows):
    """Nor much less: of an entry with few slots the key is what weighs."""
    bytes_max, random = 4 << 20, np.random.default_rng(rows)
    tracemalloc.start()
    kept = Recollections(bytes_max)
    try:
        while not kept.evictions:
            kept.keep(random.standard_normal(384).astype(np.float32), near_so_many(rows))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.9 * bytes_max <= taken <= bytes_max


def test_recollections_are_bounded():
    """In bytes altogether, in slots each, and in how much may have changed since."""
    one = weight_of(vector(1).tobytes(), near_so_many(4))
    kept = Recollections(2 * one + ROW_BYTES)

    def keep(number, rows):
        kept.keep(vector(number), near_so_many(rows))

    keep(1, 4)
    keep(2, 4)
    keep(1, 5)
    assert kept.get(vector(2)) is not None
    assert kept.weight == 2 * one + ROW_BYTES
    keep(3, 4)  # the first is now the one that nobody asked for
    assert kept.get(vector(1)) is None
    keep(4, ROWS_EACH_MAX + 1)
    assert kept.get(vector(4)) is None
    assert kept.evictions == 1
    kept.forget(vector(2))
    kept.forget(vector(2))
    assert kept.weight == one

    mark = kept.mark
    for number in range(CHANGES_MAX):
        kept.changed(number % 50)
    assert kept.since(mark).tolist() == list(range(50))
    kept.changed(3)
    assert kept.since(mark) is None
    for _ in range(3 * CHANGES_MAX):
        kept.changed(7)
    assert kept.since(mark) is None
    assert kept.since(kept.mark - 1).tolist() == [7]
    assert len(kept.since(kept.mark)) == 0
