"""A first look through lists of neighbours, which may miss some: what `feed.index` calls approximate.

faiss divides the vectors into lists by their nearest centre, and a look reads the lists whose
centres are nearest. That pays where many posts may be found among very many; where a filter leaves
few, the nearest of them lie in lists that nobody reads, so every other search is the exact one.
Filters and deletes are never approximate: what is not allowed is not even looked at, and where the
lists hold fewer than were asked for, the exact look is taken.

Lists are made beside, in a thread, from what there is then; until they are there, searches are
exact. What changes meanwhile is brought up to date before the lists serve.
"""

import logging
from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.feed.coarse import ASKED_SHARE, Coarse
from millrace.feed.first_look import Copies, Mask, Near, Slots, Vector

POSTS_MIN = 500_000  # the exact look takes seven milliseconds up to here, and lists miss more
DENSE_SHARE = 0.5  # of the slots; where fewer may be found, the nearest of them lie anywhere
PROBED_SHARE = 1 / 8  # of the lists
SPARE = 2  # times what was asked for is scored: the lists know vectors in eight bits
GROWN = 4  # times the posts that lists were made for, they are made anew
SAMPLE = 64  # vectors per list from which its centre is learned
ROUNDS = 10  # of learning centres
ADDED = 16_384  # vectors at a time

logger = logging.getLogger(__name__)


class NeighbourLists(Copies):
    """Lists where they pay, and the exact look for everything else."""

    def __init__(
        self,
        faiss: Any,
        vectors: Vector,
        *,
        exact: Callable[[Vector], Coarse] = Coarse,
        posts_min: int = POSTS_MIN,
    ) -> None:
        """Begin without lists.

        Args:
            faiss: the library, which is an extra.
            vectors: of every row; they are written behind this object's back.
            exact: makes the look that is taken where lists do not pay.
            posts_min: for how many posts lists are worth their memory.
        """
        super().__init__(vectors)
        self._faiss, self._posts_min = faiss, posts_min
        self._exact = exact(vectors)
        self._known = np.zeros(len(vectors), dtype=np.bool_)
        self._posts = 0  # slots that ever had a vector
        self._lists: _Lists | None = None
        self._late: list[int] = []  # changed since what is being made began
        self._made_for = 0  # posts, of the lists that are there or that are being made
        self._making: Thread | None = None

    @property
    def bytes(self) -> int:
        """Return how much memory this takes besides the vectors."""
        return self._exact.bytes + (0 if self._lists is None else self._lists.bytes)

    def changed(self, slot: int) -> None:
        """Hear that a slot has another vector, once it is written."""
        self._exact.changed(slot)
        super().changed(slot)

    def grow(self, vectors: Vector) -> None:
        """Have more rows: the same vectors, in another array with emptiness behind them."""
        self._exact.grow(vectors)
        super().grow(vectors)

    def prepare(self) -> None:
        """Copy what changed; lists are made when somebody looks."""
        self._exact.prepare()
        super().prepare()

    def ready(self) -> None:
        """Wait until the lists that are being made serve."""
        making = self._making
        if making is not None:
            making.join()

    def near(self, query: Vector, allowed: Mask, k: int, *, lasting: bool) -> Near | None:
        """Say what is worth scoring; None where scoring all that is allowed costs less."""
        count = int(np.count_nonzero(allowed))
        if count >= max(self._posts_min, DENSE_SHARE * len(allowed)) and k <= ASKED_SHARE * count:
            with self._alone:
                self.catch_up()
                self._make()
                slots = self._in_lists(query, allowed, k)
            if len(slots) >= k:
                return Near(slots, None)
        return self._exact.near(query, allowed, k, lasting=lasting)

    def _in_lists(self, query: Vector, allowed: Mask, k: int) -> Slots:
        if self._lists is None:
            return np.empty(0, dtype=np.int64)
        return self._lists.nearest(query, allowed, SPARE * k)

    def _make(self) -> None:
        """Begin to make lists where there are none, or too small ones."""
        enough = max(1, self._posts_min, GROWN * self._made_for)
        if self._making is None and self._posts >= enough:
            slots = np.flatnonzero(self._known)
            self._made_for = self._posts
            self._late.clear()
            self._making = Thread(
                target=self._made, args=(self._vectors, slots), name="millrace-lists", daemon=True
            )
            self._making.start()

    def _made(self, vectors: Vector, slots: Slots) -> None:
        """Make lists, and let them serve."""
        try:
            lists = _Lists(self._faiss, vectors, slots)
            with self._alone:
                lists.replace(np.unique(np.array(self._late, dtype=np.int64)), self._vectors)
                self._lists = lists
        except (RuntimeError, MemoryError):
            # Nothing is lost: searches stay exact, or go on with the lists that there are.
            logger.exception("lists of neighbours for %d posts were not made", len(slots))
        finally:
            self._making = None

    def _widen(self, rows: int) -> None:
        self._known = np.pad(self._known, (0, rows - len(self._known)))

    def _copy(self, slots: list[int]) -> None:
        rows = np.unique(np.array(slots, dtype=np.int64))
        self._posts += int(np.count_nonzero(~self._known[rows]))
        self._known[rows] = True
        if self._making is not None:
            self._late.extend(slots)
        if self._lists is not None:
            self._lists.replace(rows, self._vectors)


class _Lists:
    """The vectors of faiss: eight bits of each, in the list of its nearest centre, by slot."""

    def __init__(self, faiss: Any, vectors: Vector, slots: Slots) -> None:
        faiss.omp_set_num_threads(1)  # of this thread; the other core is left to the event loop
        dims, self._faiss = vectors.shape[1], faiss
        lists = lists_for(len(slots))
        self._probed = max(1, round(lists * PROBED_SHARE))
        self._found = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dims),
            dims,
            lists,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )
        self._found.by_residual = False  # the vector itself, not what the centre leaves of it
        self._found.cp.niter = ROUNDS
        self._found.cp.min_points_per_centroid = 1
        self._found.train(vectors[slots[:: max(1, len(slots) // (lists * SAMPLE))]])
        # So that one vector can be taken out without reading all of them.
        self._found.set_direct_map_type(faiss.DirectMap.Hashtable)
        for start in range(0, len(slots), ADDED):
            wanted = slots[start : start + ADDED]
            self._found.add_with_ids(vectors[wanted], wanted)

    @property
    def bytes(self) -> int:
        """Return about how much memory the lists take: codes, slots, and the map by slot."""
        return int(self._found.ntotal) * (int(self._found.code_size) + 8 + 48)

    def replace(self, slots: NDArray[np.int64], vectors: Vector) -> None:
        """Have the vectors of some slots as they are now."""
        if len(slots):
            self._found.remove_ids(self._faiss.IDSelectorArray(slots))
            self._found.add_with_ids(vectors[slots], slots)

    def nearest(self, query: Vector, allowed: Mask, k: int) -> Slots:
        """Return about the k nearest of the slots that are allowed; fewer where lists are short."""
        selector = self._faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        chosen = self._faiss.SearchParametersIVF(nprobe=self._probed, sel=selector)
        slots: Slots = self._found.search(query[None], k, params=chosen)[1][0]
        return slots[slots >= 0]


def lists_for(posts: int) -> int:
    """Return into how many lists so many posts are divided: about the root of it."""
    return 1 << max(0, round(np.log2(max(1, posts)) / 2))
