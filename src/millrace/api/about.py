"""Who asks, and the communities."""

from litestar import get
from litestar.params import FromPath

from millrace.api import wire
from millrace.api.asked import Asked, number_of, program_of, viewer_of
from millrace.community.communities import CommunitySize


@get("/v1/me", summary="Who the token says is asking", tags=["about"])
async def me(request: Asked) -> wire.Me:
    """Tell the caller what the token says of them."""
    viewer = viewer_of(request)
    member = None if viewer.member is None else str(viewer.member)
    return wire.Me(name=viewer.name, role=viewer.role, member_id=member)


@get("/v1/communities", summary="Every community", tags=["communities"])
async def list_communities(request: Asked) -> wire.Page[wire.Community]:
    """List the communities by name, with how large they are. There are few, so there is one page."""
    communities, viewer = program_of(request).communities, viewer_of(request)
    found, sizes = await communities.list(viewer), await communities.sizes(viewer)
    none = CommunitySize(community_id=0, members=0, posts=0)
    items = [wire.a_community(one, sizes.get(one.community_id, none)) for one in found]
    return wire.Page(items, "")


@get("/v1/communities/{community_id:str}", summary="One community", tags=["communities"])
async def get_community(request: Asked, community_id: FromPath[str]) -> wire.Community:
    """Read one community."""
    number = number_of(community_id, "community_id")
    return wire.a_community(await program_of(request).communities.get(viewer_of(request), number))


@get(
    "/v1/communities/{community_id:str}/page", summary="Who is in a community", tags=["communities"]
)
async def get_community_page(request: Asked, community_id: FromPath[str]) -> wire.CommunityPage:
    """Read a community with its size, its moderators, its newest members and what is near it."""
    program, viewer = program_of(request), viewer_of(request)
    number = number_of(community_id, "community_id")
    found = await program.communities.get(viewer, number)
    sizes = await program.communities.sizes(viewer)
    around = await program.communities.surroundings(viewer, number)
    none = CommunitySize(community_id=number, members=0, posts=0)
    return wire.CommunityPage(
        community=wire.a_community(found, sizes.get(number, none)),
        moderators=[wire.member_card(one) for one in around.moderators],
        newest_members=[
            wire.member_card(one) for one in await program.members.newest(viewer, number)
        ],
        sees=[wire.a_community(one) for one in around.near],
        seen_by=[wire.a_community(one) for one in around.reached],
    )


HANDLERS = [me, list_communities, get_community, get_community_page]
