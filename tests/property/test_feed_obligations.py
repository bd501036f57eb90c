"""The safe place of the log, against a model that remembers everything: nothing open lies below."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from millrace.community.types import Key
from millrace.feed.obligations import Queue, Safe
from millrace.store.types import Position

MOST = 2
KEYS = st.builds(Key, st.just(1), st.integers(1, 4))


def place(lsn: int) -> Position:
    return Position("1", 1, lsn)


class Obligations(RuleBasedStateMachine):
    """Batches come, are worked on, fail and are given up, in every order."""

    def __init__(self) -> None:
        super().__init__()
        self.safe = Safe()
        self.queue = Queue(self.safe, MOST)
        self.lsn = 0  # of the batch that is being heard
        self.heard: dict[Key, int] = {}  # open keys, and the first place that named them
        self.again: dict[Key, int] = {}  # the same, of what was named while it was worked on
        self.taken: list[Key] = []
        self.reached = 0

    @rule(key=KEYS, due=st.sampled_from([0.0, 5.0]))
    def name_a_key(self, key: Key, due: float) -> None:
        self.name(key, due)

    def name(self, key: Key, due: float) -> None:
        self.queue.add(key, 0.0, due)
        (self.again if key in self.taken else self.heard).setdefault(key, self.lsn)

    @rule()
    def name_what_is_worked_on(self) -> None:
        for key in self.taken:
            self.name(key, 0.0)

    @rule()
    def end_of_batch(self) -> None:
        self.safe.reached(place(self.lsn))
        self.reached = self.lsn
        self.lsn += 1

    @rule(now=st.sampled_from([0.0, 5.0]), most=st.integers(1, 3), newest=st.booleans())
    def take(self, now: float, most: int, newest: bool) -> None:
        keys = self.queue.take(now, most, newest=newest)
        assert not set(keys) & set(self.taken)
        self.taken += keys

    @rule()
    def finish(self) -> None:
        self.queue.done(self.taken)
        for key in self.taken:
            del self.heard[key]
            if key in self.again:
                self.heard[key] = self.again.pop(key)
        self.taken = []

    @rule()
    def fail(self) -> None:
        self.queue.put_back(self.taken, failed=True)
        self.again.clear()
        self.taken = []

    @rule()
    def overflow(self) -> None:
        dropped = self.queue.overflow()
        for key in dropped:
            if key in self.again:
                del self.again[key]
            else:
                del self.heard[key]

    @invariant()
    def nothing_open_lies_below_the_safe_place(self) -> None:
        position = self.safe.position()
        first = min([*self.heard.values(), *self.again.values()], default=self.lsn)
        expected = min(first - 1, self.reached)
        found = -1 if position is None else position.lsn
        assert found <= expected
        if self.lsn and expected >= 0 and self.reached == self.lsn - 1:
            assert found == expected  # and it is no further back than it must be

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.heard) + len(self.again)
        assert self.queue.done_before(self.safe.number) == (
            not any(n < self.lsn for n in [*self.heard.values(), *self.again.values()])
        )


TestObligations = Obligations.TestCase
TestObligations.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
