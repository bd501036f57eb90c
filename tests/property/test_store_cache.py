"""Goal: a cached answer is never older than it may be, and every safeguard of that is needed.

The model, and what P1 to P4 are, is in cache_world.py.
"""

import pytest
from cache_world import (
    BYTES,
    SESSIONS,
    TRANSACTIONS,
    CacheMachine,
    RestartingMachine,
    StaleError,
    Stream,
)
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from millrace.kernel.rng import rng
from millrace.store.cache import Held, InProcessCache

# ------------------------------------------------- what each safeguard is for


class Floorless(InProcessCache):
    """Races 2, 3 and 6: a fill from before an invalidation gets in."""

    def _may_keep(self, key, flight):
        return flight.lsn is not None


class FloorsGoWithEntries(InProcessCache):
    """Race 4: an eviction takes the floor along."""

    def _may_keep(self, key, flight):
        return flight.lsn is not None and (
            key not in self._entries or super()._may_keep(key, flight)
        )


class PutFillsGaps(InProcessCache):
    """What was evicted comes back as the stream tells it, older than what its readers had."""

    def put(self, key, value, version, position):
        super().put(key, value, version, position)
        if key not in self._entries:
            self._entries[key] = Held(value, version, position.lsn - 1, 1)
            self._weight += 1
            self._fit()


class PutReplacesAbsent(InProcessCache):
    """Race 6: a row that is gone again for whoever asked is there once more."""

    def put(self, key, value, version, position):
        entry = self._entries.get(key)
        if entry is not None and entry.version is None and entry.lsn < position.lsn:
            self._entries[key] = Held(value, version, position.lsn - 1, 1)
        super().put(key, value, version, position)


class PutByPositionAlone(InProcessCache):
    """Race 1: a load ran ahead of the stream, and the stream takes it back."""

    def put(self, key, value, version, position):
        if (entry := self._entries.get(key)) is not None and entry.lsn < position.lsn:
            entry.version = entry.version and 0
        super().put(key, value, version, position)


class PutClaimsItsTransaction(InProcessCache):
    """The first change of a transaction to a row passes for all that it did to the row."""

    def put(self, key, value, version, position):
        super().put(key, value, version, position)
        if (entry := self._entries.get(key)) is not None:
            entry.lsn = max(entry.lsn, position.lsn)


class DeleteByVersion(InProcessCache):
    """Race 7 and hole 4: a delete finds a version that is not lower, and does nothing."""

    def invalidate(self, key, position):
        if (entry := self._entries.get(key)) is None or entry.version is None:
            super().invalidate(key, position)
        self._floors.rise(key, position.lsn)


class AbsentStays(InProcessCache):
    """Race 6: the insert of a row does not concern the absent row that is held."""

    def invalidate(self, key, position):
        entry = self._entries.get(key)
        if entry is None or entry.value is not None:
            super().invalidate(key, position)
        self._floors.rise(key, position.lsn)


class BeginsWhereItWas(InProcessCache):
    """Race 5: what was missed while the stream was interrupted is never heard of."""

    def forget_all(self, position):
        self._floors.rise_all(position.lsn)


class NeverLost(InProcessCache):
    """Race 5: an interrupted stream counts as one that has nothing to say."""

    def lost(self):
        pass


class NoTokens(InProcessCache):
    """A member does not see what they wrote."""

    def _counts(self, entry, position):
        return super()._counts(entry, None)


class JoinsAnything(InProcessCache):
    """A load that began to read before the member wrote is good enough for them."""

    def _will_do(self, key, flight, asked):
        return super()._will_do(key, flight, None)


class JoinsBehindFloors(InProcessCache):
    """A load that began to read before others were given something newer is joined after."""

    def _will_do(self, key, flight, asked):
        return flight.lsn is not None and (asked is None or asked.lsn <= flight.lsn)


class RefusedLeavesTheOld(InProcessCache):
    """A load that is not kept was given to its readers, and what is held is older."""

    def _fill(self, key, loaded, flight):
        if self._may_keep(key, flight):
            super()._fill(key, loaded, flight)


class FiledAtArrival(InProcessCache):
    """The position of a fill is taken after the load instead of before."""

    def _fill(self, key, loaded, flight):
        flight.lsn = self._applied
        super()._fill(key, loaded, flight)


class FiledByTheLog(InProcessCache):
    """The position of a fill is where the log ends before the load."""

    def _fill(self, key, loaded, flight):
        flight.lsn = flight.ended
        super()._fill(key, loaded, flight)

    async def _fly(self, flight):
        flight.ended = self._tokens.table.end()
        return await super()._fly(flight)


class HeardBeforeSeen(Stream):
    """The stream tells a commit before others see it, and nobody waits until they do."""

    BARRIER = False


class PartsAtTheFirstByte(Stream):
    """Parts of a transaction are placed where their commit begins, and the one before it ends."""

    PART = BYTES


QUICK = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
RUNS, STEPS = 3_000, 60
WEIGHTS = {
    "write": 5, "become_visible": 3, "hear": 4, "read": 6, "go_on": 8,
    "lose": 0.3, "begin": 0.5, "cancel": 0.3,
}  # fmt: skip


def live(machine, draw):
    """Do what the rules do, in an order that is drawn: quicker than a search that also shrinks."""

    def one():
        return draw.choice("aaabc")

    moves = {
        "write": lambda: machine.write(
            one(), draw.choice(TRANSACTIONS), draw.choice(SESSIONS), *either(1)
        ),
        "become_visible": lambda: machine.become_visible(draw.randrange(10), draw.choice(SESSIONS)),
        "hear": lambda: machine.hear(draw.randint(1, 3)),
        "read": lambda: machine.read(draw.choice(SESSIONS), one(), one(), *either(2)),
        "go_on": lambda: machine.go_on(draw.randrange(10), draw.randrange(2)),
        "lose": lambda: machine.lose(*either(1)),
        "begin": machine.begin,
        "cancel": lambda: machine.cancel(draw.randrange(10)),
    }

    def either(count):
        return [draw.random() < 0.5 for _ in range(count)]

    for name in draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS):
        moves[name]()
        machine.what_is_held_goes_forward()


def found(machine_of, runs):
    """Return what the first wrong of so many drawn runs shows, or None."""
    for seed in range(runs):
        machine = machine_of()
        try:
            live(machine, rng(seed))
            machine.teardown()
        except StaleError as exc:
            machine.close()
            return str(exc)
    return None


@pytest.mark.parametrize("machine", [CacheMachine, RestartingMachine])
def test_nothing_is_older_than_it_may_be(machine):
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.parametrize(
    "without",
    [
        Floorless, FloorsGoWithEntries, PutFillsGaps, PutReplacesAbsent, PutByPositionAlone, PutClaimsItsTransaction,
        DeleteByVersion, AbsentStays, BeginsWhereItWas, NeverLost, NoTokens, JoinsAnything,
        JoinsBehindFloors, RefusedLeavesTheOld, FiledAtArrival, FiledByTheLog, HeardBeforeSeen, PartsAtTheFirstByte,
    ],
)  # fmt: skip
def test_each_safeguard_is_needed(without):
    class Machine(CacheMachine):
        CACHE = InProcessCache if issubclass(without, Stream) else without
        STREAM = without if issubclass(without, Stream) else Stream

    assert found(Machine, RUNS) is not None, f"{without.__doc__} Nothing shows it."


def test_the_runs_that_show_them_are_clean_with_all_safeguards():
    assert found(CacheMachine, RUNS // 10) is None
