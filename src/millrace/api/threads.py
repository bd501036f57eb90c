"""Comments and likes."""

from typing import Annotated

from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT

from millrace.api import bodies, wire
from millrace.api.asked import Asked, program_of, read, viewer_of
from millrace.api.paging import LIMIT_DEFAULT, LIMIT_MAX, cursor_at, place_in
from millrace.community.types import parse_key

Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]


@get("/v1/posts/{post_id:str}/comments", summary="A post's thread", tags=["comments"])
async def list_comments(
    request: Asked,
    post_id: FromPath[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.Comment]:
    """List the comments of a post in the order of writing."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(post_id, "post_id")
    listed = f"comments:{key}"
    after = int(place_in(program.secret, listed, cursor) or 0)
    found = await program.threads.thread(viewer, key, after=after, limit=limit)
    more = len(found) >= limit
    last = str(found[-1].comment.comment_id) if more else ""
    following = cursor_at(program.secret, listed, last) if more else ""
    return wire.Page([wire.comment(one.comment, one.author) for one in found], following)


@post("/v1/posts/{post_id:str}/comments", summary="Write a comment", tags=["comments"])
async def write_comment(request: Asked, post_id: FromPath[str]) -> wire.Comment:
    """Comment on a post, or answer one of its comments."""
    program, viewer = program_of(request), viewer_of(request)
    form = await read(request, bodies.CommentNew)
    parent = None if form.parent_id is None else parse_key(form.parent_id, "parent_id")
    key = parse_key(post_id, "post_id")
    written = await program.threads.comment(viewer, key, form.text, parent)
    assert viewer.member is not None, "scope `author` made sure"
    return wire.comment(written, await program.members.get(viewer, viewer.member))


@delete("/v1/comments/{comment_id:str}", summary="Remove a comment", tags=["comments"])
async def remove_comment(
    request: Asked, comment_id: FromPath[str], reason: FromQuery[str] = ""
) -> None:
    """Remove one's own comment; a moderator or an operator may remove others."""
    key = parse_key(comment_id, "comment_id")
    await program_of(request).threads.remove(viewer_of(request), key, reason)


@put(
    "/v1/posts/{post_id:str}/reactions/like",
    summary="Like a post",
    tags=["reactions"],
    status_code=HTTP_204_NO_CONTENT,
)
async def like(request: Asked, post_id: FromPath[str]) -> None:
    """Like a post; liking twice changes nothing."""
    await program_of(request).reactions.like(viewer_of(request), parse_key(post_id, "post_id"))


@delete("/v1/posts/{post_id:str}/reactions/like", summary="Take a like back", tags=["reactions"])
async def unlike(request: Asked, post_id: FromPath[str]) -> None:
    """Take a like back; taking back what is not there changes nothing."""
    await program_of(request).reactions.unlike(viewer_of(request), parse_key(post_id, "post_id"))


HANDLERS = [list_comments, write_comment, remove_comment, like, unlike]
