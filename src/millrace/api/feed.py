"""A member's feed, and why a post is in it or not."""

from datetime import datetime
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter

from millrace.api import wire, wire_outcomes
from millrace.api.asked import Asked, aware, program_of, viewer_of
from millrace.api.errors import MalformedError
from millrace.community.types import parse_key
from millrace.feed.types import LIMIT_MAX, App
from millrace.release.flags import semver

TAGS = ["feed"]
LIMIT_DEFAULT = 20
VERSION_HEADER = "Millrace-App-Version"
PLATFORM_HEADER, COUNTRY_HEADER = "Millrace-Platform", "Millrace-Country"


def app_of(
    version: Annotated[str, HeaderParameter(name=VERSION_HEADER, max_length=60)] = "",
    platform: Annotated[
        str, HeaderParameter(name=PLATFORM_HEADER, pattern=r"^([a-z][a-z0-9_.-]{0,19})?$")
    ] = "",
    country: Annotated[str, HeaderParameter(name=COUNTRY_HEADER, pattern=r"^([A-Z]{2})?$")] = "",
) -> App:
    """Return the app that asks, as its headers say; flags may go by it.

    Raises:
        MalformedError: the version is no semantic version.
    """
    if version and semver.parsed(version) is None:
        raise MalformedError(
            f"the header {VERSION_HEADER} is {version[:60]!r}, which is no version",
            field=VERSION_HEADER,
            value=version[:60],
            limit="a semantic version of at most 60 characters",
            next_step="write it like 9.2.0, or leave it out",
        )
    return App(version, platform, country)


@get(
    "/v1/members/{member_id:str}/feed",
    summary="A member's feed",
    tags=TAGS,
    dependencies={"app": Provide(app_of, sync_to_thread=False)},
)
async def get_feed(
    request: Asked,
    member_id: FromPath[str],
    app: NamedDependency[App],
    limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    cursor: Annotated[str, QueryParameter(max_length=2000)] = "",
    surface: Annotated[str, QueryParameter(max_length=40)] = "feed",
) -> wire.FeedPage:
    """Serve one page of the feed; a page is ranked when the first one is asked for."""
    viewer = viewer_of(request)
    page = await program_of(request).feed.page(
        parse_key(member_id, "member_id"),
        surface=surface,
        limit=limit,
        cursor=cursor,
        token=viewer.token,
        app=app,
    )
    return wire.feed_page(page, full=viewer.oversees)


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


@get(
    "/v1/flags/{key:str}/outcomes",
    summary="What members did, by variant",
    tags=["flags"],
)
async def get_outcomes(
    request: Asked,
    key: FromPath[str],
    since: FromQuery[datetime | None] = None,
    until: FromQuery[datetime | None] = None,
) -> wire_outcomes.Outcomes:
    """Cut the feed's metrics by the variants of one flag, over the last week or a period."""
    found = await program_of(request).feed.outcomes(
        key,
        since=None if since is None else aware(since, "since"),
        until=None if until is None else aware(until, "until"),
    )
    return wire_outcomes.outcomes(found)


HANDLERS = [get_feed, get_why, get_outcomes]
