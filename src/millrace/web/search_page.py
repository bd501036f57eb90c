"""Search: posts, members and communities, with what matched made visible."""

from asyncio import gather
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter
from msgspec import Struct

from millrace.community.asked_words import QUERY_MAX, Marked
from millrace.community.communities import CommunitySize
from millrace.community.search import GAP, Place, PostHit, PostQuery
from millrace.community.types import Community, Key, PostKind, Viewer, parse_key
from millrace.kernel.errors import InvalidError, UnavailableError
from millrace.web.asked import Asked, program_of, viewer_of
from millrace.web.cards import KIND_LABELS
from millrace.web.cases import query_of
from millrace.web.community_page import Place as CommunityPlace
from millrace.web.community_page import places_of
from millrace.web.face import Face, face_of
from millrace.web.forms import number_of, said
from millrace.web.profiles import Neighbour, neighbours_of
from millrace.web.shell import drawn, shell_for
from millrace.web.when import When, when_of

SIZE = 20
POSTS, MEMBERS, COMMUNITIES = "posts", "members", "communities"
LISTS = ((POSTS, "Posts"), (MEMBERS, "People"), (COMMUNITIES, "Communities"))
SINCE = {"day": (1, "Last day"), "week": (7, "Last week"), "month": (31, "Last month"),
         "year": (366, "Last year")}  # fmt: skip
Text = Annotated[str, QueryParameter(max_length=QUERY_MAX)]


class Stretch(Struct, frozen=True):
    """A run of text. `hit`: it is what was searched for."""

    text: str
    hit: bool = False


class PostLine(Struct, frozen=True, kw_only=True):
    """A post that was found."""

    key: str
    title: list[Stretch]
    excerpt: list[Stretch]
    kind: str
    kind_label: str
    author: str
    author_key: str
    face: Face
    community: str
    when: When
    likes: int
    comments: int


class SearchForm(Struct, frozen=True, kw_only=True):
    """What is searched for, and where; and what is wrong with it.

    found_by: which list is shown.
    """

    query: str = ""
    found_by: str = POSTS
    community: str = ""
    kind: str = ""
    since: str = ""
    error: str = ""
    lists: tuple[tuple[str, str], ...] = LISTS
    kinds: tuple[tuple[str, str], ...] = tuple(
        (kind.value, label) for kind, label in KIND_LABELS.items()
    )
    sinces: tuple[tuple[str, str], ...] = tuple(
        (value, label) for value, (_, label) in SINCE.items()
    )

    @property
    def filtered(self) -> bool:
        """Whether a filter leaves something out."""
        return bool(self.community or self.kind or self.since)

    def address(self, found_by: str, after: str = "") -> str:
        """Return the address of the same search in a list, behind a place."""
        posts = found_by == POSTS
        return "/search" + query_of(
            q=self.query,
            by=found_by if found_by != POSTS else "",
            community=self.community if found_by != COMMUNITIES else "",
            kind=self.kind if posts else "",
            since=self.since if posts else "",
            after=after,
        )


class Results(Struct, frozen=True, kw_only=True):
    """What was found in the list that is shown. more: the address of the next stretch."""

    posts: list[PostLine] = []
    people: list[Neighbour] = []
    places: list[CommunityPlace] = []
    more: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing was found."""
        return not (self.posts or self.people or self.places)


@get("/search", include_in_schema=False)
async def show_search(
    request: Asked, q: Text = "", by: Text = POSTS, after: Text = ""
) -> Response[str]:
    """Search, and show one list of what was found."""
    asked = request.query_params
    since = asked.get("since", "")
    form = SearchForm(
        query=q.strip(),
        found_by=by if by in dict(LISTS) else POSTS,
        community=asked.get("community", ""),
        kind=asked.get("kind", ""),
        since=since if since in SINCE else "",
    )
    return await _show(request, form, after)


async def _show(request: Asked, form: SearchForm, after: str) -> Response[str]:
    program, viewer = program_of(request), viewer_of(request)
    results, status = None, 200
    shell, communities = await gather(
        shell_for(request, "search", form.query), program.communities.list(viewer)
    )
    if form.query:
        try:
            results = await _found(request, form, after, communities)
        except (InvalidError, UnavailableError) as error:
            status = 422 if isinstance(error, InvalidError) else 503
            form = _with_error(form, said(error))
    return drawn(
        "search.html", shell, status=status, form=form, results=results, communities=communities
    )


async def _found(
    request: Asked, form: SearchForm, after: str, communities: list[Community]
) -> Results:
    viewer, search = viewer_of(request), program_of(request).search
    place = read_place(after)
    home = number_of(form.community) if form.community else None
    if form.found_by == MEMBERS:
        people = await search.members(viewer, form.query, home, place, SIZE)
        more = form.address(MEMBERS, place_text(people.after)) if people.after else ""
        return Results(people=neighbours_of(people.members), more=more)
    if form.found_by == COMMUNITIES:
        places = await search.communities(viewer, form.query, SIZE)
        sizes = await program_of(request).communities.sizes(viewer)
        return Results(places=_places(places, sizes, viewer))
    now = program_of(request).clock.now()
    hits = await search.posts(viewer, post_query(form, now), place, SIZE)
    more = form.address(POSTS, place_text(hits.after)) if hits.after else ""
    return Results(posts=[post_line(hit, now) for hit in hits.hits], more=more)


def _places(
    found: list[Community], sizes: Mapping[int, CommunitySize], viewer: Viewer
) -> list[CommunityPlace]:
    return places_of(found, sizes, viewer.member.community_id if viewer.member else 0)


def post_query(form: SearchForm, now: datetime) -> PostQuery:
    """Read which posts are asked for.

    Raises:
        InvalidError: there is no such kind, or the community is none.
    """
    if form.kind and form.kind not in list(PostKind):
        raise InvalidError(
            f"kind {form.kind[:40]!r} does not exist",
            field="kind",
            value=form.kind[:40],
            limit=", ".join(PostKind),
            next_step="choose one from the list",
        )
    days = SINCE[form.since][0] if form.since else 0
    return PostQuery(
        text=form.query,
        community_id=number_of(form.community) if form.community else None,
        kind=PostKind(form.kind) if form.kind else None,
        since=now - timedelta(days=days) if days else None,
    )


def post_line(hit: PostHit, now: datetime) -> PostLine:
    """Make a line of what was found."""
    post, author = hit.view.post, hit.view.author
    return PostLine(
        key=str(post.key),
        title=stretches(hit.title) or stretches(Marked(post.title, [])),
        excerpt=excerpt_of(hit.excerpt, post.text),
        kind=post.kind.value,
        kind_label=KIND_LABELS[post.kind],
        author=author.display_name or author.handle,
        author_key=str(author.key),
        face=face_of(author),
        community=hit.view.community_name,
        when=when_of(post.created_at, now),
        likes=hit.view.counts.likes,
        comments=hit.view.counts.comments,
    )


def stretches(found: Marked) -> list[Stretch]:
    """Cut a text where it matched. The template escapes every stretch, so it stays text."""
    pieces: list[Stretch] = []
    rest = 0
    for begin, end in found.ranges:
        pieces.append(Stretch(found.text[rest:begin]))
        pieces.append(Stretch(found.text[begin:end], hit=True))
        rest = end
    pieces.append(Stretch(found.text[rest:]))
    return [piece for piece in pieces if piece.text]


def excerpt_of(found: Marked, text: str) -> list[Stretch]:
    """Cut an excerpt where it matched, with dots where words of the text are left out."""
    pieces = stretches(found)
    shown = found.text.split(GAP)
    first, last = text.find(shown[0]), text.rfind(shown[-1])
    if found.text and first >= 0 and _has_words(text[:first]):
        pieces.insert(0, Stretch("… "))
    if found.text and last >= 0 and _has_words(text[last + len(shown[-1]) :]):
        pieces.append(Stretch(" …"))
    return pieces


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def place_text(place: Place) -> str:
    """Write a place into an address; `read_place` reads it again."""
    return f"{int(place.asked_at.timestamp() * 1_000_000)}.{place.score}.{place.key}"


def read_place(text: str) -> Place | None:
    """Read a place from an address.

    Raises:
        InvalidError: it has another form.
    """
    if not text:
        return None
    try:
        moment, score, key = text.split(".")
        asked_at = datetime.fromtimestamp(int(moment) / 1_000_000, UTC)
        return Place(asked_at, int(score), _key(key))
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidError(
            "the place in the results cannot be read",
            field="after",
            value=text[:40],
            next_step="search again",
        ) from exc


def _key(text: str) -> Key:
    return parse_key(text, "after")


def _with_error(form: SearchForm, error: str) -> SearchForm:
    return SearchForm(
        query=form.query,
        found_by=form.found_by,
        community=form.community,
        kind=form.kind,
        since=form.since,
        error=error,
    )
