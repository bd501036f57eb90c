"""Members and their profiles."""

from typing import Annotated, Any

from litestar import Response, delete, get, patch
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import UNSET
from msgspec.structs import asdict

from millrace.api import bodies, wire
from millrace.api.asked import Asked, number_of, program_of, read, viewer_of
from millrace.api.paging import LIMIT_DEFAULT, LIMIT_MAX, cursor_at, place_in
from millrace.api.versions import expected_version, versioned
from millrace.community.types import ProfileChanges, parse_key

TAGS = ["members"]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]


@get("/v1/members", summary="The members of a community", tags=TAGS)
async def list_members(
    request: Asked,
    community_id: FromQuery[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.Member]:
    """List members by id, oldest id first."""
    program, viewer = program_of(request), viewer_of(request)
    number = number_of(community_id, "community_id")
    listed = f"members:{number}"
    after = int(place_in(program.secret, listed, cursor) or 0)
    found = await program.members.list(viewer, number, after=after, limit=limit)
    more = len(found) >= limit
    following = cursor_at(program.secret, listed, str(found[-1].member_id)) if more else ""
    return wire.Page([wire.member(one, viewer) for one in found], following)


@get("/v1/members/{member_id:str}", summary="One member", tags=TAGS)
async def get_member(request: Asked, member_id: FromPath[str]) -> Response[wire.Member]:
    """Read a profile with the member's numbers and what stands between the two."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(member_id, "member_id")
    found = await program.members.profile(viewer, key)
    return versioned(request, wire.profile(found, viewer), found.member.system_version)


@patch("/v1/members/{member_id:str}", summary="Change a profile", tags=TAGS)
async def change_member(request: Asked, member_id: FromPath[str]) -> Response[wire.Member]:
    """Change one's own profile; what is left out stays."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(member_id, "member_id")
    form = await read(request, bodies.ProfilePatch)
    given: dict[str, Any] = {
        name: value for name, value in asdict(form).items() if value is not UNSET
    }
    expected = expected_version(request)
    found = await program.members.update(viewer, key, ProfileChanges(**given), expected)
    counts = await program.members.counts(key)
    return versioned(request, wire.member(found, viewer, counts), found.system_version)


@delete("/v1/members/{member_id:str}", summary="Remove a member", tags=TAGS)
async def remove_member(
    request: Asked, member_id: FromPath[str], reason: FromQuery[str] = ""
) -> None:
    """Remove oneself; a moderator or an operator may remove others and says why."""
    program, viewer = program_of(request), viewer_of(request)
    key = parse_key(member_id, "member_id")
    await program.members.remove(viewer, key, reason, expected_version(request))


HANDLERS = [list_members, get_member, change_member, remove_member]
