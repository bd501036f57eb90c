"""Reporting a post, a comment or a member: why, and what a moderator should know."""

from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from millrace.community.moves import ReportReason, Thing, ThingKind
from millrace.community.types import REASON_MAX, parse_key
from millrace.kernel.errors import ConflictError, InvalidError
from millrace.web.asked import Asked, Form, form_of, go, page, program_of, viewer_of, wants_fragment
from millrace.web.cases import KINDS, REASONS
from millrace.web.forms import said
from millrace.web.shell import drawn, renderer, shell_for

CHOICES = tuple((reason.value, label) for reason, label in REASONS.items())
Text = Annotated[str, QueryParameter(max_length=60)]


class ReportForm(Struct, frozen=True, kw_only=True):
    """The form of a report, with what was typed and what is wrong with it."""

    kind: str
    kind_label: str
    key: str
    reason: str = ""
    detail: str = ""
    error: str = ""
    reasons: tuple[tuple[str, str], ...] = CHOICES
    detail_max: int = REASON_MAX


@get("/report/{thing_kind:str}/{thing_id:str}", include_in_schema=False)
async def report_form(
    request: Asked, thing_kind: FromPath[str], thing_id: FromPath[str], done: Text = ""
) -> Response[str]:
    """Show the form of a report about what the reader sees; the module puts it into a dialog."""
    thing = thing_of(thing_kind, thing_id)
    await program_of(request).moderation.moves(viewer_of(request), thing)  # or it is not found
    return await _show(request, _form_of(thing), done=bool(done))


@post("/report/{thing_kind:str}/{thing_id:str}", include_in_schema=False)
async def report(
    request: Asked, thing_kind: FromPath[str], thing_id: FromPath[str]
) -> Response[str] | Response[None]:
    """Take a report; what is wrong is said above the form, and nothing typed is lost."""
    thing, form = thing_of(thing_kind, thing_id), await form_of(request)
    moderation = program_of(request).moderation
    try:
        await moderation.report(viewer_of(request), thing, _reason(form), form.text("detail"))
    except (ConflictError, InvalidError) as error:
        return await _show(request, _refused(thing, form, said(error)), status=422)
    if wants_fragment(request):
        return page("")
    return go(f"/report/{thing.kind.value}/{thing.key}?done=1")


async def _show(
    request: Asked, form: ReportForm, *, done: bool = False, status: int = 200
) -> Response[str]:
    if wants_fragment(request):
        return page(renderer().text("_report.html", form=form, whole=False), status=status)
    return drawn("report.html", await shell_for(request), status=status, form=form, done=done)


def thing_of(kind: str, key: str) -> Thing:
    """Read which thing is meant.

    Raises:
        InvalidError: there is no such kind of thing.

    Passes on:
        InvalidError: the key has another form.
    """
    if kind not in list(ThingKind):
        raise InvalidError(
            f"a thing of kind {kind[:40]!r} is neither reported nor judged",
            field="thing_kind",
            value=kind[:40],
            limit=", ".join(ThingKind),
            next_step="open it from the post, the comment or the member",
        )
    return Thing(ThingKind(kind), parse_key(key, "thing_id"))


def _form_of(thing: Thing) -> ReportForm:
    return ReportForm(
        kind=thing.kind.value, kind_label=KINDS[thing.kind].lower(), key=str(thing.key)
    )


def _refused(thing: Thing, form: Form, error: str) -> ReportForm:
    return ReportForm(
        kind=thing.kind.value,
        kind_label=KINDS[thing.kind].lower(),
        key=str(thing.key),
        reason=form.text("reason"),
        detail=form.text("detail"),
        error=error,
    )


def _reason(form: Form) -> ReportReason:
    """Read the reason.

    Raises:
        InvalidError: there is none, or it is none of the list.
    """
    value = form.text("reason")
    if value not in list(ReportReason):
        raise InvalidError(
            "a report needs a reason",
            field="reason",
            value=value[:40],
            limit=", ".join(ReportReason),
            next_step="choose what fits best",
        )
    return ReportReason(value)
