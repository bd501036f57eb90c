"""What stands around every page: who is signed in, the theme, the version."""

from asyncio import gather
from functools import cache
from importlib.metadata import version

from litestar import Response
from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import Key, Role, Viewer
from millrace.web.asked import Asked, page, program_of, viewer_of
from millrace.web.assets import Assets
from millrace.web.face import Face, face_of
from millrace.web.render import Renderer
from millrace.wiring import Program

THEME_COOKIE = "millrace_theme"
THEMES = frozenset({"light", "dark"})


class Me(Struct, frozen=True, kw_only=True):
    """Who is signed in. An operator has a name and no key.

    community: the home community; empty for who is no member.
    reads, moderates, releases, operates: which rooms of the page are open to them. It only decides
        what is shown: the gate and the rooms decide what is allowed.
    office: what somebody who is no member is here for.
    """

    name: str
    face: Face
    key: str = ""
    community: str = ""
    community_id: int = 0
    reads: bool = True
    moderates: bool = False
    releases: bool = False
    operates: bool = False
    office: str = "Operator"


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
    here: which entry of the navigation this page belongs to; empty for none.
    query: what the search box holds.
    """

    theme: str
    demo: bool
    version: str
    now: str
    me: Me | None
    here: str = ""
    query: str = ""

    @property
    def member(self) -> Me | None:
        """Return who is signed in, if it is a member: who writes, likes and follows."""
        return self.me if self.me and self.me.key else None


@cache
def assets() -> Assets:
    """Return the static files, read at the first call."""
    return Assets()


@cache
def renderer() -> Renderer:
    """Return the templates, compiled as they are first used."""
    return Renderer(assets())


def shell_of(request: Asked, me: Me | None, *, here: str = "", query: str = "") -> Shell:
    """Return what stands around this page."""
    program = program_of(request)
    theme = request.cookies.get(THEME_COOKIE, "")
    return Shell(
        theme=theme if theme in THEMES else "",
        demo=program.settings.door.demo,
        version=version("millrace"),
        now=program.clock.now().isoformat(timespec="milliseconds"),
        me=me,
        here=here,
        query=query,
    )


async def shell_for(request: Asked, here: str = "", query: str = "") -> Shell:
    """Read who is signed in, and return what stands around this page.

    Passes on:
        UnauthenticatedError: nobody is signed in.
    """
    program, viewer = program_of(request), viewer_of(request)
    me = me_of(viewer, None)
    if viewer.member is not None:
        member, community = await gather(
            program.members.get(viewer, viewer.member),
            program.communities.get(viewer, viewer.member.community_id),
        )
        me = replace(
            me,
            name=member.display_name or member.handle,
            face=face_of(member),
            community=community.name,
        )
    return shell_of(request, me, here=here, query=query)


def drawn(template: str, shell: Shell, *, status: int = 200, **values: object) -> Response[str]:
    """Answer with a template filled; `me` in it is the member who looks, if it is one."""
    values.setdefault("me", shell.member)
    return page(renderer().text(template, shell=shell, **values), status=status)


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
    home = viewer.member
    return Me(
        name=panel.name if panel else viewer.name.partition(":")[2] or viewer.name,
        face=panel.face
        if panel
        else Face("RM" if viewer.role is Role.RELEASE_MANAGER else "OP", 9),
        key="" if home is None else str(home),
        community=panel.community if panel else "",
        community_id=0 if home is None else home.community_id,
        reads=viewer.role not in {Role.RELEASE_MANAGER, Role.FLAG_READER},
        moderates=viewer.oversees or viewer.role is Role.MODERATOR,
        releases=viewer.oversees or viewer.role is Role.RELEASE_MANAGER,
        operates=viewer.oversees,
        office="Release manager" if viewer.role is Role.RELEASE_MANAGER else "Operator",
    )
