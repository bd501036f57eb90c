"""Writing a post, and changing or removing one's own."""

from litestar import Response, get, post
from litestar.params import FromPath

from millrace.community.types import Key, Viewer, parse_key
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.web.asked import Asked, form_of, go, program_of, viewer_of
from millrace.web.forms import (
    ComposeForm,
    changed_post,
    compose_of,
    new_post,
    reach_of,
    version_of,
    written_form,
)
from millrace.web.shell import drawn, shell_for


@get("/compose", include_in_schema=False)
async def compose_form(request: Asked) -> Response[str]:
    """Show the whole form of a new post, with who sees it."""
    return await _show(request, ComposeForm())


@post("/compose", include_in_schema=False)
async def compose(request: Asked) -> Response[str] | Response[None]:
    """Write a post, and show it above the feed; what is wrong is said at its field."""
    viewer, form = viewer_of(request), await form_of(request)
    try:
        written = await program_of(request).posts.write(viewer, new_post(form))
    except InvalidError as error:
        return await _show(request, compose_of(form, error), status=422)
    return go(f"/?posted={written.key}")


@get("/posts/{post_id:str}/edit", include_in_schema=False)
async def edit_form(request: Asked, post_id: FromPath[str]) -> Response[str]:
    """Show the form of a post that is one's own."""
    viewer, key = viewer_of(request), parse_key(post_id, "post_id")
    view = await program_of(request).posts.get(viewer, key)
    if view.post.author != viewer.member:
        _not_yours(viewer, key)
    return await _show(request, written_form(view.post))


@post("/posts/{post_id:str}/edit", include_in_schema=False)
async def edit(request: Asked, post_id: FromPath[str]) -> Response[str] | Response[None]:
    """Change a post; what is wrong is said at its field, and nothing typed is lost."""
    viewer, form = viewer_of(request), await form_of(request)
    key = parse_key(post_id, "post_id")
    try:
        changes = changed_post(form)
        await program_of(request).posts.edit(viewer, key, changes, version_of(form))
    except (ConflictError, InvalidError) as error:
        return await _show(request, compose_of(form, error, str(key)), status=422)
    return go(f"/posts/{key}")


@post("/posts/{post_id:str}/remove", include_in_schema=False)
async def remove(request: Asked, post_id: FromPath[str]) -> Response[None]:
    """Remove a post that is one's own, and go to the feed."""
    viewer, form = viewer_of(request), await form_of(request)
    key = parse_key(post_id, "post_id")
    await program_of(request).posts.remove(viewer, key, form.text("reason"))
    return go("/?removed=1")


async def _show(request: Asked, compose: ComposeForm, *, status: int = 200) -> Response[str]:
    """Show the form. A refused one stands alone: ranking a feed under it would use one up."""
    program, viewer = program_of(request), viewer_of(request)
    shell = await shell_for(request, "compose")
    home = viewer.member
    assert home is not None, "the inventory lets only members write"
    around = await program.communities.surroundings(viewer, home.community_id)
    reaches = reach_of(shell.me.community if shell.me else "", [one.name for one in around.reached])
    return drawn("compose.html", shell, status=status, compose=compose, reaches=reaches)


def _not_yours(viewer: Viewer, key: Key) -> None:
    """Refuse the form of somebody else's post.

    Raises:
        ForbiddenError: always.
    """
    raise ForbiddenError(
        f"{viewer.name} may not change post {key}",
        field="post_id",
        value=str(key),
        limit="the own posts",
        next_step="ask its author",
    )
