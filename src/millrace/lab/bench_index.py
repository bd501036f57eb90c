"""`millrace bench index`: the exact index beside faiss flat, in one run, one thread each.

Both systems hold the same vectors and answer the same queries under the same filter. Their
queries alternate, and who goes first alternates too, so that a noisy neighbour slows both; the
figures are medians. faiss filters with its bitmap selector, ours with a mask; both are made
before the clock starts.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from millrace.community.types import Audience, Key
from millrace.feed.index import IndexEntry, PostIndex, Scope
from millrace.kernel.errors import SetupError
from millrace.lab import report

POSTS = 100_000
DIMS = 384
TOP = 500
CLUSTERS = 2_000
QUERIES = 400
QUERIES_QUICK = 60
VISIBLE = 300
VISIBLE_QUICK = 100
WARM_UP = 5
TIE = 1e-6  # a found post whose exact score is this near the last true one counts as found
START = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = Scope(community_id=0)

Matrix: TypeAlias = NDArray[np.float32]
Search: TypeAlias = Callable[[Matrix], object]


def run(quick: bool, seed: int) -> dict[str, object]:
    """Measure the index beside faiss.

    Args:
        quick: fewer queries; the same number of posts.
        seed: of the vectors, the queries and the filters.

    Returns:
        The keys of BENCH.md for `index`.
    """
    start = report.begin(seed)
    faiss = _faiss()
    rng = np.random.default_rng(seed)
    vectors, queries = _data(rng, QUERIES_QUICK if quick else QUERIES)
    index = PostIndex(DIMS, POSTS)
    for number, vector in enumerate(vectors):
        index.put(_entry(number), vector)
    peer = faiss.IndexFlatIP(DIMS)
    peer.add(vectors)
    masks = {"filtered_10": _mask(rng, index, 0.1), "filtered_1": _mask(rng, index, 0.01)}
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with _one_thread():
            times = _times(_searches(index, masks), _peer_searches(faiss, peer, masks), queries)
            recall = _recall(index, vectors, queries, masks["filtered_10"])
            visible = _visible(rng, index, VISIBLE_QUICK if quick else VISIBLE)
    finally:
        faiss.omp_set_num_threads(threads)
    figures = {"posts": POSTS, "dims": DIMS, "threads": 1, "top": TOP, **_figures(times)}
    figures |= {"recall_at_500": recall, **visible}
    return report.finish(start, figures, ("faiss-cpu",))


def _faiss() -> Any:
    """Return faiss, which only this measurement needs.

    Raises:
        SetupError: faiss is not installed.
    """
    try:
        return import_module("faiss")
    except ImportError as error:
        raise SetupError(
            "bench index compares with faiss, which is not installed",
            field="faiss-cpu",
            next_step="install the development tools: pip install --group dev",
        ) from error


def _one_thread() -> AbstractContextManager[object]:
    """Hold the linear algebra library to one thread."""
    return threadpool_limits(limits=1)


def _data(rng: np.random.Generator, queries: int) -> tuple[Matrix, Matrix]:
    """Return clustered unit vectors, as texts are, and queries near some of them."""
    centres = rng.standard_normal((CLUSTERS, DIMS), dtype=np.float32)
    noise = rng.standard_normal((POSTS, DIMS), dtype=np.float32)
    vectors = _unit(centres[rng.integers(0, CLUSTERS, POSTS)] + noise)
    chosen = vectors[rng.choice(POSTS, queries, replace=False)]
    shift = rng.standard_normal(chosen.shape, dtype=np.float32) / DIMS**0.5
    return vectors, _unit(chosen + shift)


def _unit(rows: NDArray[np.floating[Any]]) -> Matrix:
    """Return the rows at length one."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _entry(number: int) -> IndexEntry:
    """Return the entry of the post of a number; number and slot are the same here."""
    return IndexEntry(
        key=Key(number % 50, number),
        author=Key(number % 50, number % 5_000),
        created_at=START + timedelta(minutes=number),
        language="en",
        audience=Audience.PUBLIC,
    )


def _mask(rng: np.random.Generator, index: PostIndex, share: float) -> NDArray[np.bool_]:
    """Return a mask that keeps a random share of the posts; the worst case for a gather."""
    mask = np.zeros_like(index.mask(SCOPE))
    mask[rng.choice(POSTS, int(POSTS * share), replace=False)] = True
    return mask


def _searches(index: PostIndex, masks: dict[str, NDArray[np.bool_]]) -> dict[str, Search]:
    """Return our searches by name."""
    everything = index.mask(SCOPE)
    named = {"query": everything, **masks}
    return {
        name: lambda query, mask=mask: index.search(query, TOP, mask)
        for name, mask in named.items()
    }


def _peer_searches(
    faiss: Any,
    peer: Any,
    masks: dict[str, NDArray[np.bool_]],
) -> dict[str, Search]:
    """Return the same searches by faiss, with the same names."""

    def filtered(mask: NDArray[np.bool_]) -> Search:
        bits = np.packbits(mask[:POSTS], bitorder="little")
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        # `bits` is an argument so that it lives as long as the selector that points into it.
        return lambda query, bits=bits: peer.search(query[None], TOP, params=chosen)

    searches: dict[str, Search] = {"query": lambda query: peer.search(query[None], TOP)}
    return searches | {name: filtered(mask) for name, mask in masks.items()}


def _times(
    ours: dict[str, Search], theirs: dict[str, Search], queries: Matrix
) -> dict[str, tuple[list[float], list[float]]]:
    """Return, per search, the milliseconds of each query: ours and theirs."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ours}
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


def _figures(times: dict[str, tuple[list[float], list[float]]]) -> dict[str, object]:
    """Return medians and ratios under the fixed names."""
    median = {
        name: (float(np.median(ours)), float(np.median(theirs)))
        for name, (ours, theirs) in times.items()
    }
    return {
        "queries": len(times["query"][0]),
        "query_ms_p50": round(median["query"][0], 3),
        "faiss_flat_ms_p50": round(median["query"][1], 3),
        "ratio_to_faiss": round(median["query"][0] / median["query"][1], 3),
        "filtered_10_ms_p50": round(median["filtered_10"][0], 3),
        "faiss_filtered_10_ms_p50": round(median["filtered_10"][1], 3),
        "ratio_filtered_10": round(median["filtered_10"][0] / median["filtered_10"][1], 3),
        "filtered_1_ms_p50": round(median["filtered_1"][0], 3),
        "faiss_filtered_1_ms_p50": round(median["filtered_1"][1], 3),
        "ratio_filtered_1": round(median["filtered_1"][0] / median["filtered_1"][1], 3),
    }


def _recall(
    index: PostIndex, vectors: Matrix, queries: Matrix, filtered: NDArray[np.bool_]
) -> float:
    """Return the share of the true best that is found, with and without the filter, the lower.

    The truth is computed in double precision; posts that tie with the last true one count.
    """
    exact = vectors.astype(np.float64)
    shares: list[float] = []
    for query in queries:
        scores = exact @ query.astype(np.float64)
        for mask in (index.mask(SCOPE), filtered):
            allowed = scores.copy()
            allowed[~mask[:POSTS]] = -np.inf
            least = np.partition(allowed, POSTS - TOP)[POSTS - TOP]
            found = index.search(query, TOP, mask).slots
            right = int(np.count_nonzero(allowed[found] >= least - TIE))
            shares.append(right / TOP if len(np.unique(found)) == TOP else 0.0)
    return min(shares)


def _visible(rng: np.random.Generator, index: PostIndex, times: int) -> dict[str, object]:
    """Return how long a post takes to appear in, and to leave, the answers of the next search.

    The time runs from before the write to after the search, mask included.
    """
    appeared: list[float] = []
    left: list[float] = []
    for number in range(POSTS, POSTS + times):
        entry = _entry(number)
        vector = _unit(rng.standard_normal((1, DIMS), dtype=np.float32))[0]
        before = perf_counter()
        index.put(entry, vector)
        first = index.keys(index.search(vector, TOP, index.mask(SCOPE)).slots[:1])
        appeared.append((perf_counter() - before) * 1e3)
        assert first == [entry.key], f"post {entry.key} is not visible after its insert"
        before = perf_counter()
        index.remove(entry.key)
        after = index.search(vector, TOP, index.mask(SCOPE))
        left.append((perf_counter() - before) * 1e3)
        assert entry.key not in index.keys(after.slots), f"post {entry.key} outlived its delete"
    return {
        "insert_visible_ms_p99": round(float(np.percentile(appeared, 99)), 3),
        "delete_visible_ms_p99": round(float(np.percentile(left, 99)), 3),
    }
