"""Rings as the pages show them. Pure: no reads, no markup."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from millrace.community.types import Key
from millrace.release.flags import percentages
from millrace.release.flags.rings import WISHED
from millrace.release.flags.types import (
    RINGS,
    Choice,
    FlagChange,
    Ring,
    RingChange,
    RingEntry,
    RingRule,
)
from millrace.web.crowds import exact, share_text
from millrace.web.flag_forms import RING_LABELS
from millrace.web.flag_views import by_whom
from millrace.web.when import When, when_of

RADII = ("14", "34", "56", "80", "106")  # of the circles, from the inside out
ABOUT = {
    Ring.EMPLOYEES: "Whoever works here: they meet everything first.",
    Ring.ALPHA: "A few who like to see what is not finished.",
    Ring.BETA: "Those who try what is nearly finished.",
    Ring.ONE_PERCENT: "A share of all, drawn once and for good.",
    Ring.EVERYONE: "All members. Nobody has to be put in here.",
}
CHOICES = {
    Choice.LISTED: "by name",
    Choice.OPTED_IN: "by their own wish",
    Choice.OPTED_OUT: "out, by their own wish",
}
EARLY = {
    Ring.ALPHA: "What is not finished: new every day, and broken now and then.",
    Ring.BETA: "What is nearly finished, some days before everybody else.",
}
TRACK_LABELS = {
    "server": "The feed and these pages",
    "android": "The app for Android",
    "ios": "The app for iPhone and iPad",
    "desktop": "The app for the desktop",
}


class EntryLine(Struct, frozen=True, kw_only=True):
    """A member who is in a ring, or out of it, by name."""

    key: str
    name: str
    choice: str
    by: str
    when: When


class TrailLine(Struct, frozen=True, kw_only=True):
    """One line of a trail: what was done, by whom, when and why."""

    words: str
    by: str
    when: When
    reason: str


class RuleFields(Struct, frozen=True, kw_only=True):
    """The fields of a ring's rule."""

    attribute: str = ""
    values: str = ""
    percentage: str = ""
    reason: str = ""


class TypedRing(Struct, frozen=True, kw_only=True):
    """What was typed into the forms of a ring, and was refused. rule: None where it was no rule."""

    member: str = ""
    reason: str = ""
    rule: RuleFields | None = None


class RingCard(Struct, frozen=True, kw_only=True):
    """A ring of a track: how many are in it, by which rule, and who by name."""

    ring: str
    label: str
    about: str
    members: str
    share: str
    rule_words: str
    rule: RuleFields
    version: int
    entries: list[EntryLine]
    rest: int
    past: list[TrailLine]
    editable: bool
    open: bool
    typed: TypedRing


class EarlyRing(Struct, frozen=True, kw_only=True):
    """A ring that a member may enter or leave. inside: whether they are in it, `words` says why.

    wishes: what they can wish, as the value of a button and its label.
    """

    ring: str
    label: str
    about: str
    inside: bool
    words: str
    wishes: list[tuple[str, str]]


class EarlyTrack(Struct, frozen=True, kw_only=True):
    """What a member gets early of one track."""

    track: str
    label: str
    rings: list[EarlyRing]


def inside_counts(counts: Mapping[Ring, int]) -> dict[Ring, int]:
    """Return how many are in each ring, from counts by the innermost ring of each member."""
    found: dict[Ring, int] = {}
    before = 0
    for ring in RINGS:
        before += counts.get(ring, 0)
        found[ring] = before
    return found


def rule_words(rule: RingRule | None, ring: Ring) -> str:
    """Say who is in a ring beside those who are in by name."""
    if ring is Ring.EVERYONE:
        return "Every member, and whoever is asked about without a name."
    if rule is None:
        return _only_named(ring)
    parts: list[str] = []
    if rule.attribute:
        parts.append(f"members whose {rule.attribute} is {' or '.join(rule.values)}")
    if rule.percentage:
        parts.append(f"{percentages.in_words(rule.percentage)} of all members")
    if not parts:
        return _only_named(ring)
    words = " and ".join(parts)
    return f"{words[:1].upper()}{words[1:]}."


def _only_named(ring: Ring) -> str:
    inner = "" if ring is RINGS[0] else " and those of the rings inside"
    return f"Nobody but those by name{inner}."


def entry_line(entry: RingEntry, names: Mapping[Key, str], now: datetime) -> EntryLine:
    """Show an entry."""
    return EntryLine(
        key=str(entry.member),
        name=names.get(entry.member, str(entry.member)),
        choice=CHOICES[entry.choice],
        by=_by(entry.actor, entry.member),
        when=when_of(entry.at, now),
    )


def trail_line(change: RingChange, now: datetime) -> TrailLine:
    """Show what was done about a member's place in a ring."""
    where = f"{RING_LABELS[change.ring]} of {change.track}"
    match change.choice:
        case None:
            words = f"Taken off the names of {where}"
        case Choice.LISTED:
            words = f"Put into {where}"
        case Choice.OPTED_IN:
            words = f"Entered {where}"
        case Choice.OPTED_OUT:
            words = f"Left {where}"
    return TrailLine(
        words=words,
        by=_by(change.actor, change.member),
        when=when_of(change.at, now),
        reason=change.reason,
    )


def _by(name: str, member: Key) -> str:
    return "themself" if name == f"member:{member}" else by_whom(name)


def rule_lines(past: Sequence[FlagChange], now: datetime) -> list[TrailLine]:
    """Show the trail of a ring's rule, newest first."""
    return [
        TrailLine(
            words=_rule_was(one.after),
            by=by_whom(one.actor),
            when=when_of(one.at, now),
            reason=one.reason,
        )
        for one in past
    ]


def _rule_was(text: str) -> str:
    rule = msgspec.json.decode(text, type=RingRule)
    return rule_words(rule, rule.ring)


class RingFacts(Struct, frozen=True, kw_only=True):
    """What is known of a ring of a track. named: how many entries there are, shown or not."""

    ring: Ring
    rule: RingRule | None
    entries: list[EntryLine]
    named: int
    members: int
    everybody: int
    past: list[TrailLine]
    typed: TypedRing | None = None


def ring_card(facts: RingFacts) -> RingCard:
    """Show a ring. `typed`: what was refused; its forms stay open then."""
    rule, typed = facts.rule, facts.typed or TypedRing()
    return RingCard(
        ring=facts.ring.value,
        label=RING_LABELS[facts.ring],
        about=ABOUT[facts.ring],
        members=exact(facts.members),
        share=share_text(facts.members, facts.everybody),
        rule_words=rule_words(rule, facts.ring),
        rule=typed.rule or _fields(rule),
        version=rule.version if rule else 0,
        entries=facts.entries,
        rest=max(0, facts.named - len(facts.entries)),
        past=facts.past,
        editable=facts.ring is not Ring.EVERYONE,
        open=facts.typed is not None,
        typed=typed,
    )


def _fields(rule: RingRule | None) -> RuleFields:
    if rule is None:
        return RuleFields()
    percent = percentages.in_words(rule.percentage).removesuffix(" %")
    return RuleFields(
        attribute=rule.attribute,
        values=", ".join(rule.values),
        percentage="" if percent == "0" else percent,
    )


def early_rings(
    inside: Mapping[Ring, bool], own: Mapping[Ring, Choice], offered: Sequence[Ring]
) -> list[EarlyRing]:
    """Show alpha and beta to a member.

    Args:
        inside: whether they are in each ring.
        own: what they are in each ring by name.
        offered: the rings that members may enter.
    """
    return [_early_ring(ring, inside[ring], own, ring in offered) for ring in WISHED]


def _early_ring(ring: Ring, inside: bool, own: Mapping[Ring, Choice], offered: bool) -> EarlyRing:
    wish = own.get(ring)
    inner = RINGS[: RINGS.index(ring) + 1]
    listed = any(own.get(one) is Choice.LISTED for one in inner)
    wishes: list[tuple[str, str]] = []
    if wish is Choice.OPTED_OUT and not offered:
        wishes = [("forget", "Let chance decide again")]
    elif not listed and (inside or (wish is None and not offered)):
        wishes = [("leave", "Leave" if inside else "Stay out")]
    elif not inside and offered:
        wishes = [("enter", "Join")]
    if listed:
        words = "A release manager put you in, and can take you out."
    elif inside:
        words = "You wanted to be in." if wish is Choice.OPTED_IN else "You are among its first."
    elif wish is Choice.OPTED_OUT:
        words = "You wanted to stay out."
    else:
        words = "" if offered else "Nobody enters by themselves; now and then somebody is chosen."
    return EarlyRing(
        ring=ring.value,
        label=RING_LABELS[ring],
        about=EARLY[ring],
        inside=inside,
        words=words,
        wishes=wishes,
    )
