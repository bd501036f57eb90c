"""Why a flag gives a member what it gives them, as people read it. Pure: no reads, no markup."""

from collections.abc import Mapping

from msgspec import Struct

from millrace.release.flags.difference import CODE_DEFAULT, shown
from millrace.release.flags.types import Absent
from millrace.release.flags.why import Decision, Draw, Step
from millrace.web.flag_places import with_places


class DecisionStep(Struct, frozen=True, kw_only=True):
    """One rule: what it says, and what came of it."""

    words: str
    outcome: str
    decided: bool


class DecisionView(Struct, frozen=True, kw_only=True):
    """What a member is given, and how it came to that. draw: empty where no percentage decided."""

    name: str
    sentence: str
    given: str
    steps: list[DecisionStep]
    draw: str


def decision_view(name: str, found: Decision, names: Mapping[str, str]) -> DecisionView:
    """Show a decision about the member called `name`. `names`: of communities, by number."""
    resolution = found.resolution
    value = "" if isinstance(resolution.value, Absent) else f" ({shown(resolution.value)})"
    return DecisionView(
        name=name,
        sentence=with_places(found.sentence, names),
        given=f"{resolution.variant or CODE_DEFAULT}{value}",
        steps=[_step(one, names) for one in found.steps],
        draw=_draw_words(found.draw) if found.draw else "",
    )


def _step(step: Step, names: Mapping[str, str]) -> DecisionStep:
    if step.holds is None:
        outcome = "not asked: an earlier rule decided"
    elif step.holds:
        outcome = "fits, and decides"
    else:
        failed = [test.words.removeprefix("whoever ") for test in step.tests if not test.holds]
        outcome = "does not fit" + (f"; not true of them: {', '.join(failed)}" if failed else "")
    return DecisionStep(
        words=with_places(step.words, names),
        outcome=with_places(outcome, names),
        decided=bool(step.holds),
    )


def _draw_words(draw: Draw) -> str:
    """Say where they lie, and which share that is: whoever has a variant sees how far it reaches."""
    here = 100 * draw.bucket / draw.total
    share = next((one for one in draw.slices if one.start <= here < one.end), None)
    where = (
        f", in the share of {share.variant}: from {share.start:g} % to before {share.end:g} %"
        if share
        else ""
    )
    return (
        f"Their place in the draw is {draw.percent:.3f} %{where}. "
        f"It comes from {draw.hashed}, by bucketing {draw.bucketing}."
    )
