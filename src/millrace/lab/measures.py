"""Numbers of many times."""

from collections.abc import Sequence

import numpy as np


def percentile(values: Sequence[float], rank: float, digits: int = 2) -> float | None:
    """Return a percentile, or None where nothing was measured."""
    return round(float(np.percentile(values, rank)), digits) if len(values) else None
