"""When the encoder is trained by itself, and for how many steps. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

from msgspec import Struct
from msgspec.structs import replace

from millrace.feed.encoder_trainings import EncoderTraining, Stage
from millrace.feed.recipe import EncoderRecipe

GROWTH = 1.25
GROWTH_MAX = 2.0
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 60.0, 6 * 3600.0
STEPS_MIN, STEPS_MAX = 20, 2_000
SPARE = 0.9  # of the time that is left: steps are not all as quick as the first ones


class Due(Struct, frozen=True, kw_only=True):
    """What the next training waits for: so many engagements, and a time where there is one."""

    engagements: int
    at: datetime | None = None


class Pace(Struct, frozen=True, kw_only=True):
    """How quick training is here: seconds a step, and seconds a text that is only read.

    texts: that are read before the first step, to be remembered.
    """

    step_seconds: float
    text_seconds: float
    texts: int = 0


def due(trainings: Sequence[EncoderTraining], engagements_min: int) -> Due:
    """Return what the next training waits for.

    A quarter more engagements than the last one had; after each that was kept out in a row a
    quarter more on top, up to twice as many. So trainings become rare as a community grows, and
    chances to promote one by luck with them. What failed is tried again after a pause that doubles.

    Args:
        trainings: the newest first; none of them goes on.
        engagements_min: of the first one.
    """
    judged = next((one for one in trainings if one.state is not Stage.FAILED), None)
    kept_out = _in_a_row(trainings, Stage.KEPT_OUT)
    failed = _in_a_row(trainings, Stage.FAILED)
    wanted = engagements_min
    if judged is not None:
        growth = min(GROWTH ** max(kept_out, 1), GROWTH_MAX)
        wanted = max(engagements_min, ceil(judged.engagements * growth))
    if not failed:
        return Due(engagements=wanted)
    pause = min(RETRY_SECONDS_MIN * 2.0 ** (failed - 1), RETRY_SECONDS_MAX)
    return Due(engagements=wanted, at=trainings[0].changed_at + timedelta(seconds=pause))


def timed(recipe: EncoderRecipe, pace: Pace, seconds_left: float, texts: int) -> EncoderRecipe:
    """Return the recipe with as many steps as there is time for, and looked at by the gate alone.

    Nothing is held back: the gate has a time of its own. So no time goes into looks.

    Args:
        recipe: how.
        pace: how quick it is here.
        seconds_left: until it shall serve.
        texts: that are read after the last step: judged, embedded, fitted to.
    """
    for_steps = (seconds_left - (pace.texts + texts) * pace.text_seconds) * SPARE
    steps = int(for_steps / max(pace.step_seconds, 1e-6))
    steps = min(max(steps, STEPS_MIN), STEPS_MAX)
    return replace(recipe, steps=steps, evaluate_every=steps, held_back=0.0, patience=0)


def _in_a_row(trainings: Sequence[EncoderTraining], state: Stage) -> int:
    """Return how many of the newest ended so; those that failed do not break a row of others."""
    count = 0
    for one in trainings:
        if one.state is state:
            count += 1
        elif one.state is not Stage.FAILED:
            break
    return count
