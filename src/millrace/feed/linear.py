"""From features to probabilities: one weighted sum per action. Pure."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
LOGIT_MAX = 30.0


class Linear(Struct, frozen=True):
    """Log-odds are features @ weights.T + intercepts. Numbers that float32 holds.

    weights: one row per action, one column per feature. intercepts: one per action.
    """

    weights: Matrix
    intercepts: Matrix

    def of(self, features: Matrix) -> Matrix:
        """Return how likely each action is. Shape: (n, features) to (n, actions)."""
        return sigmoid(features @ self.weights.T + self.intercepts)


def sigmoid(logits: Matrix) -> Matrix:
    """Return probabilities, never 0 or 1."""
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -LOGIT_MAX, LOGIT_MAX)))
