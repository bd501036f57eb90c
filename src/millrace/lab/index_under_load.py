"""Searches of an index while posts come and go beside them, and how long those take to be seen.

Searches are asked through the scanner, as the feed asks: a small index answers in the event loop,
a large one in a thread. One reader asks back to back, writers write at a set rate, and a probe
inserts a post, waits until it is found, takes it out and looks until it is gone.
"""

import asyncio
from time import perf_counter

import numpy as np
from msgspec import Struct, field

from millrace.feed.index import PostIndex, Vector
from millrace.feed.scanning import Scanner
from millrace.lab.vector_bed import DIMS, SCOPE, TOP, Bed, Matrix, entry, unit

WRITES_PER_SECOND = 200  # half of them inserts, half deletes
PROBE_SECONDS = 0.05
FIRST_NUMBER = 100_000_000  # of posts that are written here


class Seen(Struct):
    """What was measured, in milliseconds; writes are counted."""

    searches: list[float] = field(default_factory=list[float])
    inserts: list[float] = field(default_factory=list[float])
    deletes: list[float] = field(default_factory=list[float])
    writes: int = 0


def under_load(rng: np.random.Generator, bed: Bed, seconds: float) -> dict[str, object]:
    """Return what searches and writes take while both go on."""
    seen = Seen()
    asyncio.run(_all(rng, bed, seconds, seen))

    def p(which: int, times: list[float]) -> float:
        return round(float(np.percentile(times, which)), 3)

    return {
        "loaded_query_ms_p50": p(50, seen.searches),
        "loaded_query_ms_p99": p(99, seen.searches),
        "loaded_insert_visible_ms_p99": p(99, seen.inserts),
        "loaded_delete_visible_ms_p99": p(99, seen.deletes),
        "loaded_writes_per_second": round(seen.writes / seconds, 1),
    }


async def _all(rng: np.random.Generator, bed: Bed, seconds: float, seen: Seen) -> None:
    scanner, until = Scanner(bed.index), perf_counter() + seconds
    try:
        await asyncio.gather(
            _read(rng, bed, scanner, until, seen),
            _write(rng, bed.index, until, seen),
            _probe(rng, bed.index, scanner, until, seen),
        )
    finally:
        scanner.close()


async def _read(
    rng: np.random.Generator, bed: Bed, scanner: Scanner, until: float, seen: Seen
) -> None:
    """Ask back to back, never twice the same: what is remembered would answer the second."""
    while perf_counter() < until:
        query = unit(bed.queries[[rng.integers(len(bed.queries))]] + _noise(rng) / 10)[0]
        before = perf_counter()
        await scanner.search(query, TOP, bed.index.mask(SCOPE))
        seen.searches.append((perf_counter() - before) * 1e3)
        await asyncio.sleep(0)


async def _write(rng: np.random.Generator, index: PostIndex, until: float, seen: Seen) -> None:
    """Insert a post and remove it again a while later, at the set rate, whatever searches take."""
    number, began, written = FIRST_NUMBER, perf_counter(), list[int]()
    while (now := perf_counter()) < until:
        while seen.writes < (now - began) * WRITES_PER_SECOND:
            if seen.writes % 2:
                index.remove(entry(written.pop(0)).key)
            else:
                index.put(entry(number), unit(_noise(rng))[0])
                written.append(number)
                number += 1
            seen.writes += 1
        await asyncio.sleep(1 / WRITES_PER_SECOND)


async def _probe(
    rng: np.random.Generator, index: PostIndex, scanner: Scanner, until: float, seen: Seen
) -> None:
    """Insert, find, remove, look again; the time runs from before the write to after the search."""
    number = 2 * FIRST_NUMBER
    while perf_counter() < until:
        post, vector = entry(number), unit(_noise(rng))[0]
        number += 1
        before = perf_counter()
        index.put(post, vector)
        found = await _keys(index, scanner, vector)
        seen.inserts.append((perf_counter() - before) * 1e3)
        assert found[0] == post.key, f"post {post.key} is not visible after its insert"
        before = perf_counter()
        index.remove(post.key)
        found = await _keys(index, scanner, vector)
        seen.deletes.append((perf_counter() - before) * 1e3)
        assert post.key not in found, f"post {post.key} outlived its delete"
        await asyncio.sleep(PROBE_SECONDS)


async def _keys(index: PostIndex, scanner: Scanner, vector: Vector) -> list[object]:
    """Return what is found, without what was cleared or given away while the search ran."""
    births = index.births
    hits = await scanner.search(vector, TOP, index.mask(SCOPE))
    return list(index.keys(hits.slots[index.still(hits.slots, births)]))


def _noise(rng: np.random.Generator) -> Matrix:
    return rng.standard_normal((1, DIMS), dtype=np.float32)
