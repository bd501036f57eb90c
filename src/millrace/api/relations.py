"""Whom a member follows, blocks and mutes. Each pair is written out: a route is easy to find."""

from typing import Annotated

from litestar import delete, get, put
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT

from millrace.api import wire
from millrace.api.asked import Asked, program_of, viewer_of
from millrace.api.paging import LIMIT_DEFAULT, LIMIT_MAX, cursor_at, place_in
from millrace.community.types import Key, Viewer, parse_key
from millrace.wiring import Program

TAGS = ["relations"]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]


def _own(request: Asked, member_id: str) -> tuple[Program, Viewer]:
    """Return the caller, who is the member of the path."""
    viewer = viewer_of(request)
    assert str(viewer.member) == member_id, "scope `own` made sure"
    return program_of(request), viewer


def _target(target_id: str) -> Key:
    return parse_key(target_id, "target_id")


async def _page(
    request: Asked, member_id: str, kind: str, limit: int, cursor: str
) -> wire.Page[wire.MemberCard]:
    program, viewer = _own(request, member_id)
    listed = f"{kind}:{viewer.member}"
    place = place_in(program.secret, listed, cursor)
    after = parse_key(place) if place else None
    found = await program.relations.list(viewer, kind, after=after, limit=limit)
    more = len(found) >= limit
    following = cursor_at(program.secret, listed, str(found[-1].key)) if more else ""
    return wire.Page([wire.member_card(one) for one in found], following)


async def _open_page(
    request: Asked, member_id: str, kind: str, limit: int, cursor: str
) -> wire.Page[wire.MemberCard]:
    """Return a page that whoever may meet the member may read."""
    program, viewer = program_of(request), viewer_of(request)
    of = parse_key(member_id, "member_id")
    listed = f"{kind}:{of}"
    place = place_in(program.secret, listed, cursor)
    after = parse_key(place) if place else None
    found = await program.relations.list(viewer, kind, after=after, limit=limit, of=of)
    more = len(found) >= limit
    following = cursor_at(program.secret, listed, str(found[-1].key)) if more else ""
    return wire.Page([wire.member_card(one) for one in found], following)


@get("/v1/members/{member_id:str}/follows", summary="Whom a member follows", tags=TAGS)
async def list_follows(
    request: Asked,
    member_id: FromPath[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.MemberCard]:
    """List whom a member follows, of those whom the caller may meet."""
    return await _open_page(request, member_id, "follows", limit, cursor)


@get("/v1/members/{member_id:str}/followers", summary="Who follows a member", tags=TAGS)
async def list_followers(
    request: Asked,
    member_id: FromPath[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.MemberCard]:
    """List who follows a member, of those whom the caller may meet."""
    return await _open_page(request, member_id, "followers", limit, cursor)


@put(
    "/v1/members/{member_id:str}/follows/{target_id:str}",
    summary="Follow a member",
    tags=TAGS,
    status_code=HTTP_204_NO_CONTENT,
)
async def follow(request: Asked, member_id: FromPath[str], target_id: FromPath[str]) -> None:
    """Follow a member; following twice changes nothing."""
    program, viewer = _own(request, member_id)
    await program.relations.follow(viewer, _target(target_id))


@delete("/v1/members/{member_id:str}/follows/{target_id:str}", summary="Stop following", tags=TAGS)
async def unfollow(request: Asked, member_id: FromPath[str], target_id: FromPath[str]) -> None:
    """Stop following a member."""
    program, viewer = _own(request, member_id)
    await program.relations.unfollow(viewer, _target(target_id))


@get("/v1/members/{member_id:str}/blocks", summary="Whom a member blocks", tags=TAGS)
async def list_blocks(
    request: Asked,
    member_id: FromPath[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.MemberCard]:
    """List whom the member blocks."""
    return await _page(request, member_id, "blocks", limit, cursor)


@put(
    "/v1/members/{member_id:str}/blocks/{target_id:str}",
    summary="Block a member",
    tags=TAGS,
    status_code=HTTP_204_NO_CONTENT,
)
async def block(request: Asked, member_id: FromPath[str], target_id: FromPath[str]) -> None:
    """Block a member: neither sees the other any more."""
    program, viewer = _own(request, member_id)
    await program.relations.block(viewer, _target(target_id))


@delete("/v1/members/{member_id:str}/blocks/{target_id:str}", summary="Unblock", tags=TAGS)
async def unblock(request: Asked, member_id: FromPath[str], target_id: FromPath[str]) -> None:
    """Take a block back."""
    program, viewer = _own(request, member_id)
    await program.relations.unblock(viewer, _target(target_id))


@get("/v1/members/{member_id:str}/mutes", summary="Whom a member mutes", tags=TAGS)
async def list_mutes(
    request: Asked,
    member_id: FromPath[str],
    limit: Limit = LIMIT_DEFAULT,
    cursor: FromQuery[str] = "",
) -> wire.Page[wire.MemberCard]:
    """List whom the member mutes."""
    return await _page(request, member_id, "mutes", limit, cursor)


@put(
    "/v1/members/{member_id:str}/mutes/{target_id:str}",
    summary="Mute a member",
    tags=TAGS,
    status_code=HTTP_204_NO_CONTENT,
)
async def mute(request: Asked, member_id: FromPath[str], target_id: FromPath[str]) -> None:
    """Mute a member: their posts leave one's feed, and they do not learn of it."""
    program, viewer = _own(request, member_id)
    await program.relations.mute(viewer, _target(target_id))


@delete("/v1/members/{member_id:str}/mutes/{target_id:str}", summary="Unmute", tags=TAGS)
async def unmute(request: Asked, member_id: FromPath[str], target_id: FromPath[str]) -> None:
    """Take a mute back."""
    program, viewer = _own(request, member_id)
    await program.relations.unmute(viewer, _target(target_id))


HANDLERS = [
    list_follows, list_followers, follow, unfollow, list_blocks, block, unblock, list_mutes, mute, unmute,
]  # fmt: skip
