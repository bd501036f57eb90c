"""Who asks, and the communities."""

from litestar import get
from litestar.params import FromPath

from millrace.api import wire
from millrace.api.asked import Asked, number_of, program_of, viewer_of


@get("/v1/me", summary="Who the token says is asking", tags=["about"])
async def me(request: Asked) -> wire.Me:
    """Tell the caller what the token says of them."""
    viewer = viewer_of(request)
    member = None if viewer.member is None else str(viewer.member)
    return wire.Me(name=viewer.name, role=viewer.role, member_id=member)


@get("/v1/communities", summary="Every community", tags=["communities"])
async def list_communities(request: Asked) -> wire.Page[wire.Community]:
    """List the communities by name. There are few, so there is one page."""
    found = await program_of(request).communities.list(viewer_of(request))
    return wire.Page([wire.a_community(one) for one in found], "")


@get("/v1/communities/{community_id:str}", summary="One community", tags=["communities"])
async def get_community(request: Asked, community_id: FromPath[str]) -> wire.Community:
    """Read one community."""
    number = number_of(community_id, "community_id")
    return wire.a_community(await program_of(request).communities.get(viewer_of(request), number))


HANDLERS = [me, list_communities, get_community]
