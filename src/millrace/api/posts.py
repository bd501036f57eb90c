"""Posts."""

from typing import Annotated, Any

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import UNSET
from msgspec.structs import asdict

from millrace.api import bodies, wire
from millrace.api.asked import Asked, number_of, program_of, read, viewer_of
from millrace.api.paging import LIMIT_DEFAULT, LIMIT_MAX, cursor_at, place_in
from millrace.api.versions import expected_version, versioned
from millrace.community.types import BIGINT_MAX, NewPost, PostChanges, parse_key

TAGS = ["posts"]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]


@post("/v1/posts", summary="Write a post", tags=TAGS)
async def write_post(request: Asked) -> Response[wire.Post]:
    """Write a post in the caller's home community."""
    program, viewer = program_of(request), viewer_of(request)
    form = await read(request, bodies.PostNew)
    written = await program.posts.write(viewer, NewPost(**asdict(form)))
    view = await program.posts.get(viewer, written.key)
    answer = versioned(request, wire.post(view), written.system_version, status=201)
    answer.headers["location"] = f"/v1/posts/{written.key}"
    return answer


@get("/v1/posts", summary="Newest posts", tags=TAGS)
async def list_posts(
    request: Asked,
    community_id: FromQuery[str | None] = None,
    author_id: FromQuery[str | None] = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.Post]:
    """List the posts that the caller may see, newest first, of a community or an author."""
    program, viewer = program_of(request), viewer_of(request)
    community = None if community_id is None else number_of(community_id, "community_id")
    author = None if author_id is None else parse_key(author_id, "author_id")
    listed = f"posts:{community}:{author}"
    before = int(place_in(program.secret, listed, cursor) or BIGINT_MAX)
    found = await program.posts.newest(viewer, community, author, before=before, limit=limit)
    more = len(found) >= limit
    following = cursor_at(program.secret, listed, str(found[-1].post.post_id)) if more else ""
    return wire.Page([wire.post(one) for one in found], following)


@get("/v1/posts/{post_id:str}", summary="One post", tags=TAGS)
async def get_post(request: Asked, post_id: FromPath[str]) -> Response[wire.Post]:
    """Read a post that the caller may see."""
    view = await program_of(request).posts.get(viewer_of(request), parse_key(post_id, "post_id"))
    return versioned(request, wire.post(view), view.post.system_version)


@patch("/v1/posts/{post_id:str}", summary="Change a post", tags=TAGS)
async def change_post(request: Asked, post_id: FromPath[str]) -> Response[wire.Post]:
    """Change one's own post; what is left out stays."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(post_id, "post_id")
    form = await read(request, bodies.PostPatch)
    given: dict[str, Any] = {
        name: value for name, value in asdict(form).items() if value is not UNSET
    }
    edited = await program.posts.edit(viewer, key, PostChanges(**given), expected_version(request))
    view = await program.posts.get(viewer, key)
    return versioned(request, wire.post(view), edited.system_version)


@delete("/v1/posts/{post_id:str}", summary="Remove a post", tags=TAGS)
async def remove_post(request: Asked, post_id: FromPath[str], reason: FromQuery[str] = "") -> None:
    """Remove one's own post; a moderator or an operator may remove others and says why."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(post_id, "post_id")
    await program.posts.remove(viewer, key, reason, expected_version(request))


HANDLERS = [write_post, list_posts, get_post, change_post, remove_post]
