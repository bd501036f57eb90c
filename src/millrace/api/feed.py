"""A member's feed, and why a post is in it or not."""

from typing import Annotated

from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter

from millrace.api import wire
from millrace.api.asked import Asked, program_of, viewer_of
from millrace.community.types import parse_key
from millrace.feed.types import LIMIT_MAX

TAGS = ["feed"]
LIMIT_DEFAULT = 20


@get("/v1/members/{member_id:str}/feed", summary="A member's feed", tags=TAGS)
async def get_feed(
    request: Asked,
    member_id: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    cursor: Annotated[str, QueryParameter(max_length=2000)] = "",
    surface: Annotated[str, QueryParameter(max_length=40)] = "feed",
) -> wire.FeedPage:
    """Serve one page of the feed; a page is ranked when the first one is asked for."""
    page = await program_of(request).feed.page(
        parse_key(member_id, "member_id"),
        surface=surface,
        limit=limit,
        cursor=cursor,
        token=viewer_of(request).token,
    )
    return wire.feed_page(page)


@get("/v1/members/{member_id:str}/why", summary="Why a post, or why not", tags=TAGS)
async def get_why(request: Asked, member_id: FromPath[str], post_id: FromQuery[str]) -> wire.Why:
    """Explain one post to a member in a sentence, to an operator with the whole trace."""
    viewer = viewer_of(request)
    found = await program_of(request).feed.why(
        parse_key(member_id, "member_id"),
        parse_key(post_id, "post_id"),
        token=viewer.token,
        oversees=viewer.oversees,
    )
    return wire.why(found, full=viewer.oversees)


HANDLERS = [get_feed, get_why]
