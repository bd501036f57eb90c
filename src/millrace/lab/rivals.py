"""What a feed has to beat: orders that anybody can make in an afternoon, made as well as we can.

Every one ranks the same candidates with what was known at the same moment.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.lab.quality import DEPTH

HALF_LIVES_DAYS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
HISTORY_SHOWN = 20  # newest engaged posts that the words of a query are taken from

Scores = NDArray[np.float64]
Places = NDArray[np.int64]


class Moment(Struct, kw_only=True):
    """What is known at one moment, by the numbers of members and posts.

    created_days: when each post was made, in days before the moment; negative is not yet.
    pasts: per positive engagement so far its post, its member and how many days ago it was.
    """

    created_days: Scores
    past_posts: Places
    past_members: Places
    past_days: Scores
    profiles: list[str]
    texts: list[str]

    def history(self, member: int) -> Places:
        """Return the posts that a member engaged with, the newest first, each once."""
        mine = np.flatnonzero(self.past_members == member)
        newest = mine[np.argsort(self.past_days[mine], kind="stable")]
        return np.array(list(dict.fromkeys(self.past_posts[newest].tolist())), dtype=np.int64)


def best(scores: Scores, candidates: Places, moment: Moment) -> list[int]:
    """Return the candidates with the highest scores, at most DEPTH; of equal ones the newest."""
    order = np.lexsort((moment.created_days[candidates], -scores))[:DEPTH]
    return candidates[order].tolist()


def at_random(candidates: Places, seed: int) -> list[int]:
    """Return candidates in a random order."""
    return np.random.default_rng(seed).permutation(candidates)[:DEPTH].tolist()


def newest_first(moment: Moment, candidates: Places) -> list[int]:
    """Return candidates, the newest first."""
    return best(-moment.created_days[candidates], candidates, moment)


def popularity(moment: Moment, half_life_days: float) -> Scores:
    """Return per post how much it was engaged with, where an engagement counts less with age."""
    weights = 0.5 ** (moment.past_days / half_life_days)
    found = np.bincount(moment.past_posts, weights, minlength=len(moment.created_days))
    return found.astype(np.float64)


def best_half_life(judged: Callable[[float], float]) -> float:
    """Return the half-life that does best on an earlier moment: the rival may tune too."""
    return max(HALF_LIVES_DAYS, key=judged)


class Words:
    """BM25 (Robertson) over the posts so far: stemmed words without the common ones.

    The query of a member is the profile and the posts they lately engaged with.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._bm25: Any = import_module("bm25s")
        stemmer: Any = import_module("Stemmer")
        self._stem = stemmer.Stemmer("english")
        self._index = self._bm25.BM25()
        self._index.index(self._split(texts), show_progress=False)
        self._count = len(texts)
        self._known: set[str] = set(self._index.vocab_dict)

    def scores(self, query: str) -> Scores:
        """Return the score of every post for a query."""
        words = [word for word in self._split([query])[0] if word in self._known]
        if not words:
            return np.zeros(self._count)
        return np.asarray(self._index.get_scores(words), np.float64)

    def _split(self, texts: Sequence[str]) -> list[list[str]]:
        return self._bm25.tokenize(
            list(texts),
            stopwords="en",
            stemmer=self._stem,
            return_ids=False,
            show_progress=False,
        )


def query_of(moment: Moment, member: int) -> str:
    """Return what a member would search for: who they are, and what they lately engaged with."""
    shown: list[int] = moment.history(member)[:HISTORY_SHOWN].tolist()
    return "\n".join([moment.profiles[member], *(moment.texts[post] for post in shown)])
