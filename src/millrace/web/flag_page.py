"""One flag: its kill switch, who gets it now, its rules, its past; and what is done about it."""

from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from msgspec.structs import replace

from millrace.kernel.errors import ConflictError, InvalidError, NotFoundError
from millrace.release.flags import why
from millrace.release.flags.book import switched
from millrace.release.flags.lives import life_of
from millrace.release.flags.repository import SHARED
from millrace.release.flags.types import ChangeRequest, Flag, FlagChange
from millrace.web.asked import Asked, Form, form_of, go, page, program_of, wants_fragment
from millrace.web.crowds import CrowdView
from millrace.web.flag_asked import (
    COUNTS_AT_ONCE_MAX,
    ActForm,
    communities_by_number,
    doer_of,
    flags_of,
    four_eyes,
    member_called,
    members_in_all,
    open_requests,
    refused_act,
)
from millrace.web.flag_crowds import crowd_view, kill_words, revive_words
from millrace.web.flag_forms import object_of, pretty
from millrace.web.flag_outcomes import outcome_view
from millrace.web.flag_ramps import RampView, ramp_view
from millrace.web.flag_request_views import waiting_line
from millrace.web.flag_views import (
    flag_address,
    flag_head,
    history_lines,
    is_on,
    last_evaluated,
    usage_view,
)
from millrace.web.flag_why import DecisionView, decision_view
from millrace.web.forms import number_of, said, version_of
from millrace.web.shell import drawn, renderer, shell_for

HISTORY_SIZE = 20
COUNTED_AT_ONCE_MAX = 50_000  # members: with more, the page comes first and the counts after it
UNCOUNTED = (
    "Takes it from everybody at once, on every server within a second: all get the default in the "
    "code. It can be switched on again as it is."
)
SOON = "Every server follows within a second."
DONE = {
    "killed": f"Killed. {SOON}",
    "revived": f"Switched on again. {SOON}",
    "saved": f"Saved. {SOON}",
    "reverted": f"Reverted. {SOON}",
    "made": f"Made. {SOON}",
}
Text = Annotated[str, QueryParameter(max_length=60)]


class Sides(Struct, frozen=True, kw_only=True):
    """What the page shows beside the flag itself: a refused press, what was done, older changes.

    member: about whom it is asked why. counts: whether members are to be counted in any case.
    """

    form: ActForm = ActForm()
    done: str = ""
    before: int | None = None
    member: str = ""
    counts: bool = False
    status: int = 200


@get("/flags/{key:str}", include_in_schema=False)
async def show_flag(request: Asked, key: FromPath[str], before: Text = "") -> Response[str]:
    """Show a flag with everything that is known of it, also of one that was removed."""
    asked = request.query_params
    sides = Sides(
        done=DONE.get(asked.get("done", ""), ""),
        before=number_of(before, "before") if before else None,
        member=asked.get("member", "").strip(),
        counts=bool(asked.get("count")),
    )
    if wants_fragment(request):
        crowd, _ = await _crowd(request, await flags_of(request).get(key))
        return page(renderer().text("_flag_crowd.html", crowd=crowd))
    return await _show(request, key, sides)


async def _show(request: Asked, key: str, sides: Sides) -> Response[str]:
    """Draw the page of a flag.

    Raises:
        NotFoundError: there is no such flag, and never was.
    """
    flags = flags_of(request)
    history = await flags.history(key, HISTORY_SIZE + 1, sides.before)
    if key in SHARED:
        return await _show_shared(request, key, history, sides)
    try:
        flag = await flags.get(key)
    except NotFoundError:
        if not history:
            raise
        return await _show_gone(request, key, history, sides)
    now = program_of(request).clock.now()
    shell, newest, usage, waiting, names, members = await gather(
        shell_for(request, "flags"),
        flags.history(key, 1, None),
        flags.usage(key),
        open_requests(request, key),
        communities_by_number(request),
        members_in_all(request),
    )
    seen = await flags.scans.seen(key)
    crowd, words = None, UNCOUNTED
    if sides.counts or members <= COUNTED_AT_ONCE_MAX:
        crowd, words = await _crowd(request, flag)
    decision, error = await _why(request, flag, sides.member, names)
    known = (last_evaluated(usage), flags.dependents(), seen.get(key))
    head = flag_head(
        flag,
        now,
        last=newest[0] if newest else None,
        names=names,
        life=life_of(flag, object_of(flag.content) or {}, *known),
        days=program_of(request).settings.flags.stale_days,
    )
    return drawn(
        "flag.html",
        shell,
        status=sides.status,
        flag=head,
        crowd=crowd,
        kill_words=words,
        cheap=members <= COUNTS_AT_ONCE_MAX,
        asked=sides.member,
        decision=decision,
        asked_error=error,
        ramp=_as_typed(ramp_view(flag.content, now), sides.form.at("ramp")),
        usage=usage_view(usage, flag.content, now),
        outcomes=outcome_view(program_of(request).feed.variants().outcomes.get(key)),
        requests=[waiting_line(one) for one in waiting],
        four_eyes=four_eyes(request),
        form=sides.form,
        done=sides.done,
        **_past(request, key, history, flag.version),
    )


async def _why(
    request: Asked, flag: Flag, name: str, names: Mapping[str, str]
) -> tuple[DecisionView | None, str]:
    """Say why a member gets what they get, or what is wrong with the question."""
    if not name:
        return None, ""
    try:
        member = await member_called(request, name)
    except (ConflictError, InvalidError, NotFoundError) as error:
        return None, said(error)
    flags, now = flags_of(request), program_of(request).clock.now().timestamp()
    definition = object_of(flag.content) or {}
    context = flags.context_of(member.key)
    found = why.explain(flags.flagset(), flag.key, definition, context, now)
    return decision_view(member.display_name, found, names), ""


def _as_typed(ramp: RampView, typed: ActForm) -> RampView:
    """Return the fields of a ramp with what was typed there, if anything was."""
    if not typed.act:
        return ramp
    return replace(ramp, variant=typed.variant, percentage=typed.percentage, reason=typed.reason)


def _past(
    request: Asked, key: str, history: Sequence[FlagChange], version: int
) -> dict[str, object]:
    now = program_of(request).clock.now()
    shown = history[:HISTORY_SIZE]
    more = len(history) > HISTORY_SIZE
    older = f"{flag_address(key)}?before={shown[-1].version}#history" if more else ""
    lines = history_lines(history, now, version)[:HISTORY_SIZE]
    return {"history": lines, "history_more": older}


async def _show_shared(
    request: Asked, key: str, history: Sequence[FlagChange], sides: Sides
) -> Response[str]:
    """Show what all flags share: it has no variants, no switch, and nobody is given it."""
    flag = await flags_of(request).find(key)
    return drawn(
        "flag_shared.html",
        await shell_for(request, "flags"),
        status=sides.status,
        flag={"key": key, "address": flag_address(key), "version": flag.version if flag else 0},
        json=pretty(flag.content) if flag else "",
        form=sides.form,
        done=sides.done,
        **_past(request, key, history, flag.version if flag else 0),
    )


async def _show_gone(
    request: Asked, key: str, history: Sequence[FlagChange], sides: Sides
) -> Response[str]:
    """Show what a flag was that is there no more; it can be brought back."""
    return drawn(
        "flag_gone.html",
        await shell_for(request, "flags"),
        status=sides.status,
        flag={"key": key, "address": flag_address(key), "version": 0},
        form=sides.form,
        **_past(request, key, history, 0),
    )


async def _crowd(request: Asked, flag: Flag) -> tuple[CrowdView, str]:
    """Count who gets a flag now, and say whom its switch concerns."""
    flags = flags_of(request)
    audience = await flags.audience(flag.key)
    view = crowd_view(audience, flag.content, await communities_by_number(request))
    if is_on(flag.content):
        return view, kill_words(audience)
    revived = await flags.preview(flag.key, switched(flag.content, "ENABLED"))
    return view, revive_words(revived)


# ---------------------------------------------------------------- what is done about it


@post("/flags/{key:str}/kill", include_in_schema=False)
async def kill(request: Asked, key: FromPath[str]) -> Response[str] | Response[None]:
    """Switch a flag off now. Whoever else changed it meanwhile: it is off in any case."""
    form = await form_of(request)
    try:
        await flags_of(request).kill(key, actor=doer_of(request), reason=form.text("reason"))
    except InvalidError as error:
        return await refused_press(request, key, "kill", form, error)
    return go(f"{flag_address(key)}?done=killed")


@post("/flags/{key:str}/revive", include_in_schema=False)
async def revive(request: Asked, key: FromPath[str]) -> Response[str] | Response[None]:
    """Switch a killed flag on again."""
    form = await form_of(request)
    try:
        made = await flags_of(request).revive(
            key, version=made_from(form), actor=doer_of(request), reason=form.text("reason")
        )
    except (ConflictError, InvalidError) as error:
        return await refused_press(request, key, "revive", form, error)
    return after(made, key, "revived")


@post("/flags/{key:str}/remove", include_in_schema=False)
async def remove(request: Asked, key: FromPath[str]) -> Response[str] | Response[None]:
    """Remove a flag; its history stays."""
    form = await form_of(request)
    try:
        made = await flags_of(request).remove(
            key, version=made_from(form), actor=doer_of(request), reason=form.text("reason")
        )
    except (ConflictError, InvalidError) as error:
        return await refused_press(request, key, "remove", form, error)
    return after(made, key, "removed") if made else go("/flags?done=removed")


async def refused_press(
    request: Asked, key: str, act: str, form: Form, error: ConflictError | InvalidError
) -> Response[str]:
    """Show the page as it is now, with what was refused, and what was typed where it was typed."""
    status = 409 if isinstance(error, ConflictError) else 422
    return await _show(request, key, Sides(form=refused_act(act, form, error), status=status))


def made_from(form: Form) -> int:
    """Return the version that a press was made from; 0 where its page named none.

    Passes on:
        InvalidError: it is no number.
    """
    return version_of(form) or 0


def after(made: Flag | ChangeRequest, key: str, done: str) -> Response[None]:
    """Go to the flag, or to the request that was made of the change."""
    if isinstance(made, ChangeRequest):
        return go(f"/flag-requests?done=asked#request-{made.id}")
    return go(f"{flag_address(key)}?done={done}")
