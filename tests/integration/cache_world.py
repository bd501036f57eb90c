"""A model of the truth beside a cache, for tests: what may happen between them, and what must hold.

Commits get into the log, become visible a moment later, and reach the cache by a stream that may
lag, stop in the middle of a transaction, or be lost. Loads take their snapshot and arrive whenever
the machine likes. Checked are
    P1  what the cache holds of a key only goes forward,
    P2  a session sees what its token was given for, and never goes back,
    P3  without a token nothing is older than what the stream had brought when the read began,
    P4  after quiet, every key is absent or as the table has it.
"""

import asyncio
from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)

from millrace.store.cache import Bounds, InProcessCache, Loaded
from millrace.store.types import Position

KEYS = "abc"
BYTES = 2  # what a commit takes in the log
SESSIONS = range(3)
DRAWN = st.sampled_from("aaabc")
TRANSACTIONS = [("put",), ("delete",), ("put", "put"), ("delete", "put")]
KINDS = st.sampled_from(TRANSACTIONS)
SESSION = st.sampled_from(SESSIONS)


def at(lsn):
    return Position("town", 1, lsn)


class StaleError(Exception):
    """The cache gave, or holds, what it must not."""


def expect(holds, what):
    if not holds:
        raise StaleError(what)


class BrokenError(Exception):
    """What a load raises when the machine wants it to fail."""


class Commit:
    """A transaction: what it did to one key, once or twice."""

    def __init__(self, lsn, key, states):
        self.lsn, self.key, self.states, self.visible = lsn, key, states, False


class Table:
    """The truth: every state that a key ever had; a value is the number of its state."""

    def __init__(self, restarts):
        self.log = []
        self.restarts = restarts
        self.states = {key: [None] for key in KEYS}
        self.versions = dict.fromkeys(KEYS, 0)
        self.shown = dict.fromkeys(KEYS, 0)

    def change(self, key, kind):
        """Return the next state of a key: its number, or None where the row goes."""
        states, alive = self.states[key], self.states[key][-1] is not None
        self.versions[key] += 1
        if kind == "delete" and alive:
            states.append(None)
            if self.restarts:
                self.versions[key] = 0
        else:
            states.append((len(states), self.versions[key]))
        return len(states) - 1

    def commit(self, key, kinds):
        states = [self.change(key, kind) for kind in kinds]
        self.log.append(Commit(self.end() + BYTES, key, states))

    def end(self):
        return len(self.log) * BYTES

    def settled(self, key):
        return all(one.visible for one in self.log if one.key == key)

    def show(self, one):
        one.visible = True
        self.shown[one.key] = one.states[-1]


class Stream:
    """The commits in their order, as far as each is visible."""

    BARRIER = True
    PART = 1  # a part of a transaction is placed so many bytes before its end

    def __init__(self, table, cache, by_value):
        self.table, self.cache, self.by_value = table, cache, by_value
        self.at, self.told, self.applied = 0, 0, None
        self.reached = Counter()

    def ready(self):
        return self.at < len(self.table.log) and (
            self.table.log[self.at].visible or not self.BARRIER
        )

    def tell(self):
        """Hand on one change; the position moves when the whole transaction is told."""
        one = self.table.log[self.at]
        number = one.states[self.told]
        state = self.table.states[one.key][number]
        place = at(one.lsn - self.PART if len(one.states) > 1 else one.lsn)
        if self.by_value and state is not None and one.lsn % 3:  # a third only says "changed"
            self.cache.put(one.key, number, state[1], place)
        else:
            self.cache.invalidate(one.key, place)
        self.told += 1
        if self.told == len(one.states):
            self.at, self.told, self.applied = self.at + 1, 0, one.lsn
            self.reached[one.key] = one.states[-1]
            self.cache.advance(at(one.lsn))

    def lose(self):
        """From now on readers are given what the table has, or had since."""
        self.applied = None
        self.reached = Counter(self.table.shown)
        self.cache.lost()

    def begin(self):
        self.at, self.told, self.applied = len(self.table.log), 0, self.table.end()
        self.reached = Counter({key: self.table.shown[key] for key in KEYS})
        self.cache.begin(at(self.applied))


class Tokens:
    """A router whose tokens are numbers."""

    def __init__(self, table):
        self.table = table

    def claimed(self, token):
        return at(int(token))

    async def position_of(self, token):
        return at(int(token)) if int(token) <= self.table.end() else None


class Reader:
    """One read under way, and what it must at least see."""

    def __init__(self, task, session, key, least):
        self.task, self.session, self.key, self.least = task, session, key, least


class CacheMachine(RuleBasedStateMachine):
    """Everything that can happen between a table, its log, a cache and its readers."""

    CACHE = InProcessCache
    STREAM = Stream
    RESTARTS = False
    BY_VALUE = True

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.table = Table(self.RESTARTS)
        self.loads = []
        self.cache = self.CACHE(
            tokens=Tokens(self.table), load=self.load, bounds=Bounds(entries_max=2, buckets=2)
        )
        self.stream = self.STREAM(self.table, self.cache, self.BY_VALUE)
        self.readers = []
        self.tokens = {session: (0, Counter()) for session in SESSIONS}
        self.met = {session: Counter() for session in SESSIONS}
        self.best = Counter()
        self.stream.begin()

    async def load(self, keys):
        """Wait for the machine to take the snapshot, and again for it to let the answer arrive."""
        steps = [self.loop.create_future(), self.loop.create_future()]
        self.loads.append(steps)
        await steps[0]
        states = {key: (n := self.table.shown[key], self.table.states[key][n]) for key in keys}
        await steps[1]
        return {key: Loaded(n, state[1]) for key, (n, state) in states.items() if state}

    def settle(self):
        async def rest():
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(rest())
        for reader in [one for one in self.readers if one.task.done()]:
            self.readers.remove(reader)
            if not reader.task.cancelled() and reader.task.exception() is None:
                self.judge(reader, reader.task.result())

    def judge(self, reader, value):
        """P2 and P3: the answer is some state that is not older than it may be."""
        states, met = self.table.states[reader.key], self.met[reader.session]
        least = max(reader.least, met[reader.key])
        if value is None:  # any absence from `least` on will do; take the oldest as what was met
            absences = [n for n, state in enumerate(states) if state is None and n >= least]
            expect(absences, f"{reader.key} is there since state {least}, and is said not to be")
            met[reader.key] = absences[0]
        else:
            expect(value >= least, f"state {value} of {reader.key} after state {least}")
            met[reader.key] = value

    # ------------------------------------------------- what happens

    @rule(key=DRAWN, kinds=KINDS, session=SESSION, shown=st.booleans())
    def write(self, key, kinds, session, shown):
        if self.table.settled(key):  # the row is locked until its last writer is done
            self.table.commit(key, kinds)
            if shown:
                self.become_visible(-1, session)

    @rule(pick=st.integers(0, 9), session=SESSION)
    def become_visible(self, pick, session):
        hidden = [one for one in self.table.log if not one.visible]
        if hidden:
            self.table.show(hidden[pick % len(hidden)])
            # Its writer takes a token: the end of the log, which others may not see yet.
            self.tokens[session] = (self.table.end(), Counter(self.table.shown))

    @rule(count=st.integers(1, 3))
    def hear(self, count):
        for _ in range(count):
            if self.stream.applied is not None and self.stream.ready():
                self.stream.tell()
        self.settle()

    @rule(again=st.booleans())
    def lose(self, again):
        self.stream.lose()
        if again:
            self.begin()

    @rule()
    def begin(self):
        if all(one.visible for one in self.table.log):
            self.stream.begin()

    @rule(session=SESSION, key=DRAWN, other=DRAWN, with_token=st.booleans(), rush=st.booleans())
    def read(self, session, key, other, with_token, rush):
        """Begin to read one or two keys, or read them before anything else happens."""
        if any(one.session == session for one in self.readers):
            return
        lsn, shown = self.tokens[session]
        task = self.loop.create_task(self.cache.read_many([key, other], str(lsn) * with_token))
        least = shown[key] if with_token else 0
        if not with_token or self.stream.applied is not None:
            least = max(least, self.stream.reached[key])
        one = self.loop.create_task(first(task, key))
        self.readers.append(Reader(one, session, key, least))
        self.settle()
        if rush:
            self.step(-1, 0)
            self.step(-1, 1)

    @rule(pick=st.integers(0, 9), place=st.sampled_from([0, 1]))
    def go_on(self, pick, place):
        """Let a load take its snapshot, or its answer arrive."""
        self.step(pick, place)

    @rule(pick=st.integers(0, 9))
    def fail(self, pick):
        waiting = [steps for steps in self.loads if not steps[0].done()]
        if waiting:
            waiting[pick % len(waiting)][0].set_exception(BrokenError())
            self.settle()

    @rule(pick=st.integers(0, 9))
    def cancel(self, pick):
        if not self.readers:
            return
        self.readers[pick % len(self.readers)].task.cancel()
        self.settle()

    def step(self, pick, place):
        waiting = [
            s for s in self.loads if not s[place].done() and all(f.done() for f in s[:place])
        ]
        if waiting:
            waiting[pick % len(waiting)][place].set_result(None)
            self.settle()

    # ------------------------------------------------- what must hold

    @invariant()
    def what_is_held_goes_forward(self):
        """P1, over evictions and refills too."""
        for key, entry in self.cache._entries.items():
            if entry.value is not None:
                expect(entry.value >= self.best[key], f"{key} went back to state {entry.value}")
                self.best[key] = entry.value
        statistics = self.cache.statistics()
        assert statistics.entries <= 2
        assert statistics.weight == statistics.entries

    def teardown(self):
        try:
            for one in self.table.log:
                if not one.visible:
                    self.table.show(one)
            self.finish()
            if self.stream.applied is None:
                self.stream.begin()
            while self.stream.ready():
                self.stream.tell()
            for key in KEYS:  # P4
                truth = self.table.shown[key] if self.table.states[key][-1] else None
                held = self.cache.held(key)
                expect(held is None or held.value == truth, f"{key} stays wrong")
        finally:
            self.close()

    def close(self):
        """End what is under way, without a word about it."""
        if self.loop.is_closed():
            return
        self.readers.clear()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()

    def finish(self):
        for _ in range(50):
            self.step(0, 0)
            self.step(0, 1)
        expect(not self.readers, "a reader waits for ever")


async def first(task, key):
    return (await task).get(key)


class RestartingMachine(CacheMachine):
    """Versions begin at 1 again when a key is deleted: then the stream tells no values."""

    RESTARTS = True
    BY_VALUE = False
