"""Fits the scorer: logistic regression drawn towards the prior, judged on the later part by time.

The loss of an action is the log loss plus half the squared distance to the prior's weights over
their variance, so that few examples move little and none move nothing. An action is taken from
the fit only where it is better than the prior on examples that are later than those it was fitted
on; then it is fitted again on all. Pure: no clock, no randomness.

Where negatives were sampled, rates mean nothing. As in a case-control study
each action's logit gets a fixed offset there, which gives the sample the rate that the prior
expects; the weights are not touched by it.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.scorer import Matrix, Scorer, sigmoid
from millrace.feed.types import ActionFit
from millrace.feed.value import ACTIONS

EARLIER_SHARE = 0.8
POSITIVES_MIN = 10  # of an action in the earlier part
POSITIVES_LATER_MIN = 3
WEIGHT_DEVIATION = 0.5  # of a weight from the prior's, in logits, that one calls likely
INTERCEPT_DEVIATION = 1.0
STEPS_MAX = 30
STEP_MIN = 1e-6
CHANCE_MIN = 1e-6
AUC_LOSS_MAX = 0.01  # a better level is not worth a worse order


class Examples(Struct, frozen=True, kw_only=True):
    """Shown posts with what became of them, in the order of time.

    features: (n, features). labels: (n, actions), whether the action happened.
    sampled: (n,), whether it comes from a moment whose negatives were drawn.
    """

    features: Matrix
    labels: NDArray[np.bool_]
    sampled: NDArray[np.bool_]

    def part(self, chosen: slice) -> "Examples":
        """Return a stretch of time."""
        return Examples(
            features=self.features[chosen],
            labels=self.labels[chosen],
            sampled=self.sampled[chosen],
        )


def fitted(
    examples: Examples, prior: Scorer, version: str
) -> tuple[Scorer | None, list[ActionFit]]:
    """Return a scorer, or None where no action is better than the prior, and the report.

    Args:
        examples: in the order of time.
        prior: what is drawn towards, and served where a fit is not better.
        version: the name of the new scorer.
    """
    border = int(len(examples.labels) * EARLIER_SHARE)
    earlier, later = examples.part(slice(0, border)), examples.part(slice(border, None))
    weights, intercepts = [list(row) for row in prior.weights], list(prior.intercepts)
    report: list[ActionFit] = []
    for action in range(len(ACTIONS)):
        found = _judged(earlier, later, prior, action)
        report.append(found)
        if found.fitted:
            made = _fit(examples, prior, action)
            weights[action], intercepts[action] = made[:-1].tolist(), float(made[-1])
    if not any(one.fitted for one in report):
        return None, report
    scorer = Scorer(
        version=version,
        actions=prior.actions,
        features=prior.features,
        weights=weights,
        intercepts=intercepts,
    )
    return scorer, report


def _judged(earlier: Examples, later: Examples, prior: Scorer, action: int) -> ActionFit:
    """Fit one action on the earlier part and compare it with the prior on the later."""
    labels = later.labels[:, action]
    positives = int(earlier.labels[:, action].sum())
    enough = positives >= POSITIVES_MIN and POSITIVES_LATER_MIN <= labels.sum() < len(labels)
    if not enough:
        return ActionFit(
            action=ACTIONS[action].value,
            positives=positives + int(labels.sum()),
            log_loss=None,
            log_loss_prior=None,
            auc=None,
            auc_prior=None,
            fitted=False,
        )
    offsets = _offsets(later, prior, action)
    before = _chances(later, _of(prior, action), offsets)
    after = _chances(later, _fit(earlier, prior, action), offsets)
    loss, loss_prior = _log_loss(labels, after), _log_loss(labels, before)
    auc, auc_prior = _auc(labels, after), _auc(labels, before)
    return ActionFit(
        action=ACTIONS[action].value,
        positives=positives + int(labels.sum()),
        log_loss=loss,
        log_loss_prior=loss_prior,
        auc=auc,
        auc_prior=auc_prior,
        fitted=loss < loss_prior and auc > auc_prior - AUC_LOSS_MAX,
    )


def _of(scorer: Scorer, action: int) -> Matrix:
    """Return the weights of an action with its intercept behind them."""
    return np.array([*scorer.weights[action], scorer.intercepts[action]])


def _offsets(examples: Examples, prior: Scorer, action: int) -> Matrix:
    """Return what is added to the logits: nothing for logged examples, a constant for sampled."""
    offsets = np.zeros(len(examples.labels))
    mine = examples.sampled
    if mine.any():
        rate = float(np.clip(examples.labels[mine, action].mean(), CHANCE_MIN, 1 - CHANCE_MIN))
        expected = float(_chances(examples, _of(prior, action), offsets)[mine].mean())
        offsets[mine] = _logit(rate) - _logit(expected)
    return offsets


def _fit(examples: Examples, prior: Scorer, action: int) -> Matrix:
    """Return weights and intercept by Newton's method; the loss is convex, so the steps end."""
    start = _of(prior, action)
    labels = examples.labels[:, action].astype(np.float64)
    offsets = _offsets(examples, prior, action)
    if not examples.labels[examples.sampled, action].any():  # sampled negatives alone say nothing
        kept = ~examples.sampled
        examples = Examples(
            features=examples.features[kept],
            labels=examples.labels[kept],
            sampled=examples.sampled[kept],
        )
        labels, offsets = labels[kept], offsets[kept]
    inputs = np.column_stack([examples.features, np.ones(len(labels))])
    precision = np.full(len(start), WEIGHT_DEVIATION**-2)
    precision[-1] = INTERCEPT_DEVIATION**-2
    found = start.copy()
    for _ in range(STEPS_MAX):
        chances = sigmoid(inputs @ found + offsets)
        slope = inputs.T @ (chances - labels) + precision * (found - start)
        bend = (inputs.T * (chances * (1 - chances))) @ inputs + np.diag(precision)
        step = np.linalg.solve(bend, slope)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), STEP_MIN))  # far away, short steps
        found -= step
        if np.abs(step).max() < STEP_MIN:
            break
    return found


def _chances(examples: Examples, weights: Matrix, offsets: Matrix) -> Matrix:
    return sigmoid(examples.features @ weights[:-1] + weights[-1] + offsets)


def _logit(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))


def _log_loss(labels: NDArray[np.bool_], chances: Matrix) -> float:
    return float(_metrics().log_loss(labels, chances))


def _auc(labels: NDArray[np.bool_], chances: Matrix) -> float:
    return float(_metrics().roc_auc_score(labels, chances))


def _metrics() -> Any:
    """Return scikit-learn's measures; only a fit pays for loading them."""
    import sklearn.metrics  # pyright: ignore[reportMissingTypeStubs]

    return sklearn.metrics
