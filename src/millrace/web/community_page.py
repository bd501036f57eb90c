"""The communities: all of them, one with what is new, and its people."""

from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import Annotated

from litestar import Response, get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from millrace.community.communities import CommunitySize, Surroundings
from millrace.community.types import Community, Viewer, parse_key
from millrace.web.asked import Asked, page, program_of, viewer_of, wants_fragment
from millrace.web.face import Face, initials_of
from millrace.web.forms import number_of
from millrace.web.listing import LIST_SIZE, CardList, before_of, card_list
from millrace.web.profiles import Neighbour, language_name, month_of, neighbours_of
from millrace.web.shell import drawn, renderer, shell_for
from millrace.web.text import Body, body_of

PEOPLE_SIZE = 60
HUES = 10
Text = Annotated[str, QueryParameter(max_length=60)]


class Place(Struct, frozen=True, kw_only=True):
    """A community in a list. `home`: the viewer's own."""

    id: int
    name: str
    description: str
    place: str
    face: Face
    members: int
    posts: int
    home: bool


class CommunityView(Struct, frozen=True, kw_only=True):
    """A community's page. `open`: the viewer may list its members."""

    place: Place
    about: Body
    language: str
    since: str
    moderators: list[Neighbour]
    near: list[Place]
    reached: list[Place]
    open: bool


def places_of(
    communities: Sequence[Community], sizes: Mapping[int, CommunitySize], home: int
) -> list[Place]:
    """Make a list of communities, the viewer's own first."""
    found = [_place(one, sizes, home) for one in communities]
    return sorted(found, key=lambda one: not one.home)


def community_view(
    found: Community, around: Surroundings, sizes: Mapping[int, CommunitySize], viewer: Viewer
) -> CommunityView:
    """Make a community's page."""
    home = viewer.member.community_id if viewer.member else 0
    return CommunityView(
        place=_place(found, sizes, home),
        about=body_of(found.description),
        language=language_name(found.language),
        since=month_of(found.created_at),
        moderators=neighbours_of(around.moderators),
        near=[_place(one, sizes, home) for one in around.near],
        reached=[_place(one, sizes, home) for one in around.reached],
        open=viewer.oversees or home == found.community_id,
    )


def _place(found: Community, sizes: Mapping[int, CommunitySize], home: int) -> Place:
    size = sizes.get(found.community_id)
    return Place(
        id=found.community_id,
        name=found.name,
        description=found.description,
        place=found.place,
        face=Face(initials_of(found.name), found.community_id % HUES),
        members=size.members if size else 0,
        posts=size.posts if size else 0,
        home=found.community_id == home,
    )


@get("/communities", include_in_schema=False)
async def show_communities(request: Asked) -> Response[str]:
    """List every community."""
    program, viewer = program_of(request), viewer_of(request)
    shell, found, sizes = await gather(
        shell_for(request, "communities"),
        program.communities.list(viewer),
        program.communities.sizes(viewer),
    )
    home = viewer.member.community_id if viewer.member else 0
    return drawn("communities.html", shell, places=places_of(found, sizes, home))


@get("/communities/{community_id:str}", include_in_schema=False)
async def show_community(
    request: Asked, community_id: FromPath[str], cursor: Text = ""
) -> Response[str]:
    """Show one community with its newest posts."""
    number = number_of(community_id)
    posts = await _newest(request, number, cursor)
    if wants_fragment(request):
        return page(renderer().text("_list.html", list=posts, me=viewer_of(request).member))
    shell, view = await gather(shell_for(request, "communities"), _view(request, number))
    return drawn("community.html", shell, view=view, list=posts)


async def _newest(request: Asked, number: int, cursor: str) -> CardList:
    program, viewer = program_of(request), viewer_of(request)
    found = await program.posts.newest(
        viewer, number, None, before=before_of(cursor), limit=LIST_SIZE
    )
    path = f"/communities/{number}"
    return card_list(found, viewer.member, program.clock.now(), path, cursor)


async def _view(request: Asked, number: int) -> CommunityView:
    program, viewer = program_of(request), viewer_of(request)
    found, around, sizes = await gather(
        program.communities.get(viewer, number),
        program.communities.surroundings(viewer, number),
        program.communities.sizes(viewer),
    )
    return community_view(found, around, sizes, viewer)


@get("/communities/{community_id:str}/members", include_in_schema=False)
async def show_people(
    request: Asked, community_id: FromPath[str], cursor: Text = ""
) -> Response[str]:
    """List the members of one's own community."""
    program, viewer, number = program_of(request), viewer_of(request), number_of(community_id)
    after = parse_key(cursor, "cursor").id if cursor else 0
    shell, view, members = await gather(
        shell_for(request, "communities"),
        _view(request, number),
        program.members.list(viewer, number, after=after, limit=PEOPLE_SIZE),
    )
    standing = [one for one in members if one.removed_at is None]
    more = f"?cursor={members[-1].key}" if len(members) == PEOPLE_SIZE else ""
    return drawn("people.html", shell, view=view, people=neighbours_of(standing), more=more)
