"""The recipe: how the rate goes, which lengths count for how much, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.recipe import EncoderRecipe, check
from millrace.kernel.errors import InvalidError


@given(st.integers(1, 300), st.floats(0, 1))
def test_the_rate_rises_once_and_then_falls(steps: int, warm_up: float):
    recipe = EncoderRecipe(steps=steps, warm_up=warm_up, learning_rate=0.5)

    rates = [recipe.rate(step) for step in range(steps)]

    top = rates.index(max(rates))
    assert all(0 < rate <= 0.5 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[top] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("matryoshka", "weights", "dims", "expected"),
    [
        ((384, 64), (), 384, {384: 0.5, 64: 0.5}),
        ((384, 64), (3.0, 1.0), 384, {384: 0.75, 64: 0.25}),
        ((384, 64), (3.0, 1.0), 128, {128: 0.5, 64: 0.5}),
        ((), (), 384, {384: 1.0}),
        ((64,), (2.0,), 32, {32: 1.0}),
    ],
)
def test_lengths_that_a_model_has_share_one_weight(
    matryoshka: tuple[int, ...], weights: tuple[float, ...], dims: int, expected: dict[int, float]
):
    """The whole vector is always one of them, as heavy as the heaviest."""
    recipe = EncoderRecipe(matryoshka=matryoshka, matryoshka_weights=weights)

    assert recipe.lengths(dims) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("field", "recipe"),
    [
        ("steps", EncoderRecipe(steps=0)),
        ("dropout", EncoderRecipe(dropout=0.95)),
        ("temperature", EncoderRecipe(temperature=float("nan"))),
        ("matryoshka", EncoderRecipe(matryoshka=(64, 0))),
        ("matryoshka_weights", EncoderRecipe(matryoshka_weights=(1.0,))),
        ("matryoshka_weights", EncoderRecipe(matryoshka=(64,), matryoshka_weights=(0.0,))),
    ],
)
def test_what_cannot_be_cooked_is_refused_by_its_name(field: str, recipe: EncoderRecipe):
    check(EncoderRecipe())

    with pytest.raises(InvalidError, match=f"{field} of a recipe is .*, and may be") as refused:
        check(recipe)
    assert refused.value.field == field
