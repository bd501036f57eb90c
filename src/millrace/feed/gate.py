"""The gate before a trained encoder serves: does it surely find more than the one that serves?

Both are asked the same questions, of a time that neither learned from. Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.kernel.bootstrap import difference

MEMBERS_MIN = 100
"""Fewer say too little: an interval of few members is too narrow more often than it says."""
SEED = 20261122
GATE = "gate"
"""Under this name it stands among the figures of an encoder."""


class Answer(StrEnum):
    """What a gate says."""

    PASS = "PASS"  # noqa: S105 - an answer
    FAIL = "FAIL"
    NOT_ENOUGH_DATA = "NOT_ENOUGH_DATA"


class Asked(Struct, frozen=True, kw_only=True):
    """What two encoders found for the same members: recall at 10 of each, in the same order.

    since: the questions are of this time on.
    """

    since: datetime
    candidate: NDArray[np.float64]
    serving: NDArray[np.float64]


class Judgement(Struct, frozen=True, kw_only=True):
    """An answer and what it rests on.

    members: how many were asked. since: the questions are of this time on.
    candidate, serving: mean recall at 10. interval: of their difference, at 95 %.
    """

    answer: Answer
    members: int
    since: datetime
    candidate: float
    serving: float
    difference: float
    interval: tuple[float, float]

    @property
    def sentence(self) -> str:
        """Return it in words."""
        low, high = self.interval
        found = (
            f"recall@10 of {self.candidate:.4f} where the one that serves has {self.serving:.4f}, "
            f"difference {self.difference:+.4f} ({low:+.4f} to {high:+.4f}, {self.members} members)"
        )
        match self.answer:
            case Answer.PASS:
                return f"surely better: {found}"
            case Answer.FAIL:
                return f"not surely better: {found}"
            case Answer.NOT_ENOUGH_DATA:
                return f"asked of {self.members} members, and {MEMBERS_MIN} are needed: {found}"


def judge(asked: Asked) -> Judgement:
    """Return the answer on a candidate: PASS where the whole interval lies above 0.

    A candidate that is as good as the one that serves passes in one of forty cases.
    """
    found = difference(asked.candidate, asked.serving, SEED)
    members = len(asked.candidate)
    answer = Answer.PASS if found.interval[0] > 0 else Answer.FAIL
    return Judgement(
        answer=answer if members >= MEMBERS_MIN else Answer.NOT_ENOUGH_DATA,
        members=members,
        since=asked.since,
        candidate=_mean(asked.candidate),
        serving=_mean(asked.serving),
        difference=found.value,
        interval=found.interval,
    )


def judgement_of(metrics: Mapping[str, Any]) -> Judgement | None:
    """Return what a gate said of an encoder, from its figures; None where it met none."""
    found = metrics.get(GATE)
    return None if found is None else msgspec.convert(found, Judgement)


def _mean(figures: Sequence[float] | NDArray[np.float64]) -> float:
    return round(float(np.mean(figures)), 4) if len(figures) else 0.0
