"""Fits the scorer: logistic regressions drawn towards the prior, judged on the later part by time.

What an action is drawn towards, from the weakest knowledge to the strongest:

    the prior's weights ─▶ weights of any action of its side ─▶ weights of its own
                           (for a post, or against it)

Rare actions learn so from frequent ones. A step is taken only where it is better on examples that
are later than those it was fitted on; then it is fitted again on all. The rate of every action is
the observed one whatever becomes of its weights: the value adds up actions, and a rate that nobody
checked would decide what they are worth beside each other.

The loss is the log loss plus half the squared distance to what is drawn towards, in units of what
each feature's spread makes of it: a weight says little where its feature hardly moves. So few
examples move little and none move nothing. Pure: no clock, no randomness.

Where negatives were sampled, rates mean nothing. As in a case-control study each action's logit
gets a fixed offset there, which gives the sample the rate that the prior expects; the weights are
not touched by it.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import POSITIVE_ACTIONS
from millrace.feed.lens import Lens
from millrace.feed.linear import sigmoid
from millrace.feed.scorer import Matrix, Scorer
from millrace.feed.types import ActionFit
from millrace.feed.value import ACTIONS

EARLIER_SHARE = 0.8
POSITIVES_MIN = 10  # of an action in the earlier part
POSITIVES_LATER_MIN = 3
MOVE_DEVIATION = 0.15  # of what a feature's usual spread moves, in logits, that one calls likely
SPREAD_MIN = 0.02  # a feature that hardly moves is not believed to move much
LEVEL_DEVIATION = 1.0  # of the rate of a middling post, in logits
STEPS_MAX = 30
STEP_MIN = 1e-6
CHANCE_MIN = 1e-6
AUC_LOSS_MAX = 0.01  # a better level is not worth a worse order
SIDES = tuple(
    [place for place, action in enumerate(ACTIONS) if (action in POSITIVE_ACTIONS) is positive]
    for positive in (True, False)
)

Labels = NDArray[np.bool_]


class Examples(Struct, frozen=True, kw_only=True):
    """Shown posts with what became of them, in the order of time.

    features: (n, features). labels: (n, actions), whether the action happened.
    sampled: (n,), whether it comes from a moment whose negatives were drawn.
    weights: (n,), how many looks each stands for.
    """

    features: Matrix
    labels: Labels
    sampled: Labels
    weights: Matrix

    def part(self, chosen: slice | Labels) -> "Examples":
        """Return some of the examples, a stretch of time for instance."""
        return Examples(
            features=self.features[chosen],
            labels=self.labels[chosen],
            sampled=self.sampled[chosen],
            weights=self.weights[chosen],
        )


class Parts(Struct, frozen=True):
    """All examples, the earlier ones, from which a trial is fitted, and the later ones, which judge."""

    whole: Examples
    earlier: Examples
    later: Examples


class Comparison(Struct, frozen=True):
    """The figures of two rows of weights on later examples; the second is the one on trial."""

    loss_before: float
    loss: float
    auc_before: float
    auc: float

    @property
    def better(self) -> bool:
        """Return whether the one on trial may serve."""
        return self.loss < self.loss_before and self.auc > self.auc_before - AUC_LOSS_MAX


def fitted(
    examples: Examples, prior: Scorer, version: str, lens: Lens | None = None
) -> tuple[Scorer | None, list[ActionFit]]:
    """Return a scorer, or None where no action is better than the prior, and the report.

    Args:
        examples: in the order of time.
        prior: what is drawn towards, and served where a fit is not better.
        version: the name of the new scorer.
        lens: what the learned similarity among the features was read with.
    """
    border = int(len(examples.labels) * EARLIER_SHARE)
    parts = Parts(examples, examples.part(slice(0, border)), examples.part(slice(border, None)))
    rows = np.column_stack([np.array(prior.weights), np.array(prior.intercepts)])
    report: dict[int, ActionFit] = {}
    for side in SIDES:
        trial, final = _of_side(parts, rows[side[0]], side)
        for action in side:
            rows[action], report[action] = _of_action(parts, rows[action], (trial, final), action)
    reports = [report[action] for action in range(len(ACTIONS))]
    if not any(one.fitted for one in reports):
        return None, reports
    scorer = Scorer(
        version=version,
        actions=prior.actions,
        features=prior.features,
        weights=rows[:, :-1].tolist(),
        intercepts=rows[:, -1].tolist(),
        lens=lens,
    )
    return scorer, reports


def _of_side(parts: Parts, prior: Matrix, side: list[int]) -> tuple[Matrix, Matrix]:
    """Return weights of any action of a side, of the earlier examples and of all; else the prior's."""

    def labels(examples: Examples) -> Labels:
        return np.logical_or.reduce(examples.labels[:, side], axis=1)

    if not _enough(labels(parts.earlier), labels(parts.later)):
        return prior, prior
    level = _fit(parts.earlier, labels(parts.earlier), prior, level_alone=True)
    moved = _fit(parts.earlier, labels(parts.earlier), prior)
    if not _judged(parts.later, labels(parts.later), level, moved).better:
        return prior, prior
    return moved, _fit(parts.whole, labels(parts.whole), prior)


def _of_action(
    parts: Parts, prior: Matrix, side: tuple[Matrix, Matrix], action: int
) -> tuple[Matrix, ActionFit]:
    """Return the row that serves for an action, and how good it is; `side` as of `_of_side`."""
    labels = parts.whole.labels[:, action]
    earlier, later = parts.earlier.labels[:, action], parts.later.labels[:, action]
    begin = _towards(side[1], prior, parts.whole)
    if not _enough(earlier, later):
        return _fit(parts.whole, labels, begin, level_alone=True), _report(action, labels, None)
    trial = _towards(side[0], prior, parts.earlier)
    level = _fit(parts.earlier, earlier, trial, level_alone=True)
    own = _fit(parts.earlier, earlier, trial)
    moves = _judged(parts.later, later, level, own).better
    compared = _judged(parts.later, later, prior, own if moves else level)
    if compared.better:
        row = _fit(parts.whole, labels, begin, level_alone=not moves)
    else:
        row = _fit(parts.whole, labels, prior, level_alone=True)
    return row, _report(action, labels, compared)


def _report(action: int, labels: Labels, compared: Comparison | None) -> ActionFit:
    return ActionFit(
        action=ACTIONS[action].value,
        positives=int(labels.sum()),
        log_loss=None if compared is None else compared.loss,
        log_loss_prior=None if compared is None else compared.loss_before,
        auc=None if compared is None else compared.auc,
        auc_prior=None if compared is None else compared.auc_before,
        fitted=compared is not None and compared.better,
    )


def _enough(earlier: Labels, later: Labels) -> bool:
    positives = int(earlier.sum())
    return positives >= POSITIVES_MIN and POSITIVES_LATER_MIN <= int(later.sum()) < len(later)


def _judged(later: Examples, labels: Labels, before: Matrix, after: Matrix) -> Comparison:
    """Compare two rows of weights on examples that neither was fitted on."""
    found: list[float] = []
    for row in (before, after):
        chances = _chances(later, row, _offsets(later, labels, before))
        found += [_log_loss(labels, chances, later.weights), _auc(labels, chances, later.weights)]
    return Comparison(found[0], found[2], found[1], found[3])


def _towards(weights: Matrix, level: Matrix, examples: Examples) -> Matrix:
    """Return a row with the weights of one row and the level of another, at a middling example."""
    if not len(examples.labels):
        return level
    middle = np.average(examples.features, axis=0, weights=examples.weights)
    return np.append(weights[:-1], level[-1] + (level[:-1] - weights[:-1]) @ middle)


def _offsets(examples: Examples, labels: Labels, row: Matrix) -> Matrix:
    """Return what is added to the logits: nothing for logged examples, a constant for sampled."""
    offsets = np.zeros(len(labels))
    mine = examples.sampled
    if mine.any():
        rate = float(np.clip(labels[mine].mean(), CHANCE_MIN, 1 - CHANCE_MIN))
        expected = float(_chances(examples, row, offsets)[mine].mean())
        offsets[mine] = _logit(rate) - _logit(expected)
    return offsets


def _fit(examples: Examples, labels: Labels, begin: Matrix, *, level_alone: bool = False) -> Matrix:
    """Return weights and intercept by Newton's method; the loss is convex, so the steps end.

    Features are taken from their means, so that the level and the weights do not pull each other,
    and a feature that never moved keeps its weight. With `level_alone` all of them do.
    """
    if not labels[examples.sampled].any():  # sampled negatives alone say nothing
        labels, examples = labels[~examples.sampled], examples.part(~examples.sampled)
    if not len(labels):
        return begin
    middle = np.average(examples.features, axis=0, weights=examples.weights)
    inputs = np.column_stack([examples.features - middle, np.ones(len(labels))])
    offsets = _offsets(examples, labels, begin)
    start = np.append(begin[:-1], begin[-1] + begin[:-1] @ middle)
    spread = np.maximum(inputs[:, :-1].std(axis=0), SPREAD_MIN)
    precision = np.append((spread / MOVE_DEVIATION) ** 2, LEVEL_DEVIATION**-2)
    free = np.append(np.full(len(spread), not level_alone), True)
    found = start.copy()
    for _ in range(STEPS_MAX):
        chances = sigmoid(inputs @ found + offsets)
        slope = inputs.T @ (examples.weights * (chances - labels)) + precision * (found - start)
        heavy = examples.weights * chances * (1 - chances)
        bend = (inputs.T * heavy) @ inputs + np.diag(precision)
        step = np.zeros(len(found))
        step[free] = np.linalg.solve(bend[np.ix_(free, free)], slope[free])
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), STEP_MIN))  # far away, short steps
        found -= step
        if np.abs(step).max() < STEP_MIN:
            break
    return np.append(found[:-1], found[-1] - found[:-1] @ middle)


def _chances(examples: Examples, row: Matrix, offsets: Matrix) -> Matrix:
    return sigmoid(examples.features @ row[:-1] + row[-1] + offsets)


def _logit(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))


def _log_loss(labels: Labels, chances: Matrix, weights: Matrix) -> float:
    return float(_metrics().log_loss(labels, chances, sample_weight=weights))


def _auc(labels: Labels, chances: Matrix, weights: Matrix) -> float:
    return float(_metrics().roc_auc_score(labels, chances, sample_weight=weights))


def _metrics() -> Any:
    """Return scikit-learn's measures; only a fit pays for loading them."""
    import sklearn.metrics  # pyright: ignore[reportMissingTypeStubs]

    return sklearn.metrics
