"""Goal: a search finds the same in the event loop and in a thread; slots that are known hold."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest

from millrace.community.types import Audience, Key
from millrace.feed.history import PostList
from millrace.feed.index import IndexEntry, PostIndex
from millrace.feed.known import KnownSlots
from millrace.feed.scanning import Scanner

POSTS, DIMS = 3_000, 8


def entry(number):
    return IndexEntry(
        key=Key(1, number),
        author=Key(1, 1),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        language="",
        audience=Audience.PUBLIC,
    )


@pytest.fixture
def index():
    rng = np.random.default_rng(7)
    found = PostIndex(DIMS)
    for number in range(POSTS):
        found.put(entry(number), rng.standard_normal(DIMS).astype(np.float32))
    return found


async def test_a_search_in_a_thread_finds_the_same(index):
    """Wide and narrow masks, some who leave meanwhile, and one that fails."""
    scanner, rng = Scanner(index, at_once=0), np.random.default_rng(8)
    asked = []
    for number in range(20):
        mask = rng.random(4 * 1_024)[: len(index.home(1))] < (0.9 if number % 3 else 0.05)
        mask[POSTS:] = False
        asked.append((rng.standard_normal(DIMS).astype(np.float32), 40, mask))
    tasks = [asyncio.create_task(scanner.search(*one)) for one in asked]
    await asyncio.sleep(0)
    for task in tasks[::5]:
        task.cancel()
    with pytest.raises(AssertionError, match="is not"):
        await scanner.search(np.ones(DIMS + 1, dtype=np.float32), 5, asked[0][2])
    found = await asyncio.gather(*tasks, return_exceptions=True)
    scanner.close()

    for place, (one, hits) in enumerate(zip(asked, found, strict=True)):
        if place % 5 == 0:
            assert isinstance(hits, asyncio.CancelledError)
            continue
        alone = await Scanner(index).search(*one)
        assert hits.slots.tolist() == alone.slots.tolist()
        assert hits.scores.tolist() == alone.scores.tolist()


def test_known_slots_follow_removals_and_newcomers(index):
    """What was looked up holds until a post is removed; what had no slot is looked for again."""
    known = KnownSlots(index)
    posts = PostList(Key(1, number) for number in (1, 2, POSTS + 5))

    def found():
        assert sorted(known.of(posts).tolist()) == sorted(index.slots(posts).tolist())
        return len(known.of(posts))

    assert found() == 2
    index.put(entry(POSTS + 5), None)
    assert found() == 3
    index.remove(Key(1, 2))
    assert found() == 2
    index.put(entry(POSTS + 6), None)  # maybe into the slot that became free
    assert found() == 2
    index.put(entry(2), None)
    assert found() == 3
    posts.add(Key(1, 3))
    posts.add(Key(1, POSTS + 9))
    assert found() == 4
    index.put(entry(POSTS + 9), None)
    assert found() == 5
