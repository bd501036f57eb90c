"""The feed: the page, more of it, and the form that writes a post."""

from typing import Annotated
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.params import QueryParameter
from msgspec import Struct

from millrace.community.types import BIGINT_MAX, Key, Viewer, parse_key
from millrace.feed.types import FeedPage
from millrace.kernel.errors import ForbiddenError, InvalidError, NotFoundError
from millrace.web.asked import Asked, form_of, go, page, program_of, viewer_of
from millrace.web.cards import Card, card_of, fed_card
from millrace.web.forms import ComposeForm, compose_of, new_post
from millrace.web.shell import me_of, panel_of, renderer, shell_of

PAGE_SIZE = 20
Cursor = Annotated[str, QueryParameter(max_length=2000)]


class FeedView(Struct, frozen=True, kw_only=True):
    """A page of cards.

    divider: the place of "You are all caught up", before the first seen post; -1 for none.
    more: the query of the next page; empty at the end.
    first: whether nothing stands above these cards.
    """

    cards: list[Card]
    divider: int
    served: str
    more: str
    degraded: list[str]
    first: bool


def feed_view(found: FeedPage, cards: list[Card], *, cursor: str, divided: bool) -> FeedView:
    """Arrange a served page. `divided`: the divider stands on an earlier page already."""
    seen = next((place for place, card in enumerate(cards) if card.seen), -1)
    beyond = divided or seen >= 0
    query = {"cursor": found.next_cursor} | ({"seen": "1"} if beyond else {})
    return FeedView(
        cards=cards,
        divider=-1 if divided else seen,
        served=str(found.served_feed_id),
        more=urlencode(query) if found.next_cursor else "",
        degraded=found.degraded,
        first=not cursor,
    )


async def _served(request: Asked, me: Key, cursor: str, divided: bool) -> FeedView:
    program, viewer = program_of(request), viewer_of(request)
    found = await program.feed.page(me, limit=PAGE_SIZE, cursor=cursor, token=viewer.token)
    now = program.clock.now()
    cards = [fed_card(item, me, now) for item in found.items]
    return feed_view(found, cards, cursor=cursor, divided=divided)


@get("/", include_in_schema=False)
async def home(
    request: Asked, cursor: Cursor = "", seen: Cursor = "", posted: Cursor = ""
) -> Response[str]:
    """Show a member their feed, and an operator the newest posts."""
    viewer = viewer_of(request)
    if viewer.member is None:
        return await _newest(request, viewer, cursor)
    feed = await _served(request, viewer.member, cursor, bool(seen))
    return await _show(request, viewer.member, feed, posted=posted)


async def _show(
    request: Asked,
    me: Key,
    feed: FeedView | None,
    *,
    compose: ComposeForm | None = None,
    posted: str = "",
) -> Response[str]:
    """Show the page. A refused form stands alone: ranking a feed under it would use one up."""
    program, viewer = program_of(request), viewer_of(request)
    panel = await panel_of(program, viewer, me)
    content = renderer().text(
        "feed.html",
        shell=shell_of(request, me_of(viewer, panel)),
        me=panel,
        feed=feed,
        compose=compose or ComposeForm(),
        posted=await _just_posted(request, me, posted) if posted else None,
    )
    return page(content, status=422 if compose else 200)


async def _just_posted(request: Asked, me: Key, posted: str) -> Card | None:
    """Return the post that the member wrote a moment ago, if it is theirs and still there."""
    program = program_of(request)
    try:
        view = await program.posts.get(viewer_of(request), parse_key(posted, "posted"))
    except (InvalidError, NotFoundError):  # an address that was edited or kept: nothing to praise
        return None
    return card_of(view, me, program.clock.now()) if view.post.author == me else None


async def _newest(request: Asked, viewer: Viewer, cursor: str) -> Response[str]:
    """Show an operator the newest posts of every community."""
    program = program_of(request)
    before = parse_key(cursor, "cursor").id if cursor else BIGINT_MAX
    found = await program.posts.newest(viewer, None, None, before=before, limit=PAGE_SIZE)
    now = program.clock.now()
    feed = FeedView(
        cards=[card_of(view, None, now) for view in found],
        divider=-1,
        served="",
        more=urlencode({"cursor": str(found[-1].post.key)}) if len(found) == PAGE_SIZE else "",
        degraded=[],
        first=not cursor,
    )
    shell = shell_of(request, me_of(viewer, None))
    return page(renderer().text("operator.html", shell=shell, me=None, feed=feed))


@get("/feed/more", include_in_schema=False)
async def more(request: Asked, cursor: Cursor, seen: Cursor = "") -> Response[str]:
    """Return the next cards alone; the module puts them under the others."""
    viewer = viewer_of(request)
    feed = await _served(request, _member(viewer), cursor, bool(seen))
    return page(renderer().text("_cards.html", feed=feed, me=viewer.member))


@post("/compose", include_in_schema=False)
async def compose(request: Asked) -> Response[str] | Response[None]:
    """Write a post, and show it above the feed; what is wrong is said beside the text."""
    program, viewer = program_of(request), viewer_of(request)
    me, form = _member(viewer), await form_of(request)
    try:
        written = await program.posts.write(viewer, new_post(form))
    except InvalidError as error:
        return await _show(request, me, None, compose=compose_of(form, error))
    return go(f"/?posted={written.key}")


def _member(viewer: Viewer) -> Key:
    """Return the member who asks.

    Raises:
        ForbiddenError: an operator asks, who has no feed and writes no posts.
    """
    if viewer.member is None:
        raise ForbiddenError(
            f"{viewer.name} is not a member, and only a member has a feed and writes posts",
            value=str(viewer.role),
            limit="a member",
            next_step="sign in as a member",
        )
    return viewer.member
