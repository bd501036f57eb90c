"""Why a member was, or was not, shown a post."""

from typing import Annotated

from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from millrace.community.types import Key, Viewer, parse_key
from millrace.kernel.errors import ForbiddenError
from millrace.web.asked import Asked, page, program_of, viewer_of, wants_fragment
from millrace.web.explain import trace_view, why_view
from millrace.web.shell import drawn, renderer, shell_for

Text = Annotated[str, QueryParameter(max_length=60)]


@get("/why/{post_id:str}", include_in_schema=False)
async def show_why(request: Asked, post_id: FromPath[str], member: Text = "") -> Response[str]:
    """Explain a post to its reader; to an operator, the feed of any member with the full trace."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(post_id, "post_id")
    asked = _explained(viewer, member)
    view = await program.posts.get(viewer, key)
    found = (
        await program.feed.why(asked, key, token=viewer.token, oversees=viewer.oversees)
        if asked
        else None
    )
    reader = await program.members.get(viewer, asked) if asked and viewer.oversees else None
    why = why_view(found, view, reader) if found else None
    if wants_fragment(request) and why:
        return page(renderer().text("_why.html", why=why, whole=False))
    return drawn(
        "why.html",
        await shell_for(request),
        why=why,
        trace=trace_view(found) if found and viewer.oversees else None,
        post_key=str(key),
        member_key=member,
    )


def _explained(viewer: Viewer, member: str) -> Key | None:
    """Return whose feed to explain; None while an operator has not named anybody.

    Raises:
        ForbiddenError: a member asks about somebody else.
    """
    wanted = parse_key(member, "member") if member else viewer.member
    if wanted != viewer.member and not viewer.oversees:
        raise ForbiddenError(
            f"{viewer.name} may not see what member {wanted} was shown",
            field="member",
            value=member,
            limit="yourself",
            next_step="ask about your own feed",
        )
    return wanted
