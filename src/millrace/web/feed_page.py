"""The feed: the page, more of it, and what came meanwhile."""

from typing import Annotated
from urllib.parse import urlencode

from litestar import Response, get
from litestar.params import QueryParameter
from msgspec import Struct

from millrace.community.types import Key, Role, Viewer, parse_key
from millrace.feed.types import App, FeedPage
from millrace.kernel.errors import ForbiddenError, InvalidError, NotFoundError
from millrace.web.asked import Asked, go, page, program_of, viewer_of, wants_fragment
from millrace.web.cards import Card, card_of, fed_card
from millrace.web.forms import ComposeForm
from millrace.web.listing import LIST_SIZE, before_of, card_list
from millrace.web.shell import drawn, me_of, panel_of, renderer, shell_for, shell_of

PAGE_SIZE = 20
HERE = App(platform="web")
NEWER_MAX = 50  # posts that are put on top at once; a reload brings the rest
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
    found = await program.feed.page(
        me, limit=PAGE_SIZE, cursor=cursor, token=viewer.token, app=HERE
    )
    now = program.clock.now()
    cards = [fed_card(item, me, now) for item in found.items]
    return feed_view(found, cards, cursor=cursor, divided=divided)


@get("/", include_in_schema=False)
async def home(
    request: Asked,
    cursor: Cursor = "",
    seen: Cursor = "",
    posted: Cursor = "",
    removed: Cursor = "",
) -> Response[str] | Response[None]:
    """Show a member their feed, an operator the newest posts; send a release manager to the flags."""
    viewer = viewer_of(request)
    if viewer.role is Role.RELEASE_MANAGER:
        return go("/flags")
    if viewer.member is None:
        return await _newest(request, viewer, cursor)
    program, me = program_of(request), viewer.member
    feed = await _served(request, me, cursor, bool(seen))
    panel = await panel_of(program, viewer, me)
    content = renderer().text(
        "feed.html",
        shell=shell_of(request, me_of(viewer, panel), here="feed"),
        me=panel,
        feed=feed,
        compose=ComposeForm(),
        posted=await _just_posted(request, me, posted) if posted else None,
        removed=bool(removed),
    )
    return page(content)


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
    found = await program.posts.newest(
        viewer, None, None, before=before_of(cursor), limit=LIST_SIZE
    )
    posts = card_list(found, None, program.clock.now(), "/", cursor)
    if wants_fragment(request):
        return page(renderer().text("_list.html", list=posts, me=None))
    return drawn("newest.html", await shell_for(request, "feed"), list=posts)


@get("/feed/more", include_in_schema=False)
async def more(request: Asked, cursor: Cursor, seen: Cursor = "") -> Response[str]:
    """Return the next cards alone; the module puts them under the others."""
    viewer = viewer_of(request)
    feed = await _served(request, _member(viewer), cursor, bool(seen))
    return page(renderer().text("_cards.html", feed=feed, me=viewer.member))


@get("/feed/newer", include_in_schema=False)
async def newer(request: Asked, posts: Cursor) -> Response[str]:
    """Return the cards of posts that came while the page was open; the module puts them on top.

    They are shown as written, newest first, and take their ranked place when the page is opened
    again. Whom the member muted is left out, as in the feed.
    """
    program, viewer = program_of(request), viewer_of(request)
    me = _member(viewer)
    keys = [parse_key(text, "posts") for text in posts.split(",")[:NEWER_MAX]]
    views = await program.posts.views(viewer, keys)
    hidden = (await program.relations.of(me, viewer.token)).hidden
    now = program.clock.now()
    cards = [card_of(view, me, now) for view in views if view.post.author not in hidden]
    cards.sort(key=lambda card: card.when.machine, reverse=True)
    return page(renderer().text("_newer.html", cards=cards, me=me))


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
