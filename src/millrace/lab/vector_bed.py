"""Made-up posts with vectors, the same ones in our index and in faiss, and who may be found.

Vectors are clustered, as texts are, and are made block by block: a million of them take 1.5 GB in
each system, and nobody has a third copy.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Audience, Key
from millrace.feed.index import IndexEntry, PostIndex, Scope
from millrace.kernel.errors import SetupError

DIMS = 384
TOP = 500
BLOCK = 50_000  # vectors that are made together
CLUSTERS = 2_000
COMMUNITIES, AUTHORS = 50, 5_000
TIE = 1e-6  # a found post whose exact score is this near the last true one counts as found
START = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = Scope(community_id=0)
SHARES = {"query": 1.0, "filtered_10": 0.1, "filtered_1": 0.01}

Matrix: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
_AUTHORS = [Key(number % COMMUNITIES, number) for number in range(AUTHORS)]


class Bed(Struct, frozen=True):
    """What is measured, and with what.

    peer: faiss flat with the same vectors; a post's number there is its slot here.
    masks: which posts may be found, by the name of the filter.
    """

    index: PostIndex
    faiss: Any
    peer: Any
    queries: Matrix
    masks: dict[str, Mask]

    @property
    def posts(self) -> int:
        """Return how many posts there were at first."""
        return int(self.peer.ntotal)


def made(rng: np.random.Generator, posts: int, queries: int) -> Bed:
    """Return so many posts in both systems, and queries near some of them.

    Passes on:
        SetupError: faiss is not installed.
    """
    faiss = library()
    index, peer = PostIndex(DIMS, posts), faiss.IndexFlatIP(DIMS)
    number = 0
    for block in _vectors(rng, posts):
        peer.add(block)
        for vector in block:
            index.put(entry(number), vector)
            number += 1
    chosen = index.vectors(rng.choice(posts, queries, replace=False))
    shift = rng.standard_normal(chosen.shape, dtype=np.float32) / DIMS**0.5
    masks = {name: _mask(rng, index, posts, share) for name, share in SHARES.items()}
    return Bed(index, faiss, peer, unit(chosen + shift), masks)


def library() -> Any:
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


class Truth(Struct, frozen=True):
    """What the last of the true best scores, of each query, by the name of the filter."""

    queries: Matrix
    least: dict[str, list[float]]


def truth(bed: Bed, queries: Matrix) -> Truth:
    """Return the truth in double precision, from the vectors that faiss holds."""
    scores = np.empty((len(queries), bed.posts))
    for start in range(0, bed.posts, BLOCK):
        rows: Matrix = bed.peer.reconstruct_n(start, min(BLOCK, bed.posts - start))
        scores[:, start : start + len(rows)] = queries.astype(np.float64) @ rows.T.astype(
            np.float64
        )
    least: dict[str, list[float]] = {}
    for name, mask in bed.masks.items():
        passing = scores[:, mask[: bed.posts]]
        place = passing.shape[1] - min(TOP, passing.shape[1])
        least[name] = np.partition(passing, place, axis=1)[:, place].tolist()
    return Truth(queries, least)


def recall(bed: Bed, true: Truth) -> dict[str, tuple[float, float]]:
    """Return the mean and the smallest share of the true best that our index finds, by filter.

    Posts that tie with the last true one count; one that the mask hides makes the answer worth
    nothing.
    """
    shares: dict[str, tuple[float, float]] = {}
    for name, mask in bed.masks.items():
        top = min(TOP, int(np.count_nonzero(mask)))
        each: list[float] = []
        for query, least in zip(true.queries, true.least[name], strict=True):
            found = bed.index.search(query, TOP, mask).slots
            rows = bed.index.vectors(found).astype(np.float64)
            right = int(np.count_nonzero(rows @ query.astype(np.float64) >= least - TIE))
            whole = len(np.unique(found)) == top and bool(mask[found].all())
            each.append(right / top if whole else 0.0)
        shares[name] = (round(float(np.mean(each)), 4), round(min(each), 4))
    return shares


def entry(number: int) -> IndexEntry:
    """Return the entry of the post of a number; number and slot are the same at first."""
    return IndexEntry(
        key=Key(number % COMMUNITIES, number),
        author=_AUTHORS[number % AUTHORS],
        created_at=START + timedelta(minutes=number),
        language="en",
        audience=Audience.PUBLIC,
    )


def unit(rows: NDArray[np.floating[Any]]) -> Matrix:
    """Return the rows at length one."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _vectors(rng: np.random.Generator, posts: int) -> Iterator[Matrix]:
    """Yield clustered unit vectors, block by block."""
    centres = rng.standard_normal((CLUSTERS, DIMS), dtype=np.float32)
    for start in range(0, posts, BLOCK):
        count = min(BLOCK, posts - start)
        noise = rng.standard_normal((count, DIMS), dtype=np.float32)
        yield unit(centres[rng.integers(0, CLUSTERS, count)] + noise)


def _mask(rng: np.random.Generator, index: PostIndex, posts: int, share: float) -> Mask:
    """Return a mask that keeps a random share of the posts; the worst case for a gather."""
    mask = np.zeros_like(index.mask(SCOPE))
    mask[rng.choice(posts, int(posts * share), replace=False)] = True
    return mask
