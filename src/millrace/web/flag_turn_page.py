"""Ramping a flag and going back to an earlier version of it, each with a look at whom it changes."""

from litestar import Response, post
from litestar.params import FromPath

from millrace.kernel.errors import ConflictError, InvalidError, MillraceError
from millrace.release.flags.changes import ramped
from millrace.web.asked import Asked, Form, form_of
from millrace.web.flag_asked import doer_of, flags_of
from millrace.web.flag_page import after, made_from, refused_press
from millrace.web.flag_previews import Step, show_step
from millrace.web.flag_rules import percentage_of
from millrace.web.flag_views import flag_address
from millrace.web.forms import field_of, number_of, said


@post("/flags/{key:str}/ramp", include_in_schema=False)
async def ramp(request: Asked, key: FromPath[str]) -> Response[str] | Response[None]:
    """Give a share of the members a variant: first shown, then done."""
    form = await form_of(request)
    try:
        percentage = percentage_of(form.text("percentage"))
        if form.text("do") != "save":
            return await _show_ramp(request, key, form)
        made = await flags_of(request).ramp(
            key,
            form.text("variant"),
            percentage,
            version=made_from(form),
            actor=doer_of(request),
            reason=form.text("reason"),
        )
    except InvalidError as error:
        if error.field != "reason":
            return await refused_press(request, key, "ramp", form, error)
        return await _show_ramp(request, key, form, error)
    except ConflictError as error:
        return await refused_press(request, key, "ramp", form, error)
    return after(made, key, "saved")


async def _show_ramp(
    request: Asked, key: str, form: Form, error: MillraceError | None = None
) -> Response[str]:
    """Show whom a ramp adds and drops.

    Passes on:
        InvalidError: the flag has no such variant, or it is no percentage.
        ConflictError: the flag has no one place for a percentage.
    """
    flag = await flags_of(request).get(key)
    variant, percentage = form.text("variant"), form.text("percentage")
    content = ramped(flag.content, variant, percentage_of(percentage))
    step = Step(
        key=key,
        before=flag.content,
        after=content,
        title=f"Ramp {key}: {variant} for {percentage} %",
        back=flag_address(key),
        action=f"{flag_address(key)}/ramp",
        hidden=[
            ("version", str(made_from(form))),
            ("variant", variant),
            ("percentage", percentage),
        ],
        save="Ramp",
        owners=(flag.owner, flag.owner),
        reason=form.text("reason"),
        error=said(error) if error else "",
        field=field_of(error) if error else "",
        status=422 if error else 200,
    )
    return await show_step(request, step)


@post("/flags/{key:str}/revert", include_in_schema=False)
async def revert(request: Asked, key: FromPath[str]) -> Response[str] | Response[None]:
    """Write a flag as it was in an earlier version: in one step, or shown first."""
    form = await form_of(request)
    try:
        to = number_of(form.text("to"), "to")
        if form.text("do") != "save":
            return await _show_revert(request, key, form, to)
        made = await flags_of(request).revert(
            key, to, version=made_from(form), actor=doer_of(request), reason=form.text("reason")
        )
    except InvalidError as error:
        if error.field != "reason":
            return await refused_press(request, key, "revert", form, error)
        return await _show_revert(request, key, form, number_of(form.text("to"), "to"), error)
    except ConflictError as error:
        return await refused_press(request, key, "revert", form, error)
    return after(made, key, "reverted")


async def _show_revert(
    request: Asked, key: str, form: Form, to: int, error: MillraceError | None = None
) -> Response[str]:
    flag = await flags_of(request).find(key)
    change = await flags_of(request).change_to(key, to)
    step = Step(
        key=key,
        before=flag.content if flag else "",
        after=change.after,
        title=f"Revert {key} to version {to}",
        back=flag_address(key),
        action=f"{flag_address(key)}/revert",
        hidden=[("version", str(made_from(form))), ("to", str(to))],
        save="Revert",
        owners=(flag.owner if flag else "", change.owner),
        reason=form.text("reason"),
        error=said(error) if error else "",
        field=field_of(error) if error else "",
        status=422 if error else 200,
    )
    return await show_step(request, step)
