"""Server-sent events: what arrives for a member while a page is open."""

from datetime import UTC, datetime, timedelta

from litestar import get
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from millrace.api.asked import Asked, program_of, viewer_of
from millrace.api.auth import token_of
from millrace.api.errors import MalformedError
from millrace.api.listeners import Listeners
from millrace.community.types import parse_key
from millrace.kernel.errors import MillraceError, UnavailableError

MEDIA_TYPE = "text/event-stream"
BACK_MAX = timedelta(hours=24)
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


@get(
    "/v1/members/{member_id:str}/events",
    summary="What arrives, as server-sent events",
    tags=["feed"],
    media_type=MEDIA_TYPE,
)
async def listen(
    request: Asked,
    member_id: FromPath[str],
    since: FromQuery[datetime | None] = None,
    post_id: FromQuery[str | None] = None,
) -> Stream:
    """Stream `newer` events: how many posts by others became visible since a page was loaded.

    `since` is when that was, now by default and at most a day back; Last-Event-ID wins over it.
    With `post_id` stream `thread` events instead: something came under that post.
    """
    program, key = program_of(request), parse_key(member_id, "member_id")
    listeners: Listeners = request.app.state.listeners
    listeners.expect_room(key)
    identity, token = program.identity, token_of(request.headers) or ""
    post = None if post_id is None else parse_key(post_id, "post_id")
    if post is not None:
        await program.posts.get(viewer_of(request), post)

    async def still_good() -> bool:
        try:
            viewer = await identity.authenticate(token)
            if post is not None:
                await program.posts.get(viewer, post)
        except UnavailableError:
            return True  # nobody knows; the next heartbeat asks again
        except MillraceError:
            return False
        return viewer.oversees or viewer.member == key

    now = program.clock.now()
    moment = _since(request.headers.get("last-event-id", ""), since, now)
    told = listeners.stream(key, moment, still_good, post)
    return Stream(told, media_type=MEDIA_TYPE, headers=HEADERS)


def _since(last_event_id: str, since: datetime | None, now: datetime) -> datetime:
    """Return the moment to count from.

    Raises:
        MalformedError: `since` has no time zone.
    """
    found = since or now
    if found.tzinfo is None:
        raise MalformedError(
            f"since {found.isoformat()} has no time zone",
            field="since",
            value=found.isoformat(),
            limit="a date and time with a time zone, as in RFC 3339",
            next_step="send for example 2026-05-01T00:00:00Z",
        )
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 13:
        found = datetime.fromtimestamp(int(last_event_id) / 1000, UTC)
    return min(max(found, now - BACK_MAX), now)


HANDLERS = [listen]
