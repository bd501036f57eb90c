"""Who is in which ring: by name, by an attribute, or by a share of all that sticks to the member.

Rings lie inside one another: whoever is in one is in all that come after it. Of everything that
would put a member in a ring, the innermost counts. A member's own wish to be out of alpha or beta
closes that ring and those inside it to attributes, to shares and to their own earlier wishes, but
not to the name on a list: that was somebody's decision about this one member.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple, TypeAlias, cast

from msgspec import Struct

from millrace.community.types import Key
from millrace.kernel.errors import InvalidError
from millrace.release.flags import moments, percentages
from millrace.release.flags.bucketing import v2
from millrace.release.flags.types import RINGS, Choice, Context, Ring, RingEntry, RingRule

Population: TypeAlias = Iterable[tuple[str, Context]]
"""Members by name, which is their targeting key, each with what is known of them."""

LEVELS = {ring: level for level, ring in enumerate(RINGS)}
"""0 is the innermost."""

WISHED = (Ring.ALPHA, Ring.BETA)
"""The rings that members enter and leave by themselves."""

TRACKS = ("android", "ios", "desktop", "server")
"""What most requests are for; these are ready also where nobody wrote about them."""

NOT_SHUT = -1
OUTERMOST = len(RINGS) - 1
_NAMES = [[ring.value for ring in RINGS[level:]] for level in range(len(RINGS))]


def default_rule(track: str) -> RingRule:
    """Return the rule of one percent that holds until somebody writes another."""
    return RingRule(track=track, ring=Ring.ONE_PERCENT, percentage=1.0)


def standing_rule(rules: Iterable[RingRule], track: str, ring: Ring) -> RingRule | None:
    """Return the rule of a ring: the written one, or the one that holds until one is written."""
    found = next((one for one in rules if one.track == track and one.ring is ring), None)
    return default_rule(track) if found is None and ring is Ring.ONE_PERCENT else found


class RingStep(Struct, frozen=True):
    """Whether a member is in one ring, and why."""

    ring: Ring
    inside: bool
    because: str


class Explanation(Struct, frozen=True):
    """The innermost ring of a member, in a sentence and in one step per ring, the inner first."""

    ring: Ring
    sentence: str
    steps: tuple[RingStep, ...]


class RingBook:
    """Decides from entries and rules that it was made of. Immutable; an answer takes microseconds.

    Attributes are believed: who asks for somebody else than themself hands in what is true.
    """

    def __init__(self, entries: Iterable[RingEntry], rules: Iterable[RingRule]) -> None:
        named: dict[str, dict[str, tuple[RingEntry, ...]]] = {}
        for entry in entries:
            of_track = named.setdefault(entry.track, {})
            name = str(entry.member)
            of_track[name] = (*of_track.get(name, ()), entry)
        ruled: dict[str, list[RingRule]] = {}
        for rule in rules:
            ruled.setdefault(rule.track, []).append(rule)
        self._tracks = {
            track: _Track(track, named.get(track, {}), ruled.get(track, []))
            for track in {*TRACKS, *named, *ruled}
        }

    def with_members(self, changes: Mapping[tuple[str, str], Sequence[RingEntry]]) -> "RingBook":
        """Return a book in which some members have other entries; rules are the same.

        Args:
            changes: all entries of a member by track and name; none where they have none any more.
        """
        by_track: dict[str, dict[str, tuple[RingEntry, ...]]] = {}
        for (track, name), entries in changes.items():
            by_track.setdefault(track, {})[name] = tuple(entries)
        book = RingBook([], [])
        book._tracks = {
            **self._tracks,
            **{track: self._track(track).with_named(found) for track, found in by_track.items()},
        }
        return book

    def ring(self, track: str, member: Key | str, attributes: Context) -> Ring:
        """Return the innermost ring of a track that a member is in."""
        return RINGS[self._track(track).level(str(member), attributes)]

    def rings(self, track: str, member: Key | str, attributes: Context) -> list[str]:
        """Return all rings of a track that a member is in, the innermost first."""
        return [*_NAMES[self._track(track).level(str(member), attributes)]]

    def explain(self, track: str, member: Key | str, attributes: Context) -> Explanation:
        """Say which ring a member is in, and what decided it."""
        name = str(member)
        ways = list(self._track(track).ways(name, attributes))
        level, because = min((way.level, way.because) for way in ways if not way.shut)
        outer = ", ".join(_NAMES[level][1:])
        also = f", and so in {outer}" if outer else ""
        return Explanation(
            ring=RINGS[level],
            sentence=f"{name} is in ring {RINGS[level]} of {track}{also}: {because}.",
            steps=tuple(_step(each, ways, level) for each in range(len(RINGS))),
        )

    def members(self, track: str, ring: Ring, population: Population) -> Iterator[str]:
        """Yield those of a population who are in a ring, also by one that is inside of it."""
        level_of, limit = self._track(track).level, LEVELS[ring]
        return (name for name, attributes in population if level_of(name, attributes) <= limit)

    def _track(self, track: str) -> "_Track":
        # A track that nobody wrote about is not kept: its name comes from outside.
        return self._tracks.get(track) or _Track(track, {}, [])


class _Way(NamedTuple):
    """Something that puts a member in a ring, or would, if they had not opted out."""

    level: int
    because: str
    shut: bool = False


class _Track:
    """One track, ready to be asked."""

    def __init__(
        self, track: str, named: dict[str, tuple[RingEntry, ...]], rules: Sequence[RingRule]
    ) -> None:
        if not any(rule.ring is Ring.ONE_PERCENT for rule in rules):
            rules = [*rules, default_rule(track)]
        self._name = track
        self._prefix = f"ring/{track}/"
        self._named = named
        self._rules = sorted(rules, key=lambda rule: LEVELS[rule.ring])
        self._attributes = [
            (LEVELS[rule.ring], rule.attribute, frozenset(rule.values))
            for rule in self._rules
            if rule.attribute
        ]
        bounds = [(LEVELS[rule.ring], _bound(rule.percentage)) for rule in self._rules]
        self._bounds = [(level, bound) for level, bound in bounds if bound]

    def with_named(self, changes: Mapping[str, tuple[RingEntry, ...]]) -> "_Track":
        """Return the track with other entries of some members."""
        named = {**self._named, **changes}
        for name in [name for name, entries in changes.items() if not entries]:
            del named[name]
        return _Track(self._name, named, self._rules)

    def level(self, name: str, attributes: Context) -> int:
        """Return how far inside a member is; 0 is the innermost ring."""
        entries = self._named.get(name)
        shut, found = (NOT_SHUT, OUTERMOST) if entries is None else _by_name(entries)
        for level, attribute, values in self._attributes:
            if shut < level < found and _has(attributes, attribute, values):
                found = level
        for level, bound in self._bounds:
            if shut < level < found:
                place = v2.place(self._prefix + name)
                if place is not None and place < bound:
                    found = level
        return found

    def ways(self, name: str, attributes: Context) -> Iterator[_Way]:
        """Yield everything that would put a member in a ring, in words."""
        entries = self._named.get(name, ())
        shut, _ = _by_name(entries)
        yield _Way(OUTERMOST, "no list, rule or share puts them further inside")
        for entry in entries:
            level, day = LEVELS[entry.ring], moments.in_words(entry.at)
            if entry.choice is Choice.LISTED:
                yield _Way(level, f"listed by {entry.actor} on {day}")
            elif entry.choice is Choice.OPTED_IN and entry.ring in WISHED:
                undone = _undone(entry, entries)
                yield _Way(level, f"opted in on {day}{', and out later' * undone}", shut=undone)
            elif entry.choice is Choice.OPTED_OUT and entry.ring in WISHED:
                yield _Way(level, f"opted out on {day}", shut=True)
        for rule in self._rules:
            level = LEVELS[rule.ring]
            if rule.attribute and _has(attributes, rule.attribute, frozenset(rule.values)):
                yield _ruled(level, f"{rule.attribute} is {attributes[rule.attribute]}", shut)
            place = v2.place(self._prefix + name)
            if place is not None and place < _bound(rule.percentage):
                share = percentages.in_words(rule.percentage)
                yield _ruled(level, f"by their place within {share} of all", shut)


def _ruled(level: int, because: str, shut: int) -> _Way:
    """Return what a rule does, which a wish to be out is stronger than."""
    return _Way(level, f"{because}, but opted out" if level <= shut else because, level <= shut)


def _step(level: int, ways: Sequence[_Way], found: int) -> RingStep:
    here = [way for way in ways if way.level == level]
    if opened := [way.because for way in here if not way.shut]:
        because = "; ".join(opened)
    elif found < level:
        because = f"in ring {RINGS[found]}, which is inside of it"
    elif here:
        because = "; ".join(way.because for way in here)
    else:
        because = "not listed, and no rule or share holds"
    return RingStep(ring=RINGS[level], inside=found <= level, because=because)


def _by_name(entries: Sequence[RingEntry]) -> tuple[int, int]:
    """Return the outermost ring that the member's wish shuts, and the innermost that has them."""
    shut, found = NOT_SHUT, OUTERMOST
    for entry in entries:
        level = LEVELS[entry.ring]
        if entry.choice is Choice.LISTED:
            found = min(found, level)
        elif entry.ring in WISHED and not _undone(entry, entries):
            if entry.choice is Choice.OPTED_IN:
                found = min(found, level)
            else:
                shut = max(shut, level)
    return shut, found


def _undone(wish: RingEntry, entries: Sequence[RingEntry]) -> bool:
    """Whether a later wish of the same member is against this one.

    To leave a ring is to leave those inside it; to enter one is to enter those around it.
    """
    return any(_is_undone(wish, other) for other in entries)


def _is_undone(wish: RingEntry, other: RingEntry) -> bool:
    inner, outer = (wish, other) if wish.choice is Choice.OPTED_IN else (other, wish)
    if (inner.choice, outer.choice) != (Choice.OPTED_IN, Choice.OPTED_OUT):
        return False
    if other.ring not in WISHED or LEVELS[inner.ring] > LEVELS[outer.ring]:
        return False
    # Of two at the same moment the one to be left alone counts.
    return other.at > wish.at or (other is outer and other.at == wish.at)


def _has(attributes: Context, attribute: str, values: frozenset[str]) -> bool:
    """Whether an attribute, or one of those in a list of them, is among the values."""
    value = attributes.get(attribute)
    if isinstance(value, str):
        return value in values
    if isinstance(value, list | tuple):
        several = cast("Sequence[object]", value)
        return any(isinstance(each, str) and each in values for each in several)
    return isinstance(value, int) and str(value).lower() in values


def _bound(percentage: float) -> int:
    """Return the first place beyond a share of all; what a split cannot hold is rounded."""
    if not isfinite(percentage):
        return 0
    share = round(min(max(percentage, 0.0), 100.0), percentages.DECIMALS_MAX)
    total, (part,) = percentages.weights([share])
    return v2.bounds([part, total - part])[0]


def check_rule(rule: RingRule) -> None:
    """Refuse a rule that could not put anybody in its ring.

    Raises:
        InvalidError: it is of the ring that everyone is in, has half a condition, or no percentage.
    """
    percentages.weights([rule.percentage])
    if rule.ring is Ring.EVERYONE:
        raise InvalidError(
            "everyone is in the ring everyone, which has no rule", field="ring", value=rule.ring
        )
    if bool(rule.attribute) != bool(rule.values):
        raise InvalidError(
            f"a rule of ring {rule.ring} has an attribute and its values, or neither",
            field="values" if rule.attribute else "attribute",
            value=rule.attribute or list(rule.values),
            next_step="name both, or leave both out",
        )


def check_entry(entry: RingEntry) -> None:
    """Refuse a name where there is no list of names, or a wish where there is none to have.

    Raises:
        InvalidError: it is of the ring everyone, or a member's own wish about another ring than
            alpha and beta.
    """
    if entry.choice is not Choice.LISTED and entry.ring not in WISHED:
        raise InvalidError(
            f"members enter and leave only {' and '.join(WISHED)} by themselves, not {entry.ring}",
            field="ring",
            value=entry.ring,
            next_step="an operator can list them",
        )
    if entry.ring is Ring.EVERYONE:
        raise InvalidError("everyone is in the ring everyone", field="ring", value=entry.ring)
