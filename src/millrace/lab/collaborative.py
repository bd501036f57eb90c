"""Collaborative filtering by implicit's alternating least squares: who liked the same things.

Only for comparison, so `implicit` is a dependency of development. It knows members and posts by what
was done with them and by nothing else: somebody without a history, or a post that nobody has engaged
with, has no place in it.

Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (2008).
"""

from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from millrace.kernel.errors import SetupError
from millrace.lab.rivals import Moment, Places

ITERATIONS = 15


class Factors(Struct, frozen=True):
    """The dials of one factorisation: how many factors, how much an engagement weighs, damping."""

    factors: int = 32
    alpha: float = 10.0
    regularization: float = 0.1


GRID = tuple(Factors(*dials) for dials in product((8, 16, 32), (1.0, 10.0, 40.0), (0.1, 1.0)))
"""What is tried on an earlier question."""


class Collaborative:
    """Members and posts as factors of what was done up to a moment."""

    def __init__(self, moment: Moment, dials: Factors, seed: int) -> None:
        """Factorise; passes on a SetupError where implicit is not installed."""
        size = (len(moment.profiles), len(moment.texts))
        self._members = np.zeros((size[0], dials.factors), dtype=np.float32)
        self._posts = np.zeros((size[1], dials.factors), dtype=np.float32)
        als, sparse = _packages()
        if not len(moment.past_posts):
            return
        weights = np.ones(len(moment.past_posts), dtype=np.float32)
        places = (moment.past_members, moment.past_posts)
        done = sparse.csr_matrix((weights, places), shape=size)  # of the same pair they add up
        with threadpool_limits(1, "blas"):
            model = als(
                factors=dials.factors,
                alpha=dials.alpha,
                regularization=dials.regularization,
                iterations=ITERATIONS,
                num_threads=1,  # with more, the last bits differ from run to run
                random_state=seed,
            )
            model.fit(done, show_progress=False)
        for table, factors, met in (
            (self._members, model.user_factors, moment.past_members),
            (self._posts, model.item_factors, moment.past_posts),
        ):
            known = np.unique(met)
            table[known] = factors[known]

    def scores(self, member: int, posts: Places) -> NDArray[np.float64]:
        """Return how well posts go with a member; minus infinity where nothing is known."""
        mine, theirs = self._members[member], self._posts[posts]
        known = theirs.any(axis=1) & mine.any()
        return np.where(known, (theirs @ mine).astype(np.float64), -np.inf)


def _packages() -> tuple[Any, Any]:
    """Return implicit's model and the matrices that it takes.

    Raises:
        SetupError: implicit is not installed.
    """
    try:
        found: Any = import_module("implicit.cpu.als")
        sparse: Any = import_module("scipy.sparse")
    except ImportError as exc:
        raise SetupError(
            "collaborative filtering needs implicit, which is not installed",
            field="implicit",
            next_step="install the development dependencies: pip install --group dev",
        ) from exc
    return found.AlternatingLeastSquares, sparse
