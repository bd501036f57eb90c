"""Goal: a thousand flags split a hundred thousand members fairly, apart from one another, for good.

What takes part:
- the whole cross of 1,000 flags and 100,000 members, in places of bucketing v2 that are computed
  with numpy: percentages, and independence of each flag from the 40 nearest;
- all 499,500 pairs of flags over every tenth member: independence;
- every member with one flag and every flag with a hundred members through the compiled flags:
  numpy's places are those that decide, and stickiness up a ladder of percentages; a tenth of the
  flags, each with its hundred members, for stickiness over a schedule.
The members and the flags are fixed, so a bound that holds once holds in every run; each is so wide
that fair hashing of other names would break it less than once in ten thousand runs.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from millrace.kernel.rng import rng as seeded
from millrace.release.flags.bucketing import v2
from millrace.release.flags.edits import with_ramp, with_rules
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.ramps import Ramp, scheduled
from millrace.release.flags.rules import Rule

FLAGS = [f"flag-{n:03}" for n in range(1000)]  # 8 bytes: a whole number of the hash's blocks
MEMBERS = [f"{n % 997}-{n * 7919}" for n in range(100_000)]
SHARES = [(1, 99_999), (10, 990), (1, 99), (25, 75), (1, 1), (333, 667), (9, 1), (999, 1)]
NEAREST = 20
SIGMAS = 7  # one in 4 * 10^11
START = datetime(2026, 12, 1, tzinfo=UTC)
C1, C2, C3 = np.uint32(0xCC9E2D51), np.uint32(0x1B873593), np.uint32(0xE6546B64)


def turned(values: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))


def mixed(names: list[bytes], start: int, size: int) -> NDArray[np.uint32]:
    """A block of each name, up to where the hash's state comes in."""
    blocks = [int.from_bytes(name[start : start + size], "little") for name in names]
    return turned(np.array(blocks, np.uint32) * C1, 15) * C2


class Crowd:
    """Names whose places under many flags are wanted: what owes nothing to the flag is kept.

    murmur3_x86_32, seed 0, over flag and name joined; the flag has a whole number of blocks.
    """

    def __init__(self, names: list[str]):
        by_size: dict[int, list[int]] = {}
        for n, name in enumerate(names):
            by_size.setdefault(len(name), []).append(n)
        self.groups = [
            (size, order, [names[n].encode() for n in order]) for size, order in by_size.items()
        ]
        self.order = np.concatenate([order for _, order, _ in self.groups])
        self.blocks = [
            [mixed(group, start, 4) for start in range(0, size - 3, 4)]
            for size, _, group in self.groups
        ]
        self.tails = [
            mixed(group, size - size % 4, size % 4) if size % 4 else np.uint32(0)
            for size, _, group in self.groups
        ]

    def places(self, flag: str) -> NDArray[np.uint32]:
        """Where every name lies under a flag, in the order of `self.order`."""
        state = np.uint32(0)
        for start in range(0, len(flag), 4):
            block = mixed([flag.encode()], start, 4)[0]
            state = turned(np.array([state ^ block]), 13)[0] * np.uint32(5) + C3
        found = []
        for (size, order, _), blocks, tail in zip(
            self.groups, self.blocks, self.tails, strict=True
        ):
            h = np.full(len(order), state)
            for block in blocks:
                h = turned(h ^ block, 13) * np.uint32(5) + C3
            h ^= tail ^ np.uint32(size + len(flag))
            for shift, factor in [(16, 0x85EBCA6B), (13, 0xC2B2AE35)]:
                h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
            found.append(h ^ (h >> np.uint32(16)))
        return np.concatenate(found)


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    with np.errstate(over="ignore"):  # the hash is modulo 2^32
        return Crowd(MEMBERS)


@pytest.fixture(scope="module")
def halves(crowd: Crowd) -> dict[str, Any]:
    """For every flag, over all members: counts below the bounds of its shares, and one bit each."""
    counts, bits = np.zeros(len(FLAGS), np.int64), []
    pairs = []
    with np.errstate(over="ignore"):
        for n, flag in enumerate(FLAGS):
            places = crowd.places(flag)
            (bound,) = v2.bounds(SHARES[n % len(SHARES)])
            counts[n] = np.count_nonzero(places < bound)
            bits.append(np.packbits(places < (1 << 31)))
            mine = np.nonzero(crowd.order % len(FLAGS) == n)[0]
            pairs += [(flag, MEMBERS[crowd.order[k]], int(places[k])) for k in mine]
    return {"counts": counts, "bits": np.array(bits), "pairs": pairs}


def test_numpy_lays_members_where_the_flags_do(halves: dict[str, Any]):
    """Every member and every flag: the places below are those that decide."""
    wrong = [row for row in halves["pairs"] if v2.place(row[0] + row[1]) != row[2]]

    assert len(halves["pairs"]) == len(MEMBERS)
    assert not wrong


def test_percentages_are_within_binomial_bounds(halves: dict[str, Any]):
    """Each flag gives its first share to as many of all members as the percentage says."""
    shares = np.array([SHARES[n % len(SHARES)] for n in range(len(FLAGS))], float)
    chance = shares[:, 0] / shares.sum(axis=1)
    spread = np.sqrt(len(MEMBERS) * chance * (1 - chance))

    far = (halves["counts"] - len(MEMBERS) * chance) / spread

    assert np.abs(far[chance > 0.001]).max() < SIGMAS
    assert halves["counts"][chance < 0.001].max() <= 12, "one is expected, a Poisson number"
    assert abs(np.mean(far**2) - 1) < 10 * np.sqrt(2 / len(far)), "neither too even nor too wild"


def distances(mine: NDArray[Any], others: NDArray[Any], members: int) -> NDArray[np.float64]:
    """How far, in standard errors, halves are from being chosen apart from one another."""
    both = np.bitwise_count(mine & others).sum(axis=-1, dtype=np.int64)
    first = np.bitwise_count(mine).sum(axis=-1, dtype=np.int64)
    second = np.bitwise_count(others).sum(axis=-1, dtype=np.int64)
    return (both - first * second / members) / np.sqrt(members / 16)


def test_flags_choose_apart_from_one_another(halves: dict[str, Any]):
    """Who has one flag is no more and no less likely to have another."""
    words = np.zeros((len(FLAGS), 12504), np.uint8)
    words[:, :12500] = halves["bits"]
    whole = words.view(np.uint64)
    tenth = np.ascontiguousarray(words[:, :12500:10].copy()[:, :1248]).view(np.uint64)

    near = np.concatenate(
        [
            distances(whole, np.roll(whole, step, axis=0), len(MEMBERS))
            for step in range(1, NEAREST + 1)
        ]
    )
    all_pairs = np.concatenate(
        [distances(tenth[n], tenth[n + 1 :], 1248 * 8) for n in range(len(FLAGS) - 1)]
    )

    assert len(near) == len(FLAGS) * NEAREST
    assert len(all_pairs) == len(FLAGS) * (len(FLAGS) - 1) // 2
    for far in (near, all_pairs):
        assert np.abs(far).max() < SIGMAS
        assert abs(np.mean(far**2) - 1) < 10 * np.sqrt(2 / len(far))


def definition(percentage: float) -> dict[str, Any]:
    """Everyone off, but for a percentage."""
    plain = {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "off"}
    return with_ramp(plain, "on", percentage)


def test_nobody_is_dropped_from_one_to_a_hundred_percent(halves: dict[str, Any]):
    """Every member under a flag of theirs, up a ladder of percentages that is the flag's own."""
    rng, people = seeded(7), {}
    for flag, member, _ in halves["pairs"]:
        people.setdefault(flag, []).append({"targetingKey": member})
    gained = []
    for flag in FLAGS:
        middle = sorted(round(rng.uniform(1, 100), rng.randrange(7)) for _ in range(3))
        have: set[str] = set()
        for percentage in [1, *middle, 100]:
            found = FlagSet.compile({"flags": {flag: definition(percentage)}})
            now = {
                context["targetingKey"]
                for context in people[flag]
                if found.evaluate(flag, context, 0).variant == "on"
            }
            assert have <= now, f"{flag} drops {have - now} at {percentage} %"
            have = now
            gained.append(len(now))
        assert len(have) == 100

    assert 500 < sum(gained[::5]) < 1500, "one in a hundred begins"


def test_nobody_is_dropped_while_a_schedule_goes_on(halves: dict[str, Any]):
    """The same with one definition whose percentage grows by itself, every hour."""
    ladder = [0.5, 1, 7.25, 33, 90, 100]
    ramp = Ramp("on", "off", scheduled(START, timedelta(hours=1), ladder))
    rule = with_rules(definition(0), [Rule((), ramp)])
    found = FlagSet.compile({"flags": dict.fromkeys(FLAGS[::10], rule)})
    hours = [(START + timedelta(hours=n)).timestamp() for n in range(len(ladder))]
    sizes, scheduled_flags = np.zeros(len(ladder)), set(FLAGS[::10])
    for flag, member, place in halves["pairs"]:
        if flag not in scheduled_flags:
            continue
        context = {"targetingKey": member}
        have = [found.evaluate(flag, context, at).variant == "on" for at in hours]
        assert have == [
            place < v2.bounds([share, 400 - share])[0] for share in (2, 4, 29, 132, 360, 400)
        ]
        assert have == sorted(have), f"{flag} drops {member}"
        assert found.evaluate(flag, context, hours[0] - 1).variant == "off"
        sizes += have

    expected = np.array(ladder) * len(MEMBERS) / 10 / 100
    assert np.abs(sizes - expected).max() < SIGMAS * np.sqrt(len(MEMBERS) / 40)
