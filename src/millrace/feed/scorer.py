"""A pointwise scorer: one logistic regression per action. Scoring is one matrix product.

It is the baseline that the sequence ranker must beat. Before there is data a prior serves, which
people wrote down and nobody fitted: `scorer_version` is then `prior-...`. A fit moves away from
it as far as the data carries (scorer_fit.py).
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Action
from millrace.feed.features import COLUMN, FEATURES
from millrace.feed.lens import Lens, Vectors, pooled
from millrace.feed.linear import sigmoid
from millrace.feed.value import ACTIONS

Matrix = NDArray[np.float64]
PRIORS = ("prior-2", "prior-3")
"""The names of what serves before there is data: history in the prompt, and pooled."""

# Prior: how often an action happens on a shown post that fits neither well nor badly.
RATES = {
    Action.CLICK: 0.08,
    Action.LONG_DWELL: 0.05,
    Action.LIKE: 0.03,
    Action.COMMENT: 0.008,
    Action.SHARE: 0.003,
    Action.HIDE: 0.001,
    Action.MUTE: 0.0002,
    Action.BLOCK: 0.0001,
    Action.REPORT: 0.0001,
}
# Prior: what moves the odds, in logits over the whole range of a feature. Nearness of meaning is
# worth most, and cosines use a tenth of their range; age comes next, so that with nothing learned
# nearness and freshness share the top (docs/LOG.md has what other shares did); the reach of an
# author counts little, so that the many are not drowned by the few.
FOR = {
    "similarity": 6.0,
    "recency": 1.0,
    "age": -2.0,
    "likes_percentile": 0.1,
    "engagement_rate_percentile": 0.1,
    "author_reach_percentile": 0.1,
    "affinity": 1.0,
    "follows_author": 0.8,
    "same_community": 0.3,
    "topic_match": 0.8,
    "language_match": 0.5,
    "position": -1.0,
}
AGAINST = {
    "similarity": -2.0,
    "affinity": -1.0,
    "follows_author": -1.0,
    "topic_match": -0.5,
    "language_match": -0.5,
    "position": -0.5,
}
# What a middling candidate looks like: the rates above are those of this point.
TYPICAL = {
    "similarity": 0.25,
    "recency": 0.3,
    "age": 0.4,
    "likes_percentile": 0.5,
    "engagement_rate_percentile": 0.5,
    "author_reach_percentile": 0.5,
    "same_community": 1.0,
    "language_match": 1.0,
    "position": 0.44,
}
# A pooled vector has the averages taken away, so its products with posts begin at nought. They are
# spread as those of a prompt's vector are, and weigh as much (docs/decisions/0167).
TYPICAL_POOLED = TYPICAL | {"similarity": 0.05}


class Scorer(Struct, frozen=True, kw_only=True):
    """Weights of every action.

    actions, features: names of the rows and columns; a scorer with other names is not used.
    weights: one row per action, one column per feature.
    intercepts: one per action.
    lens: what it learned of similarity; None where nothing was learned yet.
    """

    version: str
    actions: list[str]
    features: list[str]
    weights: list[list[float]]
    intercepts: list[float]
    lens: Lens | None = None

    def fits(self, encoder: str) -> bool:
        """Return whether this release computes what it names, with vectors of this encoder."""
        return self.is_known and (self.lens is None or self.lens.encoder == encoder)

    @property
    def is_known(self) -> bool:
        """Return whether this release computes what it names."""
        return self.actions == [a.value for a in ACTIONS] and self.features == list(FEATURES)

    @property
    def is_prior(self) -> bool:
        """Return whether nothing was fitted."""
        return self.version in PRIORS

    def near(self, posts: Vectors, member: Vectors | None) -> Matrix:
        """Return how near posts are to a member: as they are, through the lens, and around them.

        Shape: (n, dims) to (n, 3).
        """
        found = np.zeros((len(posts), 3))
        if member is not None:
            found[:, 0] = posts @ member
            if self.lens is not None:
                found[:, 1] = self.lens.near(posts, member)
                found[:, 2] = self.lens.around(posts, found[:, 1], pooled(found[:, 0]))
        return found

    def probabilities(self, features: Matrix) -> Matrix:
        """Return how likely each action is. Shape: (n, features) to (n, actions)."""
        return sigmoid(features @ np.array(self.weights).T + np.array(self.intercepts))


def prior(*, pooled: bool = False) -> Scorer:
    """Return the scorer that serves before anything was learned.

    Args:
        pooled: whether it is for vectors of members whose history is pooled.
    """
    middling = TYPICAL_POOLED if pooled else TYPICAL
    weights: list[list[float]] = []
    intercepts: list[float] = []
    for action in ACTIONS:
        against = action in (Action.HIDE, Action.MUTE, Action.BLOCK, Action.REPORT)
        row = [0.0] * len(FEATURES)
        for name, weight in (AGAINST if against else FOR).items():
            row[COLUMN[name]] = weight
        typical = sum(row[COLUMN[name]] * value for name, value in middling.items())
        rate = RATES[action]
        weights.append(row)
        intercepts.append(float(np.log(rate / (1 - rate))) - typical)
    return Scorer(
        version=PRIORS[pooled],
        actions=[action.value for action in ACTIONS],
        features=list(FEATURES),
        weights=weights,
        intercepts=intercepts,
    )
