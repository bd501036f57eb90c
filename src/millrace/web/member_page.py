"""A member's page, and the form of one's own profile."""

from asyncio import gather
from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from millrace.community.types import Key, Viewer, parse_key
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.web.asked import Asked, form_of, go, page, program_of, viewer_of, wants_fragment
from millrace.web.forms import ProfileForm, profile_changes, profile_form, refused_profile
from millrace.web.forms import version_of as version_in
from millrace.web.listing import LIST_SIZE, CardList, before_of, card_list
from millrace.web.profiles import Profile, profile_of
from millrace.web.shell import drawn, renderer, shell_for

Text = Annotated[str, QueryParameter(max_length=60)]


@get("/members/{member_id:str}", include_in_schema=False)
async def show_member(
    request: Asked, member_id: FromPath[str], cursor: Text = "", saved: Text = ""
) -> Response[str]:
    """Show who a member is and what they wrote."""
    key = parse_key(member_id, "member_id")
    posts = await _written(request, key, cursor)
    if wants_fragment(request):
        return page(renderer().text("_list.html", list=posts, me=viewer_of(request).member))
    shell, profile = await gather(shell_for(request), _profile(request, key))
    return drawn("member.html", shell, profile=profile, list=posts, saved=bool(saved))


async def _written(request: Asked, key: Key, cursor: str) -> CardList:
    program, viewer = program_of(request), viewer_of(request)
    found = await program.posts.newest(viewer, None, key, before=before_of(cursor), limit=LIST_SIZE)
    return card_list(found, viewer.member, program.clock.now(), f"/members/{key}", cursor)


async def _profile(request: Asked, key: Key) -> Profile:
    program, viewer = program_of(request), viewer_of(request)
    me = viewer.member
    member, counts, community = await gather(
        program.members.get(viewer, key),
        program.members.counts(key),
        program.communities.get(viewer, key.community_id),
    )
    relations = await program.relations.of(me, viewer.token) if me else None
    return profile_of(member, counts, community, me, relations)


@get("/profile", include_in_schema=False)
async def profile_page(request: Asked) -> Response[str]:
    """Show the form of one's own profile."""
    viewer = viewer_of(request)
    member = await program_of(request).members.get(viewer, member_asking(viewer))
    return await _show_form(request, profile_form(member))


@post("/profile", include_in_schema=False)
async def save_profile(request: Asked) -> Response[str] | Response[None]:
    """Change one's own profile; what is wrong is said at its field."""
    viewer, form = viewer_of(request), await form_of(request)
    key = member_asking(viewer)
    try:
        await program_of(request).members.update(
            viewer, key, profile_changes(form), version_in(form)
        )
    except (ConflictError, InvalidError) as error:
        return await _show_form(request, refused_profile(form, error), status=422)
    return go(f"/members/{key}?saved=1")


async def _show_form(request: Asked, form: ProfileForm, *, status: int = 200) -> Response[str]:
    return drawn("profile.html", await shell_for(request), status=status, form=form)


def member_asking(viewer: Viewer) -> Key:
    """Return the member who asks.

    Raises:
        ForbiddenError: an operator asks, who has no profile.
    """
    if viewer.member is None:
        raise ForbiddenError(
            f"{viewer.name} is not a member and has no profile",
            value=str(viewer.role),
            limit="a member",
            next_step="sign in as a member",
        )
    return viewer.member
