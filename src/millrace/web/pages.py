"""Every handler of this room, and the files that the pages load."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from millrace.web import (
    community_page,
    compose_page,
    feed_page,
    flag_edit_page,
    flag_list_page,
    flag_page,
    flag_request_page,
    flag_turn_page,
    member_page,
    moderation_page,
    operator_page,
    post_page,
    report_page,
    ring_choice_page,
    ring_page,
    search_page,
    sign_in,
    trail_page,
    why_page,
)
from millrace.web.asked import Asked
from millrace.web.shell import assets

YEAR = "public, max-age=31536000, immutable"
REVALIDATE = "public, no-cache"


def handlers() -> list[HTTPRouteHandler]:
    """Return the handlers; `api.app` mounts them behind its gate, with a row each."""
    return [
        feed_page.home,
        feed_page.more,
        feed_page.newer,
        compose_page.compose_form,
        compose_page.compose,
        compose_page.edit_form,
        compose_page.edit,
        compose_page.remove,
        post_page.show_post,
        post_page.show_thread,
        post_page.comment,
        post_page.remove_comment,
        member_page.show_member,
        member_page.profile_page,
        member_page.save_profile,
        community_page.show_communities,
        community_page.show_community,
        community_page.show_people,
        search_page.show_search,
        report_page.report_form,
        report_page.report,
        moderation_page.show_queue,
        moderation_page.show_case,
        moderation_page.show_thing,
        moderation_page.judge,
        trail_page.show_trail,
        trail_page.show_notices,
        operator_page.show_operator,
        why_page.show_why,
        flag_list_page.show_flags,
        flag_edit_page.new_flag,
        flag_edit_page.make_flag,
        flag_page.show_flag,
        flag_edit_page.edit_flag,
        flag_edit_page.change_flag,
        flag_page.kill,
        flag_page.revive,
        flag_turn_page.ramp,
        flag_turn_page.revert,
        flag_page.remove,
        flag_request_page.show_requests,
        flag_request_page.decide,
        ring_page.show_rings,
        ring_page.change_ring,
        ring_choice_page.show_early,
        ring_choice_page.choose_early,
        sign_in.sign_in_form,
        sign_in.sign_in,
        sign_in.sign_out,
        static_file,
    ]


@get("/static/{path:str}", include_in_schema=False)
async def static_file(
    request: Asked, path: FromPath[str], v: FromQuery[str] = ""
) -> Response[bytes]:
    """Serve a file. An address with the file's own version may be kept for ever."""
    found = assets().get(path)
    headers = {
        "cache-control": YEAR if v == found.version else REVALIDATE,
        "etag": f'"{found.version}"',
    }
    if request.headers.get("if-none-match") == f'"{found.version}"':
        return Response(b"", status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
