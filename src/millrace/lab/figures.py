"""Figures of systems, by member: one for each moment that asked for them."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from millrace.lab import quality


class Figures:
    """What was measured of each system for each member; of several moments the mean counts."""

    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, str], defaultdict[int, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def note(self, system: str, measure: str, member: int, value: float) -> None:
        """Note a figure of one member at one moment."""
        self._rows[system, measure][member].append(value)

    def of(self, system: str, measure: str) -> NDArray[np.float64]:
        """Return a figure of a system for each member, the mean over their moments."""
        rows = self._rows[system, measure]
        return np.array([float(np.mean(rows[member])) for member in sorted(rows)])

    def means(self, system: str, measures: Iterable[str]) -> dict[str, float | None]:
        """Return the means of a system over members; None where nobody has a figure."""
        return {measure: quality.mean(self.of(system, measure)) for measure in measures}
