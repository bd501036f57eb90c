"""`millrace bench index`: the index beside faiss flat, in one run, one thread each.

Both systems hold the same vectors and answer the same queries under the same filter. Their
queries alternate, and who goes first alternates too, so that a noisy neighbour slows both; the
figures are medians. faiss filters with its bitmap selector, ours with a mask; both are made
before the clock starts. The exact index is what the figures are of; the other kinds behind the
same port stand under `kinds`, each beside faiss again.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from millrace.feed.index_kinds import first_look
from millrace.feed.types import IndexKind
from millrace.kernel.errors import SetupError
from millrace.lab import report
from millrace.lab.index_under_load import under_load
from millrace.lab.vector_bed import (
    DIMS,
    SCOPE,
    TOP,
    Bed,
    Matrix,
    Truth,
    entry,
    library,
    made,
    recall,
    truth,
    unit,
)

SIZES = (100_000, 1_000_000)
SIZES_QUICK = (100_000, 300_000)
QUERIES, QUERIES_QUICK = 400, 60
LARGE = 500_000  # posts; from here on a quarter of the queries, which take ten times as long
RECALLED, RECALLED_QUICK = 60, 20  # queries whose true answer is computed
VISIBLE, VISIBLE_QUICK = 300, 60
KIND_QUERIES, KIND_QUERIES_QUICK = 60, 10
LOAD_SECONDS, LOAD_SECONDS_QUICK = 10.0, 2.0
PEER_WRITES = 5  # of each kind; one removal moves every vector behind it
WARM_UP = 5

Search: TypeAlias = Callable[[Matrix], object]
Times: TypeAlias = dict[str, tuple[list[float], list[float]]]


def run(quick: bool, seed: int, posts: Sequence[int] = ()) -> dict[str, object]:
    """Measure the index beside faiss.

    Args:
        quick: fewer queries, and a smaller second size.
        seed: of the vectors, the queries and the filters.
        posts: how many there are, once for each measurement; empty means the usual sizes.

    Returns:
        The keys of BENCH.md for `index` at the first size, and `sizes` with the same keys at each.
    """
    start, faiss = report.begin(seed), library()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            usual = SIZES_QUICK if quick else SIZES
            sizes = [_measured(quick, seed, size) for size in posts or usual]
    finally:
        faiss.omp_set_num_threads(threads)
    figures: dict[str, object] = {"index": str(IndexKind.EXACT), **sizes[0], "sizes": sizes}
    return report.finish(start, figures, ("faiss-cpu", "simsimd", "torch"))


def _measured(quick: bool, seed: int, posts: int) -> dict[str, object]:
    """Return all figures at one size."""
    rng = np.random.default_rng(seed)
    queries = QUERIES_QUICK if quick else QUERIES if posts < LARGE else QUERIES // 4
    began = perf_counter()
    bed = made(rng, posts, queries)
    bed.index.search(bed.queries[0], TOP)  # what a first look keeps of the rows is made here
    filled = perf_counter() - began
    figures: dict[str, object] = {"posts": posts, "dims": DIMS, "threads": 1, "top": TOP}
    figures |= _figures(_times(bed, bed.queries))
    true = truth(bed, bed.queries[: RECALLED_QUICK if quick else RECALLED])
    figures["recall_at_500"] = min(lowest for _, lowest in recall(bed, true).values())
    figures |= _visible(rng, bed, VISIBLE_QUICK if quick else VISIBLE)
    figures |= under_load(rng, bed, LOAD_SECONDS_QUICK if quick else LOAD_SECONDS)
    figures |= _memory(bed) | {"fill_seconds": round(filled, 1)}
    count = KIND_QUERIES_QUICK if quick else KIND_QUERIES
    kinds = [kind for kind in IndexKind if kind is not IndexKind.EXACT]
    figures["kinds"] = {str(kind): _kind(bed, kind, bed.queries[:count], true) for kind in kinds}
    return figures | _peer_writes(rng, bed)


def _kind(bed: Bed, kind: IndexKind, queries: Matrix, true: Truth) -> dict[str, object]:
    """Return the figures of another kind of index over the same posts."""
    try:
        maker = first_look(kind)
    except SetupError as error:
        return {"absent": str(error)}
    before = perf_counter()
    bed.index.look_through(maker)
    bed.index.search(queries[0], TOP)
    bed.index.look.ready()
    made_in = perf_counter() - before
    figures = _figures(_times(bed, queries))
    found = recall(bed, true)
    return {
        **figures,
        "recall_at_500_mean": {name: mean for name, (mean, _) in found.items()},
        "recall_at_500_least": {name: lowest for name, (_, lowest) in found.items()},
        "first_look_mib": _mib(bed.index.look.bytes),
        "made_in_seconds": round(made_in, 1),
    }


def _times(bed: Bed, queries: Matrix) -> Times:
    """Return, per search, the milliseconds of each query: ours and theirs."""
    ours, theirs = _searches(bed), _peer_searches(bed)
    times: Times = {name: ([], []) for name in ours}
    for number, query in enumerate([*queries[:WARM_UP], *queries]):
        for name in ours:
            pair = [(ours[name], times[name][0]), (theirs[name], times[name][1])]
            for search, spent in pair if number % 2 else reversed(pair):
                before = perf_counter()
                search(query)
                elapsed = (perf_counter() - before) * 1e3
                if number >= WARM_UP:
                    spent.append(elapsed)
    return times


def _searches(bed: Bed) -> dict[str, Search]:
    """Return our searches by name."""
    return {
        name: lambda query, mask=mask: bed.index.search(query, TOP, mask)
        for name, mask in bed.masks.items()
    }


def _peer_searches(bed: Bed) -> dict[str, Search]:
    """Return the same searches by faiss, with the same names; where all pass, without a filter."""
    faiss, peer, posts = bed.faiss, bed.peer, bed.posts

    def search(name: str) -> Search:
        mask = bed.masks[name][:posts]
        if mask.all():
            return lambda query: peer.search(query[None], TOP)
        bits = np.packbits(mask, bitorder="little")
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        # `bits` is an argument so that it lives as long as the selector that points into it.
        return lambda query, bits=bits: peer.search(query[None], TOP, params=chosen)

    return {name: search(name) for name in bed.masks}


def _figures(times: Times) -> dict[str, object]:
    """Return medians and ratios under the fixed names."""
    figures: dict[str, object] = {"queries": len(times["query"][0])}
    for name, (ours, theirs) in times.items():
        mine, peer = float(np.median(ours)), float(np.median(theirs))
        other, ratio = ("flat", "to_faiss") if name == "query" else (name, name)
        figures[f"{name}_ms_p50"] = round(mine, 3)
        figures[f"faiss_{other}_ms_p50"] = round(peer, 3)
        figures[f"ratio_{ratio}"] = round(mine / peer, 3)
    return figures


def _visible(rng: np.random.Generator, bed: Bed, times: int) -> dict[str, object]:
    """Return how long a post takes to appear in, and to leave, the answers of the next search.

    The time runs from before the write to after the search, mask included.
    """
    index, appeared, left = bed.index, list[float](), list[float]()
    for number in range(bed.posts, bed.posts + times):
        post = entry(number)
        vector = unit(rng.standard_normal((1, DIMS), dtype=np.float32))[0]
        before = perf_counter()
        index.put(post, vector)
        first = index.keys(index.search(vector, TOP, index.mask(SCOPE)).slots[:1])
        appeared.append((perf_counter() - before) * 1e3)
        assert first == [post.key], f"post {post.key} is not visible after its insert"
        before = perf_counter()
        index.remove(post.key)
        after = index.search(vector, TOP, index.mask(SCOPE))
        left.append((perf_counter() - before) * 1e3)
        assert post.key not in index.keys(after.slots), f"post {post.key} outlived its delete"
    return {
        "insert_visible_ms_p99": round(float(np.percentile(appeared, 99)), 3),
        "delete_visible_ms_p99": round(float(np.percentile(left, 99)), 3),
    }


def _peer_writes(rng: np.random.Generator, bed: Bed) -> dict[str, object]:
    """Return what one insert and one delete cost faiss flat, which moves the others up."""
    added, removed = list[float](), list[float]()
    for _ in range(PEER_WRITES):
        vector = unit(rng.standard_normal((1, DIMS), dtype=np.float32))
        before = perf_counter()
        bed.peer.add(vector)
        between = perf_counter()
        bed.peer.remove_ids(np.array([rng.integers(bed.posts)], dtype=np.int64))
        added.append((between - before) * 1e3)
        removed.append((perf_counter() - between) * 1e3)
    return {
        "faiss_insert_ms_p50": round(float(np.median(added)), 3),
        "faiss_delete_ms_p50": round(float(np.median(removed)), 3),
    }


def _memory(bed: Bed) -> dict[str, object]:
    """Return what the vectors take, and what the first look takes besides."""
    row = DIMS * np.dtype(np.float32).itemsize
    return {
        "vectors_mib": _mib(bed.index.capacity * row),
        "first_look_mib": _mib(bed.index.look.bytes),
        "faiss_vectors_mib": _mib(bed.posts * row),
    }


def _mib(count: int) -> float:
    """Return bytes as MiB."""
    return round(count / 2**20, 1)
