"""Search: posts, members, communities."""

from asyncio import gather
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import FromQuery, QueryParameter
from msgspec import Struct

from millrace.api import wire, wire_search
from millrace.api.asked import Asked, aware, number_of, program_of, viewer_of
from millrace.api.paging import LIMIT_DEFAULT, LIMIT_MAX, PageAsked, cursor_at, page_asked, place_in
from millrace.community.asked_words import QUERY_MAX
from millrace.community.search import Place, PostQuery
from millrace.community.types import WORD_MAX, Key, PostKind, parse_key

TAGS = ["search"]
BOX_SIZE = 5
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Words = Annotated[str, QueryParameter(min_length=1, max_length=QUERY_MAX)]
Topic = Annotated[str | None, QueryParameter(max_length=WORD_MAX)]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]


@get("/v1/search", summary="The best of everything", tags=TAGS)
async def search(request: Asked, q: Words) -> wire_search.Found:
    """Find a few posts, members and communities, for a search box."""
    found, viewer = program_of(request).search, viewer_of(request)
    posts, people, places = await gather(
        found.posts(viewer, PostQuery(text=q), limit=BOX_SIZE),
        found.members(viewer, q, limit=BOX_SIZE),
        found.communities(viewer, q, limit=BOX_SIZE),
    )
    return wire_search.Found(
        posts=[wire_search.post_hit(one) for one in posts.hits],
        members=[wire.member_card(one) for one in people.members],
        communities=[wire.a_community(one) for one in places],
    )


class PostFilter(Struct, frozen=True):
    """Among which posts a search looks; None does not filter."""

    community_id: int | None
    author: Key | None
    kind: PostKind | None
    topic: str | None
    since: datetime | None


def post_filter(
    community_id: FromQuery[str | None] = None,
    author_id: FromQuery[str | None] = None,
    kind: FromQuery[PostKind | None] = None,
    topic: Topic = None,
    since: FromQuery[datetime | None] = None,
) -> PostFilter:
    """Read the parameters that narrow a search for posts."""
    return PostFilter(
        None if community_id is None else number_of(community_id, "community_id"),
        None if author_id is None else parse_key(author_id, "author_id"),
        kind,
        topic,
        None if since is None else aware(since, "since"),
    )


@get(
    "/v1/search/posts",
    summary="Find posts",
    tags=TAGS,
    dependencies={
        "among": Provide(post_filter, sync_to_thread=False),
        "page": Provide(page_asked, sync_to_thread=False),
    },
)
async def search_posts(
    request: Asked, q: Words, among: NamedDependency[PostFilter], page: NamedDependency[PageAsked]
) -> wire.Page[wire_search.PostHit]:
    """Find posts by their words, best first; quotes keep words together, a minus excludes."""
    program, viewer = program_of(request), viewer_of(request)
    query = PostQuery(
        text=q,
        community_id=among.community_id,
        author=among.author,
        kind=among.kind,
        topic=among.topic,
        since=among.since,
    )
    listed = f"search:{query}"
    place = place_in(program.secret, listed, page.cursor)
    found = await program.search.posts(viewer, query, _read(place), page.limit)
    following = cursor_at(program.secret, listed, _written(found.after)) if found.after else ""
    return wire.Page([wire_search.post_hit(one) for one in found.hits], following)


@get("/v1/search/members", summary="Find members", tags=TAGS)
async def search_members(
    request: Asked,
    q: Words,
    community_id: FromQuery[str | None] = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.MemberCard]:
    """Find members by name, handle, headline and skills; beginnings of words are enough.

    Members of other communities are found by whole words of their names only.
    """
    program, viewer = program_of(request), viewer_of(request)
    community = None if community_id is None else number_of(community_id, "community_id")
    listed = f"search-members:{community}:{q}"
    place = place_in(program.secret, listed, cursor)
    found = await program.search.members(viewer, q, community, _read(place), limit)
    following = cursor_at(program.secret, listed, _written(found.after)) if found.after else ""
    return wire.Page([wire.member_card(one) for one in found.members], following)


@get("/v1/search/communities", summary="Find communities", tags=TAGS)
async def search_communities(
    request: Asked, q: Words, limit: Limit = LIMIT_DEFAULT
) -> wire.Page[wire.Community]:
    """Find communities by name, place and description. There are few, so there is one page."""
    found = await program_of(request).search.communities(viewer_of(request), q, limit)
    return wire.Page([wire.a_community(one) for one in found], "")


def _written(place: Place) -> str:
    """Write a place into a cursor: microseconds, score, key."""
    microseconds = (place.asked_at - EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}:{place.score}:{place.key}"


def _read(text: str | None) -> Place | None:
    """Read a place from a cursor that was found to be ours."""
    if not text:
        return None
    microseconds, score, key = text.split(":")
    return Place(EPOCH + timedelta(microseconds=int(microseconds)), int(score), parse_key(key))


HANDLERS = [search, search_posts, search_members, search_communities]
