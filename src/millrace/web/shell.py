"""What stands around every page: who is signed in, the theme, the version."""

from asyncio import gather
from functools import cache
from importlib.metadata import version

from msgspec import Struct

from millrace.community.types import Key, Viewer
from millrace.web.asked import Asked, program_of
from millrace.web.assets import Assets
from millrace.web.face import Face, face_of
from millrace.web.render import Renderer
from millrace.wiring import Program

THEME_COOKIE = "millrace_theme"
THEMES = frozenset({"light", "dark"})


class Me(Struct, frozen=True, kw_only=True):
    """Who is signed in. An operator has a name and no key."""

    name: str
    face: Face
    key: str = ""


class MyPanel(Struct, frozen=True, kw_only=True):
    """The member's own panel beside the feed, and above the form of a new post."""

    key: str
    name: str
    headline: str
    face: Face
    community: str
    posts: int
    followers: int
    likes: int


class Shell(Struct, frozen=True, kw_only=True):
    """What every page knows.

    theme: `light` or `dark` as chosen, empty to follow the system.
    now: the server's time, so that a wrong clock in the browser does no harm.
    me: None where nobody is signed in.
    """

    theme: str
    demo: bool
    version: str
    now: str
    me: Me | None


@cache
def assets() -> Assets:
    """Return the static files, read at the first call."""
    return Assets()


@cache
def renderer() -> Renderer:
    """Return the templates, compiled as they are first used."""
    return Renderer(assets())


def shell_of(request: Asked, me: Me | None) -> Shell:
    """Return what stands around this page."""
    program = program_of(request)
    theme = request.cookies.get(THEME_COOKIE, "")
    return Shell(
        theme=theme if theme in THEMES else "",
        demo=program.settings.door.demo,
        version=version("millrace"),
        now=program.clock.now().isoformat(timespec="milliseconds"),
        me=me,
    )


def plain_shell() -> Shell:
    """Return what stands around a page that knows nothing of its reader."""
    return Shell(theme="", demo=False, version=version("millrace"), now="", me=None)


async def panel_of(program: Program, viewer: Viewer, key: Key) -> MyPanel:
    """Read what the member's own panel shows."""
    member, counts, community = await gather(
        program.members.get(viewer, key),
        program.members.counts(key),
        program.communities.get(viewer, key.community_id),
    )
    return MyPanel(
        key=str(key),
        name=member.display_name or member.handle,
        headline=member.headline,
        face=face_of(member),
        community=community.name,
        posts=counts.posts,
        followers=counts.followers,
        likes=counts.likes,
    )


def me_of(viewer: Viewer, panel: MyPanel | None) -> Me:
    """Return who is signed in, for the bar."""
    if panel is not None:
        return Me(name=panel.name, face=panel.face, key=panel.key)
    return Me(name=viewer.name, face=Face("OP", 9))
