"""The gate: lets pass what is surely better, and seldom what is only lucky."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.feed.gate import MEMBERS_MIN, Answer, Asked, judge

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
LUCK = 0.025  # of a candidate that is as good as the one that serves


def asked(candidate, serving) -> Asked:
    return Asked(since=SINCE, candidate=np.asarray(candidate), serving=np.asarray(serving))


def found(draw: np.random.Generator, members: int, share: float) -> np.ndarray:
    """Recall at 10 of members who engaged with one to five posts each."""
    wanted = draw.integers(1, 6, size=members)
    return draw.binomial(wanted, share) / wanted


def test_an_equal_candidate_passes_in_one_of_forty_cases():
    """What both find depends on the member, so that pairs matter. docs/LOG.md has more tries."""
    draw, members = np.random.default_rng(MEMBERS_MIN), MEMBERS_MIN
    tries, passed = 120, 0
    for _ in range(tries):
        ease = draw.beta(1, 4, size=members)
        passed += judge(asked(found(draw, members, ease), found(draw, members, ease))).answer is (
            Answer.PASS
        )

    spread = (LUCK * (1 - LUCK) / tries) ** 0.5
    assert passed / tries <= LUCK + 3 * spread


def test_a_better_candidate_passes():
    draw = np.random.default_rng(7)
    passes = [judge(asked(found(draw, 300, 0.35), found(draw, 300, 0.20))).answer for _ in range(5)]

    assert passes.count(Answer.PASS) == 5


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])),
             min_size=1, max_size=200),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_what_it_says_holds_of_what_it_was_asked(pairs):
    """It passes nothing that is not better on the whole, and never on too few members."""
    mine, theirs = (np.array(side) for side in zip(*pairs, strict=True))
    said, back = judge(asked(mine, theirs)), judge(asked(theirs, mine))

    low, high = said.interval
    assert low <= said.difference <= high
    assert said.difference == pytest.approx(mine.mean() - theirs.mean(), abs=1e-4)
    if said.answer is Answer.PASS:
        assert low > 0
        assert back.answer is Answer.FAIL
    assert (said.answer is Answer.NOT_ENOUGH_DATA) == (len(pairs) < MEMBERS_MIN)
    assert str(said.members) in said.sentence


def test_a_candidate_that_finds_the_same_does_not_pass():
    figures = np.full(400, 0.3)

    assert judge(asked(figures, figures)).answer is Answer.FAIL
