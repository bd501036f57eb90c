"""The fit: it learns where there is something to learn, and little data cannot hurt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.community.types import Action
from millrace.feed import scorer_fit
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
    return Examples(
        features=features, labels=labels, sampled=np.full(count, sampled), weights=np.ones(count)
    )


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


def test_rare_actions_learn_from_frequent_ones_of_their_side():
    """Likes without an example of their own get the weights of clicks; what is against a post not."""
    made, report = fitted(world(4_000, 1), prior(), "v")

    like, hide = ACTIONS.index(Action.LIKE), ACTIONS.index(Action.HIDE)
    topic = COLUMN["topic_match"]
    assert [one.fitted for one in report] == [place == CLICK for place in range(len(ACTIONS))]
    assert made.weights[like][topic] == pytest.approx(made.weights[CLICK][topic], abs=0.3)
    assert made.weights[hide] == prior().weights[hide]


def test_every_rate_is_the_observed_one():
    """The value adds up actions, so a rate that nobody saw must not decide beside those seen."""
    examples = world(4_000, 1)
    made, _ = fitted(examples, prior(), "v")

    expected = made.probabilities(examples.features).mean(axis=0)
    before = prior().probabilities(examples.features).mean(axis=0)
    assert expected[CLICK] == pytest.approx(examples.labels[:, CLICK].mean(), rel=0.05)
    likes = ACTIONS.index(Action.LIKE)
    assert expected[likes] < before[likes] / 5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.6), st.booleans())
def test_a_rate_never_changes_the_order_of_an_action(seed, share, sampled):
    """Calibration alone moves all posts alike: where weights stay, the order of an action stays."""
    examples = world(300, seed, sampled=sampled)
    labels = np.random.default_rng(seed).random(300) < share
    begin = np.append(prior().weights[CLICK], prior().intercepts[CLICK])
    row = scorer_fit._fit(examples, labels, begin, level_alone=True)

    np.testing.assert_array_equal(row[:-1], begin[:-1])
    if not sampled:
        chances = sigmoid(examples.features @ row[:-1] + row[-1]).mean()
        before = sigmoid(examples.features @ begin[:-1] + begin[-1]).mean()
        assert min(before, share) - 0.1 < chances < max(before, share) + 0.1


def test_a_feature_that_never_moved_keeps_its_weight():
    """Nothing was seen of it, so nothing is said of it, whatever becomes of the rate."""
    examples = world(4_000, 1)
    still = COLUMN["engagement_rate_percentile"]
    examples.features[:, still] = 0.5
    made, _ = fitted(examples, prior(), "v")

    assert made.weights[CLICK][still] == pytest.approx(prior().weights[CLICK][still], abs=1e-9)


def test_weights_stand_for_looks():
    """One example of weight two is two examples: the same rate comes out."""
    once = world(2_000, 4)
    doubled = Examples(
        features=np.repeat(once.features, 2, axis=0),
        labels=np.repeat(once.labels, 2, axis=0),
        sampled=np.repeat(once.sampled, 2),
        weights=np.ones(4_000),
    )
    heavy = Examples(
        features=once.features,
        labels=once.labels,
        sampled=once.sampled,
        weights=np.full(2_000, 2.0),
    )
    one, other = (fitted(part, prior(), "v")[0] for part in (doubled, heavy))

    np.testing.assert_allclose(one.weights[CLICK], other.weights[CLICK], atol=1e-4)


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
        Examples(
            features=features,
            labels=labels,
            sampled=np.zeros(300, dtype=np.bool_),
            weights=np.ones(300),
        ),
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
