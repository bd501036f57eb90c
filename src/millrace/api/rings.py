"""Rings over REST: who is in which, by whom and why, and what members choose for themselves."""

from typing import Annotated

from litestar import delete, get, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from millrace.api import bodies_flags, wire, wire_flags
from millrace.api.asked import Asked, program_of, read
from millrace.api.flags import Why, by_whom, flags_of
from millrace.api.paging import PageAsked, cursor_at, page_asked, place_in
from millrace.api.versions import expected_version
from millrace.community.types import parse_key
from millrace.community.types import program as program_viewer
from millrace.release.flags.limits import expect_track
from millrace.release.flags.rings import default_rule
from millrace.release.flags.types import RINGS, Choice, Ring, RingEntry, RingRule

TAGS = ["rings"]
RING = "/v1/rings/{track:str}/{ring:str}"
OWN = "/v1/members/{member_id:str}/rings"
ENTRY = f"{RING}/entries/{{member_id:str}}"
Track = Annotated[str, QueryParameter(max_length=40)]
OWN_WISH = "own wish"


def _entry(
    request: Asked, place: tuple[str, Ring, str], choice: Choice = Choice.LISTED
) -> RingEntry:
    """Return an entry as the caller would write it now."""
    track, ring, member_id = place
    return RingEntry(
        track=track,
        ring=ring,
        member=parse_key(member_id, "member_id"),
        choice=choice,
        actor=by_whom(request).name,
        at=program_of(request).clock.now(),
    )


@get("/v1/rings/{track:str}", summary="The rings of a track", tags=TAGS)
async def get_rings(request: Asked, track: FromPath[str]) -> wire_flags.RingTrack:
    """Read the rings of a track from the inside out, with their rules and how many are in each."""
    flags = flags_of(request)
    expect_track(track)
    rules = {rule.ring: rule for rule in await flags.ring_rules() if rule.track == track}
    rules.setdefault(Ring.ONE_PERCENT, default_rule(track))
    innermost = await flags.ring_counts(track)
    circles: list[wire_flags.RingCircle] = []
    members = 0
    for ring in RINGS:
        members += innermost.get(ring, 0)
        rule = wire_flags.rule(rules.get(ring, RingRule(track=track, ring=ring)))
        circles.append(wire_flags.RingCircle(ring=ring, members=members, rule=rule))
    return wire_flags.RingTrack(track=track, rings=circles)


@get("/v1/rings/{track:str}/explain", summary="Why a member is in a ring", tags=TAGS)
async def explain_ring(
    request: Asked, track: FromPath[str], member_id: FromQuery[str]
) -> wire_flags.RingExplanation:
    """Tell the innermost ring of a member, in a sentence and ring by ring."""
    program, key = program_of(request), parse_key(member_id, "member_id")
    await program.members.get(program_viewer(), key)
    return wire_flags.explanation(program.flags.ring_explain(track, key))


@get(
    f"{RING}/entries",
    summary="Who is in a ring by name",
    tags=TAGS,
    dependencies={"page": Provide(page_asked, sync_to_thread=False)},
)
async def list_entries(
    request: Asked, track: FromPath[str], ring: FromPath[Ring], page: NamedDependency[PageAsked]
) -> wire.Page[wire_flags.RingEntry]:
    """List those who are in a ring by name, and those who are out of it by their own wish."""
    program = program_of(request)
    listed = f"ring_entries:{track}:{ring}"
    place = place_in(program.secret, listed, page.cursor)
    after = parse_key(place) if place else None
    found = await program.flags.ring_entries(track, ring, page.limit, after)
    more = len(found) >= page.limit
    following = cursor_at(program.secret, listed, str(found[-1].member)) if more else ""
    return wire.Page([wire_flags.entry(one) for one in found], following)


@get(
    f"{RING}/members",
    summary="Who is in a ring",
    tags=TAGS,
    dependencies={"page": Provide(page_asked, sync_to_thread=False)},
)
async def list_members(
    request: Asked, track: FromPath[str], ring: FromPath[Ring], page: NamedDependency[PageAsked]
) -> wire.Page[wire_flags.RingMember]:
    """List those who are in a ring by whatever way, and those of the rings inside it."""
    program = program_of(request)
    expect_track(track)
    listed = f"ring_members:{track}:{ring}"
    place = place_in(program.secret, listed, page.cursor)
    after = parse_key(place) if place else None
    found = await program.flags.ring_members(track, ring, page.limit, after)
    more = len(found) >= page.limit
    following = cursor_at(program.secret, listed, str(found[-1])) if more else ""
    items = [
        wire_flags.RingMember(member_id=str(key), ring=program.flags.ring_explain(track, key).ring)
        for key in found
    ]
    return wire.Page(items, following)


@put(ENTRY, summary="List a member", tags=TAGS, status_code=200)
async def put_entry(
    request: Asked, track: FromPath[str], ring: FromPath[Ring], member_id: FromPath[str]
) -> wire_flags.RingEntry:
    """Put a member into a ring by name."""
    form = await read(request, bodies_flags.EntryPut)
    entry = _entry(request, (track, ring, member_id))
    return wire_flags.entry(await flags_of(request).ring_put(entry, reason=form.reason))


@delete(ENTRY, summary="Take a member from a list", tags=TAGS)
async def remove_entry(
    request: Asked,
    track: FromPath[str],
    ring: FromPath[Ring],
    member_id: FromPath[str],
    reason: Why,
) -> None:
    """Take away that a member is in a ring by name, or out of it; twice changes nothing more."""
    entry = _entry(request, (track, ring, member_id))
    await flags_of(request).ring_remove(entry, reason=reason)


@put(f"{RING}/rule", summary="Write the rule of a ring", tags=TAGS, status_code=200)
async def put_rule(
    request: Asked, track: FromPath[str], ring: FromPath[Ring]
) -> wire_flags.RingRule:
    """Write who else is in a ring. If-Match names the version that it was made from."""
    form = await read(request, bodies_flags.RulePut)
    rule = RingRule(
        track=track,
        ring=ring,
        attribute=form.attribute,
        values=tuple(form.values),
        percentage=form.percentage,
        version=expected_version(request) or 0,
    )
    made = await flags_of(request).ring_rule_put(rule, actor=by_whom(request), reason=form.reason)
    return wire_flags.rule(made)


# -------------------------------------------------------------------------- what members choose


@get(OWN, summary="The rings of a member", tags=TAGS)
async def get_own_rings(
    request: Asked, member_id: FromPath[str], track: Track = "server"
) -> wire_flags.OwnRings:
    """Tell the rings of a member on a track, and which they may enter and leave by themselves."""
    flags, key = flags_of(request), parse_key(member_id, "member_id")
    found = flags.ring_explain(track, key)
    entries = [one for one in await flags.ring_entries_of(key) if one.track == track]
    return wire_flags.OwnRings(
        track=track,
        explanation=wire_flags.explanation(found),
        choices=[wire_flags.entry(one) for one in entries],
        open_rings=list(flags.config.opt_in_rings),
    )


@put(
    f"{OWN}/{{track:str}}/{{ring:str}}", summary="Enter or leave a ring", tags=TAGS, status_code=200
)
async def choose_ring(
    request: Asked, member_id: FromPath[str], track: FromPath[str], ring: FromPath[Ring]
) -> wire_flags.RingEntry:
    """Enter a ring that is open to members, or leave one; who is listed by name stays."""
    form = await read(request, bodies_flags.RingChoice)
    entry = _entry(request, (track, ring, member_id), Choice(form.choice))
    return wire_flags.entry(await flags_of(request).ring_put(entry, reason=OWN_WISH))


@delete(f"{OWN}/{{track:str}}/{{ring:str}}", summary="Take a choice back", tags=TAGS)
async def forget_choice(
    request: Asked, member_id: FromPath[str], track: FromPath[str], ring: FromPath[Ring]
) -> None:
    """Take an own choice back; what a list or a rule says holds again."""
    entry = _entry(request, (track, ring, member_id), Choice.OPTED_OUT)  # as a wish
    await flags_of(request).ring_remove(entry, reason=OWN_WISH)


HANDLERS = [
    get_rings, explain_ring, list_entries, list_members, put_entry, remove_entry, put_rule, get_own_rings,
    choose_ring, forget_choice,
]  # fmt: skip
