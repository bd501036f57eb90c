"""The losses of the encoder beside the same formulas written out, number by number."""

from math import exp, log

import numpy as np
import pytest
import torch  # noqa: TID253 - the encoder is what is tested here
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.feed.encoder.losses import EVEN_COSINE, Truth, bce, infonce, matryoshka
from millrace.feed.recipe import EncoderRecipe

DIMS = 6


def drawn(seed: int, pairs: int, posts: int) -> tuple[torch.Tensor, torch.Tensor, Truth]:
    """Unit vectors, with positives, some barred posts, and chances to be drawn."""
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((pairs + posts, DIMS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    positive = draw.integers(posts, size=pairs)
    barred = draw.random((pairs, posts)) < 0.3
    barred[np.arange(pairs), positive] = False
    made = torch.tensor(vectors, dtype=torch.float32)
    truth = Truth(
        torch.tensor(positive),
        torch.tensor(barred),
        torch.tensor(np.log(draw.random(posts) + 0.01), dtype=torch.float32),
    )
    return made[:pairs], made[pairs:], truth


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / (sum(a * a for a in one) * sum(b * b for b in other)) ** 0.5


def slow_infonce(members, posts, truth: Truth, temperature: float, log_q: bool) -> float:
    total = 0.0
    for row, member in enumerate(members.tolist()):
        logits = {}
        for column, post in enumerate(posts.tolist()):
            if not truth.barred[row, column]:
                correction = float(truth.log_q[column]) if log_q else 0.0
                logits[column] = cosine(member, post) / temperature - correction
        above = sum(exp(value) for value in logits.values())
        total += log(above) - logits[int(truth.positive[row])]
    return total / len(members)


def slow_bce(members, posts, truth: Truth, temperature: float) -> float:
    total = 0.0
    for row, member in enumerate(members.tolist()):
        yes, no = 0.0, []
        for column, post in enumerate(posts.tolist()):
            likely = 1 / (1 + exp(-(cosine(member, post) - EVEN_COSINE) / temperature))
            if column == int(truth.positive[row]):
                yes = -log(likely)
            elif not truth.barred[row, column]:
                no.append(-log(1 - likely))
        total += (yes + (sum(no) / len(no) if no else 0.0)) / 2
    return total / len(members)


sizes = st.tuples(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 7))


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([0.2, 1.0]), st.booleans())
def test_infonce_is_the_formula(size: tuple[int, int, int], temperature: float, log_q: bool):
    members, posts, truth = drawn(*size)

    got = infonce(members, posts, truth, temperature=temperature, log_q=log_q)

    assert float(got) == pytest.approx(
        slow_infonce(members, posts, truth, temperature, log_q), abs=1e-4
    )


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([0.2, 1.0]), st.booleans())
def test_several_positives_stand_each_alone_among_the_negatives(
    size: tuple[int, int, int], temperature: float, log_q: bool
):
    """The mean of the plain loss with each of them as the only one."""
    members, posts, truth = drawn(*size)
    also = truth.barred & (torch.arange(len(posts)) % 2 == 0)
    truth = Truth(truth.positive, truth.barred, truth.log_q, also)

    got = infonce(members, posts, truth, temperature=temperature, log_q=log_q)

    total = 0.0
    for row in range(len(members)):
        chosen = [int(truth.positive[row]), *torch.nonzero(also[row]).flatten().tolist()]
        for one in chosen:
            barred = truth.barred[row].clone()
            barred[chosen] = True
            barred[one] = False
            alone = Truth(torch.tensor([one]), barred[None], truth.log_q)
            plain = slow_infonce(members[row : row + 1], posts, alone, temperature, log_q)
            total += plain / len(chosen) / len(members)
    assert float(got) == pytest.approx(total, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 7), st.booleans())
def test_what_is_remembered_stands_among_what_is_remembered(
    size: tuple[int, int, int], fresh: int, also: bool
):
    """As two losses: of the fresh posts alone, and of the remembered ones; weighted by positives."""
    members, posts, truth = drawn(*size)
    fresh = min(fresh, len(posts))
    positive = truth.positive % fresh
    barred = truth.barred.clone()
    barred[torch.arange(len(members)), positive] = False
    more = barred & (torch.arange(len(posts)) % 2 == 0) if also else None
    truth = Truth(positive, barred, truth.log_q, more, fresh)

    got = infonce(members, posts, truth, temperature=0.5, log_q=False)

    total = 0.0
    for row in range(len(members)):
        others = [] if more is None else torch.nonzero(more[row]).flatten().tolist()
        chosen = [int(positive[row]), *others]
        for one in chosen:
            kind = torch.arange(len(posts)) < fresh
            out = barred[row] | (kind if one >= fresh else ~kind)
            out[chosen] = True
            out[one] = False
            alone = Truth(torch.tensor([one]), out[None], truth.log_q)
            plain = slow_infonce(members[row : row + 1], posts, alone, 0.5, log_q=False)
            total += plain / len(chosen) / len(members)
    assert float(got) == pytest.approx(total, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([0.2, 1.0]))
def test_bce_is_the_formula(size: tuple[int, int, int], temperature: float):
    members, posts, truth = drawn(*size)

    got = bce(members, posts, truth, temperature=temperature)

    assert float(got) == pytest.approx(slow_bce(members, posts, truth, temperature), abs=1e-4)


@pytest.mark.parametrize("loss", ["infonce", "bce"])
def test_matryoshka_is_a_weighted_sum_over_lengths(loss: str):
    """Of vectors whose first numbers were brought back to length 1."""
    members, posts, truth = drawn(3, 4, 6)
    recipe = EncoderRecipe(
        loss=loss,
        temperature=0.5,
        log_q=True,
        matryoshka=(99, 4, 2),  # the model has no 99
        matryoshka_weights=(5.0, 2.0, 1.0),
    )

    def slow(length: int) -> float:
        short = members[:, :length], posts[:, :length]
        if loss == "bce":
            return slow_bce(*short, truth, 0.5)
        return slow_infonce(*short, truth, 0.5, log_q=True)

    expected = (2 * slow(DIMS) + 2 * slow(4) + 1 * slow(2)) / 5

    assert float(matryoshka(members, posts, truth, recipe)) == pytest.approx(expected, abs=1e-4)


def test_barred_posts_have_no_gradient():
    """A post that the member engaged with on another day is neither pushed away nor pulled."""
    members, posts, truth = drawn(5, 1, 4)
    truth.barred[:] = torch.tensor([[False, True, True, False]])
    truth.positive[:] = 0
    for loss in (
        lambda m, p: infonce(m, p, truth, temperature=0.1, log_q=False),
        lambda m, p: bce(m, p, truth, temperature=0.1),
    ):
        leaf = posts.clone().requires_grad_()
        loss(members, leaf).backward()

        assert leaf.grad is not None
        assert leaf.grad[[1, 2]].abs().sum() == 0
        assert leaf.grad[[0, 3]].abs().sum(dim=1).min() > 0


def test_a_correction_spares_popular_posts():
    """A post that is in every batch is pushed less far with the correction than without it."""
    members, posts, truth = drawn(7, 3, 3)
    truth.barred[:] = False
    truth.positive[:] = torch.tensor([0, 1, 1])
    truth.log_q[:] = torch.log(torch.tensor([0.01, 0.01, 0.9]))
    pushes = []
    for log_q in (False, True):
        leaf = posts.clone().requires_grad_()
        infonce(members, leaf, truth, temperature=1.0, log_q=log_q).backward()
        assert leaf.grad is not None
        pushes.append(float(leaf.grad[2].norm()))

    assert pushes[1] < pushes[0]
