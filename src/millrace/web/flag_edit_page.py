"""Making and changing a flag: as rules or as JSON, then whom it adds and drops, then saved."""

from collections.abc import Mapping

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec.structs import replace

from millrace.kernel.errors import ConflictError, InvalidError, MillraceError, NotFoundError
from millrace.release.flags.repository import SHARED
from millrace.release.flags.types import Problem, Terms
from millrace.web.asked import Asked, Form, form_of
from millrace.web.flag_asked import communities_by_number, doer_of, flags_of, problems_of
from millrace.web.flag_clashes import Clash, clash_of
from millrace.web.flag_forms import (
    AS_JSON,
    AS_RULES,
    FlagForm,
    as_rules,
    definition_of,
    due_of,
    later_pairs,
    new_form,
    pretty,
    refused,
    sent_flag,
    shared_form,
    wait_of,
    worked,
    written_flag,
)
from millrace.web.flag_page import after
from millrace.web.flag_places import form_by_name, form_by_number
from millrace.web.flag_previews import Step, show_step
from millrace.web.flag_views import flag_address
from millrace.web.shell import drawn, shell_for

BY_HAND = "these rules say more than the form has fields for, so they are edited as JSON"


@get("/flag-new", include_in_schema=False)
async def new_flag(request: Asked) -> Response[str]:
    """Show the form of a new flag."""
    return await _show_form(request, new_form())


@post("/flag-new", include_in_schema=False)
async def make_flag(request: Asked) -> Response[str] | Response[None]:
    """Take a step with the form of a new flag."""
    return await _step(request, await form_of(request), "")


@get("/flags/{key:str}/edit", include_in_schema=False)
async def edit_flag(request: Asked, key: FromPath[str]) -> Response[str]:
    """Show the form of a flag as it stands."""
    if key in SHARED:
        return await _show_form(request, shared_form(key, await flags_of(request).find(key)))
    form = written_flag(await flags_of(request).get(key))
    return await _show_form(request, form_by_name(form, await communities_by_number(request)))


@post("/flags/{key:str}/edit", include_in_schema=False)
async def change_flag(request: Asked, key: FromPath[str]) -> Response[str] | Response[None]:
    """Take a step with the form of a flag."""
    return await _step(request, await form_of(request), key)


async def _step(request: Asked, sent: Form, key: str) -> Response[str] | Response[None]:
    """Do what the pressed button says. Whatever comes of it, all that was typed is on the page."""
    form, do = sent_flag(sent, key=key), sent.text("do")
    names = await communities_by_number(request)
    match do:
        case "preview":
            return await _preview(request, form, names)
        case "save":
            return await _save(request, form_by_number(form, names))
        case "json":
            return await _show_form(request, _as_json(form, names))
        case "rules" | "edit":
            again = _again(form, form.came if do == "edit" else AS_RULES, do)
            return await _show_form(request, form_by_name(again, names))
        case _:
            return await _show_form(request, worked(form, do))


def _as_json(form: FlagForm, names: Mapping[str, str]) -> FlagForm:
    """Return a form of rules as one of JSON; as it is, with what is wrong, where it says nothing."""
    try:
        return replace(form, mode=AS_JSON, content=pretty(_definition(form, names)))
    except InvalidError as error:
        return refused(form, error)


def _definition(form: FlagForm, names: Mapping[str, str]) -> str:
    """Return the definition of a form whose communities may stand by name.

    Passes on:
        InvalidError: something in it is wrong.
    """
    return definition_of(form_by_number(form, names))


def _again(form: FlagForm, came: str, do: str) -> FlagForm:
    """Return a form of JSON as one of rules, if it may be one."""
    form = replace(form, mode=AS_JSON)
    found = as_rules(form) if came == AS_RULES and form.key not in SHARED else None
    if found is None and do == "rules":
        return replace(form, error=f"{BY_HAND[:1].upper()}{BY_HAND[1:]}.", field="content")
    return found or replace(form, content=pretty(form.content))


async def _preview(request: Asked, form: FlagForm, names: Mapping[str, str]) -> Response[str]:
    """Show whom the change adds and drops, or what is wrong with it."""
    try:
        content = _definition(form, names)
    except InvalidError as error:
        return await _show_form(request, refused(form, error), status=422)
    problems = await problems_of(request, form.key, content)
    if any(one.grave for one in problems) or not form.key:
        return await _show_form(request, form, status=422, problems=problems)
    return await _show_preview(request, form, content)


async def _show_preview(
    request: Asked, form: FlagForm, content: str, *, status: int = 200
) -> Response[str]:
    clash = await clash_of(request, form, content)
    if clash is not None:
        return await _show_form(request, form, status=409, clash=clash)
    flag = await flags_of(request).find(form.key)
    address = flag_address(form.key)
    step = Step(
        key=form.key,
        before=flag.content if flag else "",
        after=content,
        owners=(flag.owner if flag else "", form.owner),
        title=f"Make {form.key}" if form.new else f"Change {form.key}",
        back="/flags" if form.new else address,
        action="/flag-new" if form.new else f"{address}/edit",
        hidden=[
            ("mode", AS_JSON),
            ("came", form.came),
            ("key", form.key),
            ("owner", form.owner),
            ("version", str(form.version)),
            ("content", content),
        ],
        save="Make" if form.new else "Save",
        reason=form.reason,
        later=form.later,
        error=form.error,
        field=form.field,
        schedules=True,
        editable=True,
        status=status,
    )
    return await show_step(request, step)


async def _save(request: Asked, form: FlagForm) -> Response[str] | Response[None]:
    """Make the change, or a request of it; a clash shows both, and loses nothing."""
    content = form.content
    try:
        terms = Terms(owner=form.owner, due_at=due_of(form.later), wait=wait_of(form.later))
        made = await flags_of(request).put(
            form.key,
            content,
            version=form.version,
            actor=doer_of(request),
            reason=form.reason,
            terms=terms,
        )
    except ConflictError:
        return await _show_preview(request, form, content, status=409)
    except (InvalidError, NotFoundError) as error:
        return await _refused(request, form, content, error)
    return after(made, form.key, "made" if form.new else "saved")


async def _refused(
    request: Asked, form: FlagForm, content: str, error: MillraceError
) -> Response[str]:
    """Say what is wrong: of the reason or the time where those stand, else in the form."""
    problems = await problems_of(request, form.key, content)
    form = refused(form, error)
    if any(one.grave for one in problems):
        return await _show_form(request, form, status=422, problems=problems)
    return await _show_preview(request, form, content, status=422)


async def _show_form(
    request: Asked,
    form: FlagForm,
    *,
    status: int = 200,
    problems: list[Problem] | None = None,
    clash: Clash | None = None,
) -> Response[str]:
    address, names = flag_address(form.key), await communities_by_number(request)
    return drawn(
        "flag_edit.html",
        await shell_for(request, "flags"),
        status=status,
        form=form,
        address=address,
        action="/flag-new" if form.new else f"{address}/edit",
        later=later_pairs(form.later),
        problems=problems or [],
        clash=clash,
        json=_shown_json(form, names),
    )


def _shown_json(form: FlagForm, names: Mapping[str, str]) -> str:
    """Return the definition that the form stands for now; empty while it stands for none."""
    if form.mode == AS_JSON:
        return ""
    try:
        return pretty(_definition(form, names))
    except InvalidError:
        return ""
