"""Flags over REST: reading, changing, and looking at what a change would do."""

from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

from litestar import MediaType, Response, delete, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter

from millrace.api import bodies_flags, wire, wire_flags
from millrace.api.asked import Asked, number_of, program_of, read, viewer_of
from millrace.api.errors import DefinitionError, PreconditionError
from millrace.api.paging import PageAsked, cursor_at, page_asked, place_in
from millrace.api.versions import expected_version, tags_in, versioned
from millrace.kernel.hashing import fingerprint
from millrace.release.flags.room import Flags
from millrace.release.flags.types import Actor, ChangeRequest, Flag, Problem, Terms, Wait

TAGS = ["flags"]
FLAG = "/v1/flags/{key:str}"
DOCUMENT = "/v1/flag-document"  # and not beside a key: any name there may be that of a flag
PAGE_OF_ALL = 200
Prefix = Annotated[str, QueryParameter(max_length=200)]
Switch = Annotated[Literal["ENABLED", "DISABLED"] | None, QueryParameter(name="state")]
Owner = Annotated[str | None, QueryParameter(max_length=200)]
Why = Annotated[str, QueryParameter(max_length=1000)]


def flags_of(request: Asked) -> Flags:
    """Return the flags of the program."""
    return program_of(request).flags


def by_whom(request: Asked) -> Actor:
    """Return who changes something, as the trail names them."""
    return Actor(viewer_of(request).name)


def version_of(request: Asked) -> int:
    """Return the version that a change of a flag was made from.

    Raises:
        PreconditionError: the request does not say.
    """
    found = expected_version(request)
    if found is None:
        raise PreconditionError(
            "a change of a flag names the version that it was made from",
            field="If-Match",
            limit="the ETag of the flag",
            next_step="read the flag and send its ETag, so that nobody's change is lost",
        )
    return found


def expect_sound(key: str, problems: list[Problem]) -> None:
    """Refuse a definition that is wrong.

    Raises:
        DefinitionError: names every place that must be mended.
    """
    grave = [one for one in problems if one.grave]
    if grave:
        more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
        raise DefinitionError(
            f"the definition of flag {key!r} is wrong at {grave[0].place or '/'}: "
            f"{grave[0].message}{more}",
            field=grave[0].place or "definition",
            problems=problems,
        )


def changed(
    found: Flag | ChangeRequest | None, warnings: list[wire_flags.Place] | None = None
) -> Response[wire_flags.Changed]:
    """Answer a change: 200 where it is made, 202 where it waits."""
    waits = isinstance(found, ChangeRequest)
    body = wire_flags.Changed(
        flag=wire_flags.flag(found) if isinstance(found, Flag) else None,
        request=wire_flags.request(found) if isinstance(found, ChangeRequest) else None,
        warnings=warnings or [],
    )
    headers = {"etag": f'"{found.version}"'} if isinstance(found, Flag) else {}
    return Response(body, status_code=202 if waits else 200, headers=headers)


# ---------------------------------------------------------------------------------------- reading


@get(
    "/v1/flags",
    summary="Flags, by key",
    tags=TAGS,
    dependencies={"page": Provide(page_asked, sync_to_thread=False)},
)
async def list_flags(
    request: Asked,
    page: NamedDependency[PageAsked],
    prefix: Prefix = "",
    owner: Owner = None,
    switch: Switch = None,
) -> wire.Page[wire_flags.FlagCard]:
    """List flags by key: those whose key begins with `prefix`, of an `owner`, in a `state`."""
    program = program_of(request)
    listed = f"flags:{prefix}:{owner}:{switch}"
    after = unquote(place_in(program.secret, listed, page.cursor) or "")
    found: list[wire_flags.FlagCard] = []
    while len(found) < page.limit:
        rows = await program.flags.list(prefix, PAGE_OF_ALL, after)
        cards = [wire_flags.card(row) for row in rows]
        found += [
            one
            for one in cards
            if (owner is None or one.owner == owner) and (switch is None or one.state == switch)
        ]
        if len(rows) < PAGE_OF_ALL:
            break
        after = rows[-1].key
    more, found = len(found) >= page.limit, found[: page.limit]
    following = cursor_at(program.secret, listed, quote(found[-1].key)) if more else ""
    return wire.Page(found, following)


@get(FLAG, summary="One flag", tags=TAGS)
async def get_flag(request: Asked, key: FromPath[str]) -> Response[wire_flags.Flag]:
    """Read a flag with its definition, as it was written."""
    found = await flags_of(request).get(key)
    return versioned(request, wire_flags.flag(found), found.version)


@get(DOCUMENT, summary="All flags as flagd reads them", tags=TAGS)
async def get_document(request: Asked) -> Response[wire_flags.Document]:
    """Read every definition and what they share, for another evaluator; 304 where it is current."""
    body = (await flags_of(request).document()).text.encode()
    tag = f'"{fingerprint(body)}"'
    if tag in [one.removeprefix("W/") for one in tags_in(request.headers.get("if-none-match", ""))]:
        same: Any = Response(None, status_code=304, headers={"etag": tag})
        return same
    answer: Any = Response(body, media_type=MediaType.JSON, headers={"etag": tag})
    return answer


@get(
    f"{FLAG}/history",
    summary="What was changed, by whom and why",
    tags=TAGS,
    dependencies={"page": Provide(page_asked, sync_to_thread=False)},
)
async def list_changes(
    request: Asked, key: FromPath[str], page: NamedDependency[PageAsked]
) -> wire.Page[wire_flags.FlagChange]:
    """List the trail of a key, newest first, also of a flag that is gone."""
    program = program_of(request)
    listed = f"flag_changes:{key}"
    place = place_in(program.secret, listed, page.cursor)
    before = int(place) if place else None
    found = await program.flags.history(key, page.limit, before)
    more = len(found) >= page.limit
    following = cursor_at(program.secret, listed, str(found[-1].version)) if more else ""
    return wire.Page([wire_flags.change(one) for one in found], following)


@get(f"{FLAG}/usage", summary="How often a flag is evaluated", tags=TAGS)
async def get_usage(request: Asked, key: FromPath[str]) -> wire_flags.UsageList:
    """Tell how often each variant was given, by day, in all processes."""
    flags = flags_of(request)
    await flags.get(key)
    return wire_flags.usage(key, await flags.usage(key))


@get(f"{FLAG}/audience", summary="Who gets what now", tags=TAGS)
async def get_audience(request: Asked, key: FromPath[str]) -> wire_flags.Audience:
    """Count the members that each variant reaches now, by ring, country and community."""
    flags = flags_of(request)
    await flags.get(key)
    return wire_flags.audience(await flags.audience(key))


@post(f"{FLAG}/preview", summary="Whom a change would reach", tags=TAGS, status_code=200)
async def preview(request: Asked, key: FromPath[str]) -> wire_flags.Preview:
    """Tell whom a definition would give another variant than they have now; nothing is written.

    Its problems are those of a check.
    """
    form = await read(request, bodies_flags.FlagLook)
    flags, text = flags_of(request), bytes(form.definition).decode()
    problems = await flags.problems(key, text)
    return wire_flags.preview(await flags.preview(key, text), problems)


@post(f"{FLAG}/check", summary="What is wrong with a definition", tags=TAGS, status_code=200)
async def check_flag(request: Asked, key: FromPath[str]) -> wire_flags.Checked:
    """Tell what is wrong with a definition, each with its place; nothing is written.

    What is allowed is told too: where members would be given another variant without need.
    """
    form = await read(request, bodies_flags.FlagLook)
    found = await flags_of(request).problems(key, bytes(form.definition).decode())
    return wire_flags.Checked(
        sound=not any(one.grave for one in found), problems=wire_flags.places(found)
    )


# --------------------------------------------------------------------------------------- changing


@put(FLAG, summary="Write a flag", tags=TAGS, status_code=200)
async def put_flag(request: Asked, key: FromPath[str]) -> Response[wire_flags.Changed]:
    """Write a definition. If-Match names the version that it was made from; without it, it is new.

    202 where somebody has to approve it, or where it waits for a time or an adoption. What a check
    tells without refusing it is among the warnings.
    """
    form = await read(request, bodies_flags.FlagPut)
    flags, text = flags_of(request), bytes(form.definition).decode()
    problems = await flags.problems(key, text)
    expect_sound(key, problems)
    found = await flags.put(
        key,
        text,
        version=expected_version(request) or 0,
        actor=by_whom(request),
        reason=form.reason,
        terms=Terms(owner=form.owner, due_at=form.due_at, wait=_wait(form.wait)),
    )
    return changed(found, wire_flags.places(problems))


@post(DOCUMENT, summary="Bring in a document of flagd's", tags=TAGS, status_code=200)
async def import_flags(request: Asked) -> wire_flags.Imported:
    """Write every flag of a document; others stay, and the same document again changes nothing.

    What another evaluator accepted is taken with warnings.
    """
    form = await read(request, bodies_flags.FlagImport)
    text = bytes(form.document).decode()
    actor = by_whom(request)
    found = await flags_of(request).bring_in(text, actor=actor, reason=form.reason)
    return wire_flags.imported(found)


@delete(FLAG, summary="Remove a flag", tags=TAGS, status_code=200)
async def remove_flag(
    request: Asked, key: FromPath[str], reason: Why
) -> Response[wire_flags.Changed]:
    """Remove a flag; its trail stays. If-Match names the version."""
    flags = flags_of(request)
    found = await flags.remove(
        key, version=version_of(request), actor=by_whom(request), reason=reason
    )
    return changed(found)


@post(f"{FLAG}/kill", summary="Switch a flag off now", tags=TAGS, status_code=200)
async def kill(request: Asked, key: FromPath[str]) -> Response[wire_flags.Changed]:
    """Switch a flag off at once, whatever its version and whoever approves other changes."""
    form = await read(request, bodies_flags.FlagReason)
    actor = by_whom(request)
    return changed(await flags_of(request).kill(key, actor=actor, reason=form.reason))


@post(f"{FLAG}/revive", summary="Switch a flag on again", tags=TAGS, status_code=200)
async def revive(request: Asked, key: FromPath[str]) -> Response[wire_flags.Changed]:
    """Switch a flag on again, as it was. If-Match names the version."""
    form = await read(request, bodies_flags.FlagReason)
    found = await flags_of(request).revive(
        key, version=version_of(request), actor=by_whom(request), reason=form.reason
    )
    return changed(found)


@post(f"{FLAG}/ramp", summary="Change a percentage", tags=TAGS, status_code=200)
async def ramp(request: Asked, key: FromPath[str]) -> Response[wire_flags.Changed]:
    """Give a percentage of members a variant; whoever has it keeps it while that grows."""
    form = await read(request, bodies_flags.FlagRamp)
    found = await flags_of(request).ramp(
        key,
        form.variant,
        form.percentage,
        version=version_of(request),
        actor=by_whom(request),
        reason=form.reason,
    )
    return changed(found)


@post(f"{FLAG}/revert", summary="Go back to an earlier version", tags=TAGS, status_code=200)
async def revert(request: Asked, key: FromPath[str]) -> Response[wire_flags.Changed]:
    """Write a flag as an earlier version was, as a new version. If-Match names the present one."""
    form = await read(request, bodies_flags.FlagRevert)
    found = await flags_of(request).revert(
        key,
        form.to_version,
        version=version_of(request),
        actor=by_whom(request),
        reason=form.reason,
    )
    return changed(found)


def _wait(form: bodies_flags.WaitNew | None) -> Wait | None:
    """Return what a change waits for."""
    if form is None:
        return None
    community = form.community_id
    return Wait(
        track=form.track,
        version=form.version,
        share=form.share,
        country=form.country,
        community_id=None if community is None else number_of(community, "community_id"),
    )


HANDLERS = [
    list_flags, get_document, get_flag, list_changes, get_usage, get_audience, preview, check_flag, import_flags,
    put_flag, remove_flag, kill, revive, ramp, revert,
]  # fmt: skip
