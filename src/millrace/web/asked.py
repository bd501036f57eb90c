"""What a page asks of its request, and how it answers."""

from typing import Any, TypeAlias, cast
from urllib.parse import quote

from litestar import Request, Response
from msgspec import Struct

from millrace.community.types import Viewer
from millrace.kernel.errors import UnauthenticatedError
from millrace.wiring import Program

Asked: TypeAlias = Request[Any, Any, Any]
HTML = "text/html; charset=utf-8"
KEPT_IN_ADDRESSES = "/%?#&=+:;,@!$'()*[]~"  # what already has its form in an address
FRAGMENT_HEADER = "x-fragment"
VARY = {"vary": "Cookie, X-Fragment"}  # the same address answers differently by these


class Form(Struct, frozen=True):
    """The fields of a form, as text; a field that was not sent is empty."""

    fields: dict[str, str]

    def text(self, name: str) -> str:
        """Return a field without the white space around it."""
        return self.fields.get(name, "").strip()


def program_of(request: Asked) -> Program:
    """Return the program that the application was made for."""
    return cast(Program, request.app.state.program)


def known_viewer(request: Asked) -> Viewer | None:
    """Return who asks, or None on a page that anybody may see."""
    return cast("Viewer | None", request.scope["state"].get("viewer"))


def viewer_of(request: Asked) -> Viewer:
    """Return who asks.

    Raises:
        UnauthenticatedError: nobody is signed in.
    """
    viewer = known_viewer(request)
    if viewer is None:
        raise UnauthenticatedError("nobody is signed in", next_step="sign in")
    return viewer


async def form_of(request: Asked) -> Form:
    """Read the form that was sent; files are no part of any form here."""
    sent = await request.form()
    return Form({name: value for name, value in sent.items() if isinstance(value, str)})


def wants_fragment(request: Asked) -> bool:
    """Whether our own module asks for a part of a page."""
    return FRAGMENT_HEADER in request.headers


def page(content: str, *, status: int = 200) -> Response[str]:
    """Answer with HTML."""
    return Response(content, status_code=status, media_type=HTML, headers=VARY)


def go(path: str) -> Response[None]:
    """Send the browser on with a GET, after a form did its work.

    A header holds no letter beyond Latin-1, and an address none beyond ASCII, so those are quoted.
    """
    address = quote(path, safe=KEPT_IN_ADDRESSES, errors="replace")
    return Response(None, status_code=303, headers={"location": address})
