"""Lists may miss a post that is near; they give nobody what a filter or a delete took away."""

from datetime import UTC, datetime
from importlib import import_module
from threading import Event

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kinds_of_index import lists_kind

from millrace.community.types import Audience, Key
from millrace.feed.first_look import Near
from millrace.feed.index import BLOCK, IndexEntry, PostIndex

DIMS, K = 6, 5
SEEDS = st.integers(0, 10_000)


def vector(seed):
    centre = np.random.default_rng(seed % 9).standard_normal(DIMS)
    return (centre + 0.3 * np.random.default_rng(seed).standard_normal(DIMS)).astype(np.float32)


def entry(number):
    return IndexEntry(
        key=Key(1, number),
        author=Key(1, number % 5),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        language="en",
        audience=Audience.PUBLIC,
    )


class Lists(RuleBasedStateMachine):
    """An index that searches through lists, beside a dictionary."""

    @initialize(count=st.sampled_from([BLOCK - 200, BLOCK, 2 * BLOCK]))
    def begin(self, count):
        self.index, self.truth, self.next = PostIndex(DIMS, look=lists_kind()), {}, 0
        self.write_more(count, 0)

    def write(self, number, vector):
        self.index.put(entry(number), vector)
        self.truth[number] = vector

    @rule(count=st.sampled_from([1, 40, BLOCK]), seed=SEEDS)
    def write_more(self, count, seed):
        for _ in range(count):
            self.write(self.next, vector(seed + self.next))
            self.next += 1

    @rule(number=st.integers(0, BLOCK), seed=SEEDS)
    def replace(self, number, seed):
        if number in self.truth:
            self.write(number, vector(seed))

    @rule(first=st.integers(0, BLOCK), count=st.sampled_from([1, 30]))
    def remove(self, first, count):
        for number in range(first, first + count):
            assert self.index.remove(Key(1, number)) is (self.truth.pop(number, None) is not None)

    @rule()
    def wait_for_lists(self):
        self.index.look.ready()

    @rule(seed=SEEDS, share=st.sampled_from([0.02, 0.5, 0.9, 1.0]), k=st.sampled_from([1, K, 700]))
    def search(self, seed, share, k):
        query = vector(seed)
        mask = np.random.default_rng(seed).random(len(self.index.home(1))) < share
        passes = {number for number in self.truth if mask[self.index.slot(Key(1, number))]}

        hits = self.index.search(query, k, mask)

        found = [key.id for key in self.index.keys(hits.slots)]
        assert len(found) == len(set(found)) == min(k, len(passes))
        assert passes.issuperset(found)
        true = [float(self.truth[number].astype(float) @ query) for number in found]
        assert np.allclose(hits.scores, true, atol=1e-4)
        assert np.all(np.diff(hits.scores) <= 0)

    @rule(seed=SEEDS)
    def find_what_was_just_written(self, seed):
        """Nothing scores like it, so it is first; and gone with the next search."""
        query = vector(seed)
        self.write(self.next, 40 * query)
        first = self.index.search(query, K).slots[0]
        assert self.index.entry(first).key.id == self.next
        self.index.remove(Key(1, self.next))
        del self.truth[self.next]
        self.next += 1
        again = self.index.search(query, K)
        assert {key.id for key in self.index.keys(again.slots)} <= self.truth.keys()

    @invariant()
    def holds_as_many(self):
        assert len(getattr(self, "index", ())) == len(getattr(self, "truth", ()))


Lists.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
TestLists = pytest.mark.skipif("not __import__('importlib').util.find_spec('faiss')")(
    Lists.TestCase
)


@pytest.fixture
def index():
    found = PostIndex(DIMS, look=lists_kind())
    for number in range(BLOCK):
        found.put(entry(number), vector(number))
    found.search(vector(1), K)
    found.look.ready()
    return found


def looked(index, mask):
    near = index.near(index.query(vector(1)), index.allowed(mask), K)
    assert isinstance(near, Near)
    return near


def test_lists_serve_wide_masks_and_nothing_else(index):
    """What lists say is not remembered; a narrow mask, and many asked for, are searched exactly."""
    everything = np.ones(BLOCK, dtype=np.bool_)
    narrow = np.arange(BLOCK) % 10 == 0

    wide = looked(index, everything)

    assert wide.least is None
    assert K <= len(wide.slots) < BLOCK / 2
    plain = PostIndex(DIMS)
    for number in range(BLOCK):
        plain.put(entry(number), vector(number))
    for mask, k in ((narrow, K), (everything, BLOCK // 2)):
        exact, found = plain.search(vector(1), k, mask), index.search(vector(1), k, mask)
        assert found.slots.tolist() == exact.slots.tolist()
        assert found.scores.tolist() == exact.scores.tolist()
    few = everything.copy()
    few[wide.slots] = False  # of all that lists would say nothing is allowed
    assert len(index.search(vector(1), K, few).slots) == K


def test_lists_are_made_anew_for_many_more(index):
    before = index.look.bytes
    for number in range(BLOCK, 5 * BLOCK):
        index.put(entry(number), vector(number))
    index.search(vector(1), K)
    index.look.ready()

    assert index.look.bytes > 3 * before


class Held:
    """faiss, at which whoever makes lists waits before the first step."""

    def __init__(self):
        self.faiss, self.begun, self.go_on = import_module("faiss"), Event(), Event()

    def __getattr__(self, name):
        return getattr(self.faiss, name)

    def omp_set_num_threads(self, _):
        self.begun.set()
        assert self.go_on.wait(60), "nobody let it go on"


def test_what_is_written_while_lists_are_made_is_in_them():
    """Also what was looked for meanwhile, exactly, and what has had its slot in the first plan."""
    kind = lists_kind()
    held = Held()
    index = PostIndex(DIMS, look=lambda rows: kind.func(held, rows, posts_min=0))
    for number in range(BLOCK):
        index.put(entry(number), vector(number))
    index.search(vector(1), K)
    assert held.begun.wait(60)
    index.put(entry(5), 40 * vector(1))
    assert index.keys(index.search(vector(1), K).slots)[0] == Key(1, 5)
    held.go_on.set()
    index.look.ready()

    assert looked(index, None).least is None
    assert index.keys(index.search(vector(1), K).slots)[0] == Key(1, 5)


def test_a_vector_that_is_replaced_is_in_the_lists_once(index):
    best = index.search(vector(1), K).slots
    for slot in best.tolist():
        index.set_vector(slot, index.vectors([slot])[0] * np.float32(1.001))

    slots = looked(index, None).slots

    assert set(best.tolist()) <= set(slots.tolist())
    assert len(slots) == len(np.unique(slots))


def test_searches_stay_exact_where_no_lists_can_be_made(caplog):
    class Broken:
        @staticmethod
        def omp_set_num_threads(_):
            raise RuntimeError("no memory for lists")

    kind = lists_kind()
    index = PostIndex(DIMS, look=lambda rows: kind.func(Broken, rows, posts_min=0))
    for number in range(BLOCK):
        index.put(entry(number), vector(number))
    index.search(vector(1), K)
    index.look.ready()

    assert len(index.search(vector(1), K).slots) == K
    assert "were not made" in caplog.text
