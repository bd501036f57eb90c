"""The rings of each track: how many are in which, who by name and by which rule, and why."""

from asyncio import gather
from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from millrace.community.types import Key, Member
from millrace.kernel.errors import ConflictError, InvalidError, MillraceError, NotFoundError
from millrace.release.flags.entries import rule_key
from millrace.release.flags.rings import TRACKS, standing_rule
from millrace.release.flags.types import RINGS, Choice, Ring, RingEntry, RingRule
from millrace.web.asked import Asked, Form, form_of, go, program_of
from millrace.web.cases import named, query_of
from millrace.web.flag_asked import doer_of, flags_of, member_called
from millrace.web.flag_forms import RING_LABELS
from millrace.web.flag_rules import listed, percentage_of
from millrace.web.forms import number_of, said
from millrace.web.ring_views import (
    RADII,
    RingCard,
    RingFacts,
    RuleFields,
    TrailLine,
    TypedRing,
    entry_line,
    inside_counts,
    ring_card,
    rule_lines,
    trail_line,
)
from millrace.web.shell import drawn, shell_for

TRAIL_SIZE = 20
NAMES_MAX = 100  # members by name that are shown of a ring
DONE = {"in": "Put in.", "out": "Taken out.", "rule": "The rule is saved."}
Text = Annotated[str, QueryParameter(max_length=60)]


class Explained(Struct, frozen=True):
    """In which ring a member is, what decided it, ring by ring, and what was done about them."""

    sentence: str
    steps: list[str]
    trail: list[TrailLine]


class RefusedRing(Struct, frozen=True):
    """A press that was refused: of which ring, why, and what was typed."""

    ring: Ring
    error: str
    typed: TypedRing


@get("/rings", include_in_schema=False)
async def show_rings(
    request: Asked, track: Text = "", member: Text = "", done: Text = ""
) -> Response[str]:
    """Show the rings of a track; with a member, also which of them they are in and why."""
    return await _show(request, track or "server", member=member.strip(), done=done)


async def _show(
    request: Asked,
    track: str,
    *,
    member: str = "",
    done: str = "",
    refused: RefusedRing | None = None,
) -> Response[str]:
    track = track if track in TRACKS else "server"
    shell, waiting, cards = await gather(
        shell_for(request, "flags"), flags_of(request).waiting(), _cards(request, track, refused)
    )
    explained, error = None, refused.error if refused else ""
    if member:
        try:
            explained = await _explained(request, track, await member_called(request, member))
        except (ConflictError, InvalidError, NotFoundError) as wrong:
            error = said(wrong)
    return drawn(
        "rings.html",
        shell,
        status=422 if error else 200,
        track=track,
        tracks=TRACKS,
        circles=list(reversed(RADII)),
        rings=cards,
        asked=member,
        explained=explained,
        waiting=waiting,
        done=DONE.get(done, ""),
        error=error,
    )


async def _explained(request: Asked, track: str, member: Member) -> Explained:
    """Say in which ring a member is, why, and what was done about it."""
    flags, now = flags_of(request), program_of(request).clock.now()
    found = flags.ring_explain(track, member.key)
    done = await flags.ring_history(member.key, TRAIL_SIZE)
    steps = [
        f"{RING_LABELS[step.ring]}: {'in' if step.inside else 'not in'}, {step.because}."
        for step in found.steps
    ]
    sentence = found.sentence.replace(str(member.key), f"{member.display_name} ({member.key})", 1)
    return Explained(sentence, steps, [trail_line(one, now) for one in done])


async def _cards(request: Asked, track: str, refused: RefusedRing | None) -> list[RingCard]:
    flags = flags_of(request)
    rules, counts, named = await gather(
        flags.ring_rules(), flags.ring_counts(track), flags.ring_entry_counts(track)
    )
    entries = [await flags.ring_entries(track, ring, NAMES_MAX) for ring in RINGS]
    names = await _names(request, [one for of_ring in entries for one in of_ring])
    ruled = [await flags.history(rule_key(track, ring), TRAIL_SIZE, None) for ring in RINGS]
    now, inside = program_of(request).clock.now(), inside_counts(counts)
    return [
        ring_card(
            RingFacts(
                ring=ring,
                rule=standing_rule(rules, track, ring),
                entries=[entry_line(one, names, now) for one in of_ring],
                named=sum(many for (where, _), many in named.items() if where is ring),
                members=inside[ring],
                everybody=inside[Ring.EVERYONE],
                past=rule_lines(past, now),
                typed=refused.typed if refused and refused.ring is ring else None,
            )
        )
        for ring, of_ring, past in zip(RINGS, entries, ruled, strict=True)
    ]


async def _names(request: Asked, entries: list[RingEntry]) -> dict[Key, str]:
    """Return what people call those who are in rings by name; who is gone has none."""
    keys = list({entry.member for entry in entries})
    return {one.key: named(one) for one in await program_of(request).members.several(keys)}


@post("/rings/{track:str}/{ring:str}", include_in_schema=False)
async def change_ring(
    request: Asked, track: FromPath[str], ring: FromPath[str]
) -> Response[str] | Response[None]:
    """Put a member in, take one out, or write the rule; what does not go is said, and stays typed."""
    form, wanted = await form_of(request), ring_named(ring)
    try:
        done = await _changed(request, track, wanted, form)
    except (ConflictError, InvalidError, NotFoundError) as error:
        return await _show(request, track, refused=_refused(wanted, form, error))
    return go(f"/rings{query_of(track=track, done=done)}#ring-{wanted.value}")


def _refused(ring: Ring, form: Form, error: MillraceError) -> RefusedRing:
    if form.text("do") == "rule":
        names = ("attribute", "values", "percentage", "reason")
        typed = TypedRing(rule=RuleFields(**{name: form.text(name) for name in names}))
    else:
        typed = TypedRing(member=form.text("member"), reason=form.text("reason"))
    return RefusedRing(ring, said(error), typed)


async def _changed(request: Asked, track: str, ring: Ring, form: Form) -> str:
    """Do what the pressed button says; return what was done.

    Raises:
        InvalidError: it says nothing.

    Passes on:
        NotFoundError: there is no such member.
        ConflictError: somebody else changed the rule meanwhile.
    """
    flags, actor, reason = flags_of(request), doer_of(request), form.text("reason")
    match form.text("do"):
        case "add" | "drop" as do:
            entry = RingEntry(
                track=track,
                ring=ring,
                member=(await member_called(request, form.text("member"))).key,
                choice=Choice.LISTED,
                actor=actor.name,
                at=program_of(request).clock.now(),
            )
            if do == "add":
                await flags.ring_put(entry, reason=reason)
                return "in"
            await flags.ring_remove(entry, reason=reason)
            return "out"
        case "rule":
            await flags.ring_rule_put(_rule(track, ring, form), actor=actor, reason=reason)
            return "rule"
        case other:
            raise InvalidError(
                f"{other[:40]!r} is nothing to do about a ring",
                field="do",
                value=other[:40],
                limit="add, drop, rule",
                next_step="press one of the buttons",
            )


def _rule(track: str, ring: Ring, form: Form) -> RingRule:
    """Read the rule of a ring.

    Passes on:
        InvalidError: the percentage or the version is no number.
    """
    percentage, version = form.text("percentage"), form.text("version")
    return RingRule(
        track=track,
        ring=ring,
        attribute=form.text("attribute"),
        values=listed(form.text("values")),
        percentage=percentage_of(percentage) if percentage else 0.0,
        version=number_of(version, "version") if version else 0,
    )


def ring_named(name: str) -> Ring:
    """Read the name of a ring.

    Raises:
        NotFoundError: there is no such ring.
    """
    if name not in list(Ring):
        raise NotFoundError(
            f"there is no ring {name[:40]!r}",
            field="ring",
            value=name[:40],
            limit=", ".join(Ring),
            next_step="use one of the five",
        )
    return Ring(name)
