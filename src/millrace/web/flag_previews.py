"""The step before a change is made: what it says, whom it adds and drops, and why it is made."""

from litestar import Response
from msgspec import Struct

from millrace.community.types import parse_key
from millrace.release.flags.repository import SHARED
from millrace.release.flags.rings import TRACKS
from millrace.release.flags.soundness import reassigned
from millrace.release.flags.types import REASON_MAX
from millrace.web.asked import Asked, program_of
from millrace.web.cases import named
from millrace.web.flag_asked import communities_by_number, flags_of, four_eyes
from millrace.web.flag_crowds import DifferenceView, difference_view
from millrace.web.flag_forms import LaterFields
from millrace.web.flag_places import all_with_places
from millrace.web.flag_views import changed_words, owner_words
from millrace.web.shell import drawn, shell_for


class Step(Struct, frozen=True, kw_only=True):
    """A change that is about to be made.

    before, after: the definitions; empty for none. owners: before and after.
    hidden: the fields that carry it to the next press.
    schedules: whether it can be made later. editable: whether one can go back to its form.
    """

    key: str
    before: str
    after: str
    title: str
    back: str
    action: str
    hidden: list[tuple[str, str]]
    save: str
    owners: tuple[str, str] = ("", "")
    reason: str = ""
    later: LaterFields = LaterFields()
    error: str = ""
    field: str = ""
    schedules: bool = False
    editable: bool = False
    status: int = 200


class StepForm(LaterFields, frozen=True, kw_only=True):
    """The fields of the step that are filled in."""

    reason: str
    error: str
    field: str
    reason_max: int = REASON_MAX
    tracks: tuple[str, ...] = TRACKS


async def show_step(request: Asked, step: Step) -> Response[str]:
    """Show a change before it is made."""
    shared = step.key in SHARED  # it has no variants of its own to count
    difference = None if shared else await previewed(request, step.key, step.before, step.after)
    problems = reassigned(step.key, step.before, step.after)
    names = await communities_by_number(request)
    words = all_with_places(changed_words(step.key, step.before, step.after), names)
    words += owner_words(*step.owners)
    reviewed = four_eyes(request)
    return drawn(
        "flag_preview.html",
        await shell_for(request, "flags"),
        status=step.status,
        title=step.title,
        back=step.back,
        back_label=step.key if step.before else "Flags",
        action=step.action,
        hidden=step.hidden,
        words=words,
        problems=problems,
        difference=difference,
        form=_form(step),
        schedule=step.schedules,
        editable=step.editable,
        four_eyes=reviewed,
        save_label=f"Ask to {step.save.lower()}" if reviewed else step.save,
    )


async def previewed(request: Asked, key: str, before: str, after: str) -> DifferenceView:
    """Count whom a change of a flag adds and drops, and name the first few."""
    difference = await flags_of(request).preview(key, after)
    keys = {key for turn in difference.turns for key in (*turn.added_names, *turn.dropped_names)}
    members = await program_of(request).members.several([parse_key(one) for one in keys])
    return difference_view(difference, before, after, {str(one.key): named(one) for one in members})


def _form(step: Step) -> StepForm:
    later = {name: getattr(step.later, name) for name in LaterFields.__struct_fields__}
    return StepForm(reason=step.reason, error=step.error, field=step.field, **later)
