"""One load for many readers, bounds, and logs that do not compare; interleaved by hand."""

import asyncio

import pytest

from millrace.store.cache import Bounds, InProcessCache, Loaded
from millrace.store.types import Position

MANY = 100


def at(lsn: int, timeline: int = 1) -> Position:
    return Position("town", timeline, lsn)


class Tokens:
    """Tokens are numbers; the primary has got as far as `end`."""

    def __init__(self) -> None:
        self.end = 100
        self.asked = 0

    def claimed(self, token: str) -> Position | None:
        return at(int(token)) if token.isdecimal() else None

    async def position_of(self, token: str) -> Position | None:
        self.asked += 1
        found = self.claimed(token)
        return found if found and found.lsn <= self.end else None


class Tables:
    """Loads that wait until the test answers them."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], asyncio.Future[dict[str, Loaded[str]]]]] = []

    async def load(self, keys):
        answer = asyncio.get_running_loop().create_future()
        self.calls.append((list(keys), answer))
        return await answer

    def answer(self, place: int, **rows: str) -> None:
        self.calls[place][1].set_result({key: Loaded(value, 1) for key, value in rows.items()})


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def cache(tables, tokens):
    made = InProcessCache(tokens=tokens, load=tables.load, bounds=Bounds(entries_max=3))
    made.begin(at(10))
    return made


async def rest() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_readers_of_a_key_make_one_load(cache, tables):
    readers = [asyncio.create_task(cache.read("a", "5")) for _ in range(MANY)]
    await rest()
    assert [keys for keys, _ in tables.calls] == [["a"]]

    tables.answer(0, a="one")

    assert await asyncio.gather(*readers) == ["one"] * MANY
    assert await cache.read("a", "5") == "one"
    assert len(tables.calls) == 1
    found = cache.statistics()
    assert (found.loads, found.joins, found.misses, found.hits) == (1, MANY - 1, MANY, 1)


async def test_whom_the_load_does_not_cover_share_the_next_one(cache, tables):
    early = asyncio.create_task(cache.read("a"))
    await rest()
    late = [asyncio.create_task(cache.read("a", "50")) for _ in range(MANY)]
    await rest()
    assert len(tables.calls) == 1, "the next load waits for the first"

    tables.answer(0, a="old")
    await rest()
    assert (await early, len(tables.calls)) == ("old", 2)
    tables.answer(1, a="new")

    assert await asyncio.gather(*late) == ["new"] * MANY
    assert len(tables.calls) == 2


async def test_a_failing_load_fails_its_readers_and_is_not_kept(cache, tables):
    readers = [asyncio.create_task(cache.read("a")) for _ in range(3)]
    await rest()
    after = asyncio.create_task(cache.read("a", "50"))
    await rest()
    tables.calls[0][1].set_exception(RuntimeError("the server is away"))

    failures = await asyncio.gather(*readers, return_exceptions=True)
    assert [str(one) for one in failures] == ["the server is away"] * 3

    await rest()
    tables.answer(1, a="one")
    assert await after == "one"
    assert cache.held("a", at(10)) is not None


async def test_a_load_that_nobody_waits_for_any_more_may_fail_in_silence(cache, tables):
    reader = asyncio.create_task(cache.read("a"))
    await rest()
    reader.cancel()
    await rest()

    tables.calls[0][1].set_exception(RuntimeError("nobody hears this"))
    await rest()

    assert cache.held("a") is None


async def test_who_stops_waiting_leaves_the_load_to_the_others(cache, tables):
    first = asyncio.create_task(cache.read("a"))
    second = asyncio.create_task(cache.read("a"))
    await rest()

    first.cancel()
    await rest()
    tables.answer(0, a="one")

    assert await second == "one"
    assert first.cancelled()


async def test_some_keys_are_joined_and_the_others_loaded(cache, tables):
    one = asyncio.create_task(cache.read("a"))
    await rest()
    both = asyncio.create_task(cache.read_many(["a", "b", "a"]))
    await rest()
    assert [keys for keys, _ in tables.calls] == [["a"], ["b"]]

    tables.answer(1)
    tables.answer(0, a="one")

    assert (await one, await both) == ("one", {"a": "one"})
    held = cache.held("b")
    assert held is not None
    assert held.value is None


async def test_a_token_beyond_the_primary_promises_nothing(cache, tables, tokens):
    filling = asyncio.create_task(cache.read("a"))
    await rest()
    tables.answer(0, a="one")
    await filling

    assert await cache.read("a", "1000") == "one"
    assert (len(tables.calls), tokens.asked) == (1, 1)


async def test_a_covered_token_asks_nobody(cache, tables, tokens):
    filling = asyncio.create_task(cache.read("a", "10"))
    await rest()
    tables.answer(0, a="one")
    await filling
    cache.advance(at(60))

    assert await cache.read("a", "60") == "one"
    assert tokens.asked == 0


async def test_another_timeline_begins_empty(cache, tables):
    filling = asyncio.create_task(cache.read_many(["a", "b"]))
    await rest()
    cache.invalidate("c", at(90))
    tables.answer(0, a="one", b="two")
    await filling

    cache.begin(at(20, timeline=2))

    assert cache.held("a") is None
    assert cache.held("a", at(20)) is None
    again = asyncio.create_task(cache.read("c"))
    await rest()
    tables.answer(1, c="three")
    assert await again == "three"
    assert cache.held("c", at(20, timeline=2)) is not None, "floors of the other log are forgotten"


async def test_an_interrupted_stream_leaves_what_covers_a_token(cache, tables):
    filling = asyncio.create_task(cache.read("a"))
    await rest()
    tables.answer(0, a="one")
    await filling

    cache.lost()

    assert cache.held("a") is None
    assert cache.held("a", at(10)) is not None
    assert cache.held("a", at(11)) is None


async def test_what_was_not_asked_for_longest_goes_first(cache, tables):
    for place, key in enumerate("abcad"):
        reading = asyncio.create_task(cache.read(key))
        await rest()
        if place != 3:
            tables.answer(min(place, 3), **{key: key})
        await reading

    assert [cache.held(key) is not None for key in "abcd"] == [True, False, True, True]
    assert cache.statistics().evictions == 1


async def test_weight_is_bounded_and_follows_what_is_folded_in(tables, tokens):
    cache = InProcessCache(tokens=tokens, load=tables.load, weigh=len, bounds=Bounds(weight_max=10))
    cache.begin(at(10))

    async def load(keys):
        return {key: Loaded([key]) for key in keys}

    cache._load = load
    await cache.read_many(["a", "b", "c"])
    cache.fold("b", lambda value: value.extend("xxx"), at(11))
    assert cache.statistics().weight == 6
    cache.fold("b", lambda value: value.extend("xxx"), at(10))
    assert cache.statistics().weight == 6, "what is in the entry already is not told it again"

    cache.fold("c", lambda value: value.extend("x" * 6), at(12))

    assert cache.held("a") is None, "the heaviest is not the one that goes"
    assert cache.statistics().weight <= 10


async def test_what_concerns_many_is_found_and_loads_under_way_are_not_kept(cache, tables):
    filling = asyncio.create_task(cache.read_many(["a", "b"]))
    await rest()
    tables.answer(0, a="left", b="right")
    await filling
    late = asyncio.create_task(cache.read("c"))
    await rest()

    cache.invalidate_where(lambda _, value: value == "left", at(11))
    tables.answer(1, c="left")

    assert await late == "left"
    assert [cache.held(key) is not None for key in "abc"] == [False, True, False]
    assert cache.statistics().refused == 1


async def test_of_a_joined_load_only_those_keys_are_taken_for_which_it_will_do(cache, tables):
    early = asyncio.create_task(cache.read_many(["a", "b"]))
    await rest()
    cache.invalidate("b", at(20))
    cache.advance(at(20))
    late = asyncio.create_task(cache.read_many(["a", "b"]))
    await rest()

    tables.answer(0, a="one", b="before it was deleted")
    await rest()
    tables.answer(1)

    assert await early == {"a": "one", "b": "before it was deleted"}
    assert await late == {"a": "one"}
