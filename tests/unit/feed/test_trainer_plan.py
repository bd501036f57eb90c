"""When the encoder is trained by itself, and how much there is time for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.encoder_trainings import MOVES, EncoderTraining, Stage
from millrace.feed.recipe import EncoderRecipe, check
from millrace.feed.trainer_plan import STEPS_MAX, STEPS_MIN, Pace, due, timed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ENDS = [stage for stage in Stage if stage not in MOVES]


def ended(state: Stage, engagements: int = 1_000) -> EncoderTraining:
    return EncoderTraining(
        training_id=1, state=state, began_at=NOW, changed_at=NOW, place="here",
        engagements=engagements, against="one", step=0, data="", candidate="", candidate_name="",
        reason="",
    )  # fmt: skip


def test_the_first_waits_for_what_the_settings_say():
    assert due([], 1_000).engagements == 1_000
    assert due([], 1_000).at is None


@pytest.mark.parametrize(
    ("ends", "engagements"),
    [
        ([Stage.PROMOTED], 1_250),
        ([Stage.KEPT_OUT], 1_250),
        ([Stage.KEPT_OUT, Stage.KEPT_OUT], 1_563),
        ([Stage.KEPT_OUT] * 9, 2_000),
        ([Stage.PROMOTED, Stage.KEPT_OUT, Stage.KEPT_OUT], 1_250),
        ([Stage.KEPT_OUT, Stage.FAILED, Stage.KEPT_OUT], 1_563),
    ],
)
def test_a_training_waits_for_more_than_the_last_one_had(ends: list[Stage], engagements: int):
    assert due([ended(state) for state in ends], 1_000).engagements == engagements


@pytest.mark.parametrize(("failures", "seconds"), [(1, 60), (2, 120), (4, 480), (40, 6 * 3600)])
def test_what_failed_is_tried_again_after_a_pause(failures: int, seconds: float):
    """With the same engagements: nothing was learned from them."""
    found = due([ended(Stage.FAILED)] * failures + [ended(Stage.PROMOTED, 800)], 500)

    assert found.at == NOW + timedelta(seconds=seconds)
    assert found.engagements == 1_000


@given(st.lists(st.sampled_from(ENDS), max_size=12), st.integers(1, 10**9))
def test_no_run_of_ends_makes_it_wait_for_less_or_for_ever(ends: list[Stage], engagements: int):
    found = due([ended(state, engagements) for state in ends], 500)

    assert 500 <= found.engagements <= max(2 * engagements, 500)
    if any(state is not Stage.FAILED for state in ends):
        assert found.engagements > engagements or found.engagements == 500


@given(st.floats(0.001, 100), st.floats(0, 1), st.floats(-1e4, 1e5), st.integers(0, 10**7))
def test_steps_fit_into_the_time_and_make_a_recipe(step, text, seconds, texts):
    recipe = timed(EncoderRecipe(), Pace(step_seconds=step, text_seconds=text), seconds, texts)

    check(recipe)
    assert STEPS_MIN <= recipe.steps <= STEPS_MAX
    assert recipe.steps == STEPS_MIN or recipe.steps * step + texts * text <= seconds
    assert recipe.held_back == 0.0
    assert recipe.evaluate_every == recipe.steps


def test_everything_that_goes_on_can_fail_and_what_ended_cannot_move():
    assert all(Stage.FAILED in to for to in MOVES.values())
    assert not set(ENDS) & MOVES.keys()
