"""Every handler of this room, and the files that the pages load."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from millrace.web import feed_page, post_page, sign_in, why_page
from millrace.web.asked import Asked
from millrace.web.shell import assets

YEAR = "public, max-age=31536000, immutable"
REVALIDATE = "public, no-cache"


def handlers() -> list[HTTPRouteHandler]:
    """Return the handlers; `api.app` mounts them behind its gate, with a row each."""
    return [
        feed_page.home,
        feed_page.more,
        feed_page.compose,
        post_page.show_post,
        post_page.comment,
        why_page.show_why,
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
