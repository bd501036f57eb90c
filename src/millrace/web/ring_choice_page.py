"""What a member gets early: entering and leaving alpha and beta, track by track."""

from litestar import Response, get, post

from millrace.community.types import Key
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.release.flags.rings import TRACKS, WISHED
from millrace.release.flags.types import Choice, RingEntry
from millrace.web.asked import Asked, form_of, go, program_of, viewer_of
from millrace.web.flag_asked import flags_of
from millrace.web.forms import said
from millrace.web.member_page import member_asking
from millrace.web.ring_page import ring_named
from millrace.web.ring_views import TRACK_LABELS, EarlyTrack, early_rings
from millrace.web.shell import drawn, shell_for

OWN_REASON = "own wish, on the page of early versions"
WISHES = {"enter": Choice.OPTED_IN, "leave": Choice.OPTED_OUT, "forget": Choice.OPTED_OUT}
DONE = {
    "forget": "Your wish is forgotten.",
    "enter": "You are in. It takes effect with the next thing that is decided for you.",
    "leave": "You are out. It takes effect with the next thing that is decided for you.",
}
FIRST = ("server", *(track for track in TRACKS if track != "server"))


@get("/profile/early", include_in_schema=False)
async def show_early(request: Asked) -> Response[str]:
    """Show what the member gets early, and what they may choose."""
    return await _show(request, done=DONE.get(request.query_params.get("done", ""), ""))


async def _show(request: Asked, *, done: str = "", error: str = "") -> Response[str]:
    me = member_asking(viewer_of(request))
    return drawn(
        "early.html",
        await shell_for(request),
        status=422 if error else 200,
        tracks=await _tracks(request, me),
        done=done,
        error=error,
    )


async def _tracks(request: Asked, me: Key) -> list[EarlyTrack]:
    flags, offered = flags_of(request), program_of(request).settings.flags.opt_in_rings
    entries = await flags.ring_entries_of(me)
    tracks: list[EarlyTrack] = []
    for track in FIRST:
        found = flags.ring_explain(track, me)
        own = {one.ring: one.choice for one in entries if one.track == track}
        inside = {step.ring: step.inside for step in found.steps}
        rings = early_rings(inside, own, offered)
        tracks.append(EarlyTrack(track=track, label=TRACK_LABELS[track], rings=rings))
    return tracks


@post("/profile/early", include_in_schema=False)
async def choose_early(request: Asked) -> Response[str] | Response[None]:
    """Enter or leave a ring by one's own wish, or take the wish back."""
    form = await form_of(request)
    wish = form.text("do")
    try:
        entry = RingEntry(
            track=form.text("track"),
            ring=ring_named(form.text("ring")),
            member=member_asking(viewer_of(request)),
            choice=_choice(wish),
            actor=viewer_of(request).name,
            at=program_of(request).clock.now(),
        )
        if wish == "forget":
            await flags_of(request).ring_remove(entry, reason=OWN_REASON)
        else:
            await flags_of(request).ring_put(entry, reason=OWN_REASON)
    except (ConflictError, ForbiddenError, InvalidError) as error:
        return await _show(request, error=said(error))
    return go(f"/profile/early?done={wish}")


def _choice(wish: str) -> Choice:
    """Read what is wished.

    Raises:
        InvalidError: it is none of what a member can wish.
    """
    if wish not in WISHES:
        raise InvalidError(
            f"{wish[:40]!r} is no wish about {' or '.join(WISHED)}",
            field="do",
            value=wish[:40],
            limit=", ".join(WISHES),
            next_step="press one of the buttons",
        )
    return WISHES[wish]
