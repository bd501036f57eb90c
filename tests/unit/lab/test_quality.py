"""Quality figures agree with their definitions, and intervals hold what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.lab.quality import difference, mean, ndcg, ratio, recall

NUMBERS = st.lists(st.integers(0, 40), unique=True, max_size=30)
RELEVANT = st.frozensets(st.integers(0, 40), min_size=1, max_size=20)


@given(ranking=NUMBERS, relevant=RELEVANT, k=st.integers(1, 40))
def test_figures_lie_between_none_and_all(ranking, relevant, k):
    assert 0 <= recall(ranking, relevant, k) <= recall(ranking, relevant, k + 1) <= 1
    assert 0 <= ndcg(ranking, relevant, k) <= 1 + 1e-12


@given(relevant=RELEVANT, k=st.integers(1, 40))
def test_the_best_order_has_the_whole_gain(relevant, k):
    ranking = [*sorted(relevant), *sorted(set(range(50)) - relevant)]

    assert ndcg(ranking, relevant, k) == pytest.approx(1)
    assert recall(ranking, relevant, 50) == 1


def test_a_hit_further_down_gains_less():
    assert ndcg([1, 2, 3], frozenset({1}), 10) == 1
    assert ndcg([2, 1, 3], frozenset({1}), 10) == pytest.approx(1 / np.log2(3))
    assert ndcg([2, 3, 1], frozenset({1}), 2) == 0


def test_equal_systems_do_not_differ():
    figures = np.random.default_rng(1).random(50)

    found = difference(figures, figures, seed=1)

    assert (found.value, found.interval) == (0.0, (0.0, 0.0))


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    """Members differ much more from one another than the two systems do: pairs see through that."""
    rng = np.random.default_rng(7)
    covered = 0
    for run in range(200):
        people = rng.random(60)
        ours = people + 0.05 + rng.normal(0, 0.1, 60)
        theirs = people + rng.normal(0, 0.1, 60)
        low, high = difference(ours, theirs, seed=run).interval
        covered += low <= 0.05 <= high
        assert high - low < 0.12  # unpaired it would be about 0.3
    assert 0.88 <= covered / 200 <= 0.99


def test_a_ratio_to_nothing_is_none_and_no_members_are_no_figure():
    assert ratio(np.array([0.5]), np.array([0.0]), seed=1) is None
    assert ratio(np.array([]), np.array([]), seed=1) is None
    assert mean(np.array([])) is None
    found = ratio(np.full(20, 0.4), np.full(20, 0.2), seed=1)
    assert found is not None
    assert found.interval == (2.0, 2.0)
