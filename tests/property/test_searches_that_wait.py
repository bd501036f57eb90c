"""A search in another thread works on what was written while it waited: nothing is lost by that."""

import asyncio
from datetime import UTC, datetime
from threading import Semaphore, current_thread, main_thread

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kinds_of_index import EXACT_KINDS, machines

from millrace.community.types import Audience, Key
from millrace.feed.index import BLOCK, IndexEntry, PostIndex, Scope
from millrace.feed.scanning import Scanner

START = datetime(2026, 1, 1, tzinfo=UTC)
HERE = Scope(community_id=1)
DIMS, K = 4, 5
POSTS = st.integers(0, BLOCK + 40)
SEEDS = st.integers(0, 10_000)
QUERIES = (-1, -2, -3)
MANY = st.sampled_from([1, 3, 40, 40, BLOCK])


def vector(seed):
    """Small whole numbers: products are exact, so that truth is to the last bit, with its ties."""
    return np.random.default_rng(seed % 2**32).integers(-9, 10, DIMS).astype(np.float32)


def entry(number):
    return IndexEntry(
        key=Key(1, number),
        author=Key(1, number % 5),
        created_at=START,
        language="en",
        audience=Audience.PUBLIC,
    )


class Gated(PostIndex):
    """An index at which another thread waits: before it takes the mask, and before the first look."""

    gate = Semaphore(0)

    def allowed(self, mask):
        self.wait()
        return super().allowed(mask)

    def near(self, query, allowed, k, *, lasting=False):
        self.wait()
        return super().near(query, allowed, k, lasting=lasting)

    def wait(self):
        if current_thread() is not main_thread():
            assert self.gate.acquire(timeout=60), "nobody let the search go on"


class Waiting(RuleBasedStateMachine):
    """Searches that begin, wait twice and end, and what is written between."""

    look = EXACT_KINDS["eight bits"]

    @initialize(count=st.sampled_from([BLOCK - 1, BLOCK, 2 * BLOCK]), room=st.sampled_from([1, 4]))
    def begin(self, count, room):
        self.loop = asyncio.new_event_loop()
        self.index = Gated(DIMS, capacity=room * BLOCK, look=self.look)
        self.index.gate = Semaphore(0)
        self.scanner = Scanner(self.index, at_once=0)
        self.truth, self.running, self.next = {}, [], 0
        self.write_more(count, 0)

    def teardown(self):
        if hasattr(self, "loop"):
            self.let_go(len(self.running))
            self.scanner.close()
            self.loop.close()

    def write(self, number, vector):
        self.index.put(entry(number), vector)
        self.truth[number] = vector

    def let_go(self, count):
        ended, self.running = self.running[:count], self.running[count:]
        for one in ended:
            for _ in range(4):
                self.index.gate.release()
            self.loop.run_until_complete(one)
            while self.index.gate.acquire(blocking=False):
                pass

    @rule(count=MANY, seed=SEEDS)
    def write_more(self, count, seed):
        for _ in range(count):
            self.write(self.next, vector(seed + self.next))
            self.next += 1

    @rule(query=st.sampled_from(QUERIES))
    def write_what_is_asked_for(self, query):
        self.write(self.next, 2 * vector(query))
        self.next += 1

    @rule(number=POSTS, seed=SEEDS)
    def replace(self, number, seed):
        if number in self.truth:
            self.write(number, vector(seed))

    @rule(number=POSTS)
    @precondition(lambda self: len(self.truth) > K)
    def remove(self, number):
        assert self.index.remove(Key(1, number)) == (self.truth.pop(number, None) is not None)

    @rule(query=SEEDS)
    @precondition(lambda self: len(self.running) < 3)
    def begin_a_search(self, query):
        asked = self.scanner.search(vector(query), K, self.index.mask(HERE))
        self.running.append(self.loop.create_task(asked))
        self.loop.run_until_complete(asyncio.sleep(0))

    @rule()
    @precondition(lambda self: self.running)
    def let_it_look(self):
        """The first of them takes its mask, and waits again."""
        self.index.gate.release()

    @rule()
    @precondition(lambda self: self.running)
    def end_a_search(self):
        self.let_go(1)

    @rule()
    def search(self):
        self.let_go(len(self.running))
        for query in QUERIES:
            wanted = vector(query)
            numbers = np.array(list(self.truth))
            scores = np.array(list(self.truth.values())) @ wanted
            best = numbers[np.lexsort((numbers, scores))[::-1][:K]].tolist()

            found = self.index.search(wanted, K, self.index.mask(HERE))
            assert [key.id for key in self.index.keys(found.slots)] == best

            asked = self.loop.create_task(self.scanner.search(wanted, K, self.index.mask(HERE)))
            self.running.append(asked)
            self.let_go(1)
            assert [key.id for key in self.index.keys(asked.result().slots)] == best

    @invariant()
    def holds_as_many(self):
        assert len(getattr(self, "index", ())) == len(getattr(self, "truth", ()))


ENOUGH = settings(max_examples=15, stateful_step_count=20, deadline=None)
globals().update(machines(Waiting, EXACT_KINDS, ENOUGH))


@pytest.mark.parametrize("look", EXACT_KINDS.values(), ids=EXACT_KINDS)
def test_a_post_in_a_new_block_while_a_search_waits(look):
    """The shortest way to it: the search knows no such slot, and the next one must find it.

    What was looked at before the index grew must be found, too.
    """
    town = Waiting()
    town.look = look
    town.begin(BLOCK, 1)
    town.search()
    town.begin_a_search(7)
    town.write_what_is_asked_for(QUERIES[0])
    town.write_more(40, 3)  # more that are near than are asked for
    town.search()
    town.teardown()
