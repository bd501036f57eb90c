"""Coming in and going out."""

from typing import Annotated

from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.params import QueryParameter

from millrace.community.types import Role, Viewer, parse_key, program
from millrace.kernel.errors import (
    BannedError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthenticatedError,
)
from millrace.web.asked import Asked, Form, form_of, go, known_viewer, page, program_of
from millrace.web.forms import said
from millrace.web.local import local_path
from millrace.web.people import people_of
from millrace.web.shell import renderer, shell_of

SESSION_COOKIE = "millrace_session"
DEMO_COOKIE = "millrace_demo"
"""Says that the sign-in page made the session's token, so that signing out revokes it."""
DEMO_MEMBERS = 120  # as many can be found
DEMO_AT_FIRST = 16  # and as many are shown before anybody searches
COOKIE_BYTES_MAX = 3_800  # browsers drop a cookie of more than 4,096 bytes, and say nothing
VISITOR = program("sign-in")
Text = Annotated[str, QueryParameter(max_length=2000)]


@get("/sign-in", include_in_schema=False)
async def sign_in_form(
    request: Asked, next_path: Annotated[str, QueryParameter(name="next")] = "/", find: Text = ""
) -> Response[str] | Response[None]:
    """Show how to sign in; who already is goes where they wanted."""
    wanted = local_path(next_path)
    if known_viewer(request) is not None and not find:
        return go(wanted)
    return await _show(request, wanted, find=find, error=await _shut_out(request))


async def _shut_out(request: Asked) -> str:
    """Return what a banned member is told, instead of only being asked to sign in again."""
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token or known_viewer(request) is not None:
        return ""
    try:
        await program_of(request).identity.authenticate(token)
    except BannedError as error:
        return said(error)
    except UnauthenticatedError:  # the session only ended
        return ""
    return ""


async def _show(
    request: Asked, wanted: str, *, find: str = "", error: str = "", status: int = 200
) -> Response[str]:
    made = program_of(request)
    people = []
    if made.settings.door.demo:
        members = await made.members.sample(DEMO_MEMBERS)
        communities = {one.community_id: one.name for one in await made.communities.list(VISITOR)}
        people = people_of(members, communities, find)
    content = renderer().text(
        "sign_in.html",
        shell=shell_of(request, None),
        people=people,
        at_first=DEMO_AT_FIRST,
        find=find,
        next=wanted,
        error=error,
        expired=not error and (wanted != "/" or bool(request.cookies.get(SESSION_COOKIE))),
    )
    return page(content, status=status)


@post("/sign-in", include_in_schema=False)
async def sign_in(request: Asked) -> Response[str] | Response[None]:
    """Begin a session: as a member of the demonstration, or with a token."""
    form = await form_of(request)
    wanted = local_path(form.text("next"))
    try:
        if form.text("member"):
            return await _as_member(request, form, wanted)
        return await _with_token(request, form, wanted)
    except UnauthenticatedError as error:
        return await _show(request, wanted, error=said(error), status=401)
    except (ForbiddenError, InvalidError, NotFoundError) as error:
        return await _show(request, wanted, error=said(error), status=422)


async def _as_member(request: Asked, form: Form, wanted: str) -> Response[None]:
    """Sign in without proof, which only a demonstration allows.

    Raises:
        ForbiddenError: this is no demonstration.
    """
    made = program_of(request)
    config = made.settings.door
    if not config.demo:
        raise ForbiddenError(
            "signing in by a click is only possible in a demonstration",
            field="member",
            limit="door.demo = true",
            next_step="sign in with a token",
        )
    member = await made.members.get(VISITOR, parse_key(form.text("member"), "member"))
    issued = await made.identity.issue(f"member:{member.key}", config.session_seconds)
    answer = go(wanted)
    answer.cookies.extend(
        [_cookie(request, SESSION_COOKIE, issued.token), _cookie(request, DEMO_COOKIE, "1")]
    )
    return answer


async def _with_token(request: Asked, form: Form, wanted: str) -> Response[None]:
    """Keep a token that holds as the session.

    Raises:
        InvalidError: there is no token, or it does not fit into a cookie.
        ForbiddenError: it is that of a program.
    """
    token = form.text("token").removeprefix("Bearer ").strip()
    if not token or len(token.encode()) > COOKIE_BYTES_MAX:
        raise InvalidError(
            "the token is missing" if not token else f"the token has {len(token)} characters",
            field="token",
            limit=COOKIE_BYTES_MAX,
            next_step="paste the whole token that was printed, and nothing else",
        )
    viewer = await program_of(request).identity.authenticate(token)
    if viewer.role is Role.FLAG_READER:
        raise ForbiddenError(
            "a flag reader is a program, for which there are no pages",
            field="token",
            limit="the token of a person",
            next_step="sign in with a token of your own",
        )
    answer = go(wanted)
    answer.cookies.extend(
        [_cookie(request, SESSION_COOKIE, token), _cookie(request, DEMO_COOKIE, "")]
    )
    return answer


@post("/sign-out", include_in_schema=False)
async def sign_out(request: Asked) -> Response[None]:
    """End the session. A token of one's own is only forgotten; a demonstration's is revoked."""
    viewer = known_viewer(request)
    if viewer is not None and request.cookies.get(DEMO_COOKIE):
        await _revoke(request, viewer)
    answer = go("/sign-in")
    answer.cookies.extend([_cookie(request, SESSION_COOKIE, ""), _cookie(request, DEMO_COOKIE, "")])
    return answer


async def _revoke(request: Asked, viewer: Viewer) -> None:
    identity = program_of(request).identity
    try:
        token_id = await identity.token_id(request.cookies.get(SESSION_COOKIE, ""))
    except UnauthenticatedError:  # it ended between the gate and here: nothing is left to end
        return
    await identity.revoke(token_id, viewer.name, "signed out", subject=viewer.name)


def _cookie(request: Asked, name: str, value: str) -> Cookie:
    """Return a cookie that scripts cannot read; without a value it is dropped."""
    config = program_of(request).settings.door
    return Cookie(
        key=name,
        value=value,
        path="/",
        max_age=config.session_seconds if value else 0,
        httponly=True,
        secure=config.public_url.lower().startswith("https://"),
        samesite="lax",
    )
