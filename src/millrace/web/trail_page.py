"""The audit trail: what moderators and operators did, about whom and why; and what one was told."""

from asyncio import gather
from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter
from msgspec import Struct

from millrace.community.docket import ActionQuery, ModerationAction
from millrace.community.types import Key, parse_key
from millrace.kernel.errors import InvalidError
from millrace.web.asked import Asked, program_of, viewer_of
from millrace.web.cases import query_of, trail_line
from millrace.web.forms import number_of, said
from millrace.web.shell import drawn, shell_for

TRAIL_SIZE = 50
Text = Annotated[str, QueryParameter(max_length=120)]


class TrailForm(Struct, frozen=True, kw_only=True):
    """The filters of the trail, as they were asked for, and what is wrong with them."""

    community: str = ""
    member: str = ""
    by: str = ""
    error: str = ""
    field: str = ""

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return bool(self.community or self.member or self.by)


@get("/moderation/trail", include_in_schema=False)
async def show_trail(
    request: Asked, community: Text = "", member: Text = "", by: Text = "", before: Text = ""
) -> Response[str]:
    """Show the audit trail, newest first."""
    program, viewer = program_of(request), viewer_of(request)
    form = TrailForm(community=community, member=member.strip(), by=by.strip())
    found: list[ModerationAction] = []
    try:
        last = parse_key(before, "before") if before else None
        found = await program.moderation.actions(viewer, _query(form), last, TRAIL_SIZE)
    except InvalidError as error:
        form = TrailForm(community=community, member=member, by=by, error=said(error))
    shell, communities = await gather(
        shell_for(request, "moderation"), program.communities.list(viewer)
    )
    now = program.clock.now()
    return drawn(
        "trail.html",
        shell,
        status=422 if form.error else 200,
        form=form,
        communities=communities if viewer.oversees else [],
        trail=[trail_line(one, now) for one in found],
        more=_more(found, form),
    )


@get("/notices", include_in_schema=False)
async def show_notices(request: Asked, before: Text = "") -> Response[str]:
    """Show a member what moderators did about them and what they wrote, and why."""
    program, viewer = program_of(request), viewer_of(request)
    last = parse_key(before, "before") if before else None
    shell, found = await gather(
        shell_for(request), program.moderation.notices(viewer, last, TRAIL_SIZE)
    )
    now = program.clock.now()
    more = f"/notices?before={found[-1].key}" if len(found) == TRAIL_SIZE else ""
    return drawn("notices.html", shell, notices=[trail_line(one, now) for one in found], more=more)


def _query(form: TrailForm) -> ActionQuery:
    """Read the filters.

    Passes on:
        InvalidError: the member is no key.
    """
    return ActionQuery(
        community_id=number_of(form.community) if form.community else None,
        member=_key(form.member) if form.member else None,
        by=_doer(form.by) if form.by else None,
    )


def _key(text: str) -> Key:
    return parse_key(text.removeprefix("member:"), "member")


def _doer(text: str) -> str:
    """Return who is meant: a member's key, or the name of an operator."""
    if ":" in text:
        return text
    return f"member:{text}" if text[:1].isdigit() and "-" in text else f"operator:{text}"


def _more(found: list[ModerationAction], form: TrailForm) -> str:
    if len(found) < TRAIL_SIZE:
        return ""
    query = query_of(
        community=form.community, member=form.member, by=form.by, before=str(found[-1].key)
    )
    return f"/moderation/trail{query}"
