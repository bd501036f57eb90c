"""The fit: it learns where there is something to learn, and little data cannot hurt."""

import numpy as np
import pytest

from millrace.community.types import Action
from millrace.feed.features import COLUMN, FEATURES
from millrace.feed.scorer import prior, sigmoid
from millrace.feed.scorer_fit import Examples, fitted
from millrace.feed.value import ACTIONS

CLICK = ACTIONS.index(Action.CLICK)


def world(count: int, seed: int, *, sampled: bool = False, similarity: float = 0.0) -> Examples:
    """Examples whose clicks follow the topic alone, though the prior believes in similarity."""
    draws = np.random.default_rng(seed)
    features = draws.random((count, len(FEATURES)))
    logits = -3.0 + 4.0 * features[:, COLUMN["topic_match"]] + similarity * features[:, 0]
    labels = np.zeros((count, len(ACTIONS)), dtype=np.bool_)
    labels[:, CLICK] = draws.random(count) < sigmoid(logits)
    return Examples(features=features, labels=labels, sampled=np.full(count, sampled))


def test_learns_what_the_prior_does_not_know():
    """Later examples are predicted better than by the prior, and nearly as well as can be."""
    made, report = fitted(world(4_000, 1), prior(), "pointwise-test")

    click = report[CLICK]
    assert made is not None
    assert made.version == "pointwise-test"
    assert click.fitted
    assert click.log_loss < click.log_loss_prior
    assert click.auc > click.auc_prior
    assert made.weights[CLICK][COLUMN["topic_match"]] == pytest.approx(4.0, abs=0.5)


def test_actions_without_examples_keep_the_prior():
    made, report = fitted(world(4_000, 1), prior(), "v")

    others = [place for place in range(len(ACTIONS)) if place != CLICK]
    assert [report[place].fitted for place in others] == [False] * len(others)
    assert all(made.weights[place] == prior().weights[place] for place in others)


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_little_data_changes_nothing(count):
    made, report = fitted(world(count, 2), prior(), "v")

    assert made is None
    assert not any(one.fitted for one in report)


@pytest.mark.parametrize("seed", range(5))
def test_some_data_is_never_far_worse_than_the_prior(seed):
    """With a few hundred examples drawn from the prior itself the fit stays near it."""
    draws = np.random.default_rng(seed)
    features = draws.random((300, len(FEATURES)))
    truth = prior().probabilities(features)
    labels = draws.random(truth.shape) < truth
    made, _ = fitted(
        Examples(features=features, labels=labels, sampled=np.zeros(300, dtype=np.bool_)),
        prior(),
        "v",
    )

    if made is not None:
        unseen = draws.random((2_000, len(FEATURES)))
        distance = np.abs(made.probabilities(unseen) - prior().probabilities(unseen)).mean()
        assert distance < 0.05


def test_sampled_negatives_do_not_raise_the_rate():
    """A sample with one click in five leaves the level of the prior, and moves the weights."""
    sample = world(3_000, 3, sampled=True)
    made, report = fitted(sample, prior(), "v")

    unseen = np.random.default_rng(9).random((2_000, len(FEATURES)))
    rate = made.probabilities(unseen)[:, CLICK].mean()
    expected = prior().probabilities(unseen)[:, CLICK].mean()
    assert sample.labels[:, CLICK].mean() > 0.2
    assert report[CLICK].fitted
    assert 0.4 < rate / expected < 2.5
    assert made.weights[CLICK][COLUMN["topic_match"]] > 2.5
