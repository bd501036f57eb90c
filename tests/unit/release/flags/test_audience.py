"""Goal: counts of who gets what are exact, add up over slices, and name whom a change moves."""

from collections import Counter
from typing import Any

from millrace.release.flags import audience
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.rings import RingBook

NOW = 1_790_000_000.0


def flags(targeting: Any, state: str = "ENABLED") -> FlagSet:
    definition = {
        "state": state,
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": targeting,
    }
    return FlagSet.compile({"flags": {"new-ranker": definition}})


def split(percentage: int) -> dict[str, Any]:
    return {"fractional": [["on", percentage], ["off", 100 - percentage]]}


def everybody(members: int) -> list[tuple[str, dict[str, Any]]]:
    """Members of seven communities in two countries, each with the rings they are in."""
    book, found = RingBook([], []), []
    for n in range(members):
        name, community = f"{n % 7}-{n}", n % 7
        rings = book.rings("server", name, {})
        country = "DE" if community < 3 else "FR"
        context = {"targetingKey": name, "ring": rings[0], "rings": rings}
        found.append((name, {**context, "country": country, "community": str(community)}))
    return found


def test_counts_are_exact_in_all_and_in_every_cut():
    """Every member is counted once in each cut, as the flag decides for them."""
    people = everybody(5000)
    found = flags({"if": [{"in": [{"var": "country"}, ["DE"]]}, split(40), "off"]})
    variant = {n: found.evaluate("new-ranker", c, NOW).variant for n, c in people}

    counted = audience.count(found, "new-ranker", people, NOW)

    assert counted.members == 5000
    assert counted.variants == Counter(variant.values())
    for cut, name in [
        (counted.rings, "ring"),
        (counted.countries, "country"),
        (counted.communities, "community"),
    ]:
        assert {(place, v): n for place, each in cut.items() for v, n in each.items()} == Counter(
            (context[name], variant[member]) for member, context in people
        )


def test_slices_add_up_to_the_whole():
    """The same result, however the members were cut."""
    people, before, after = everybody(3000), flags(split(10)), flags(split(30))
    whole = audience.count(after, "new-ranker", people, NOW)
    moved = audience.compare(before, after, "new-ranker", people, NOW, names_max=5)

    parts = [people[:1], people[1:1700], people[1700:]]
    counted = [audience.count(after, "new-ranker", part, NOW) for part in parts]
    turned = [audience.compare(before, after, "new-ranker", part, NOW, 5) for part in parts]

    assert counted[0].merged(counted[1]).merged(counted[2]) == whole
    assert turned[0].merged(turned[1]).merged(turned[2]) == moved


def test_a_growing_share_adds_and_drops_nobody():
    """The preview shows what the editor promises, with names."""
    people = everybody(3000)

    found = audience.compare(flags(split(10)), flags(split(30)), "new-ranker", people, NOW, 3)

    off, on = found.turns
    assert (on.variant, on.dropped, on.dropped_names) == ("on", 0, ())
    assert on.added == off.dropped == found.changed == on.after - on.before > 500
    assert on.added_names == off.dropped_names
    assert len(on.added_names) == 3
    assert found.members == off.after + on.after == 3000


def test_what_gives_no_variant_is_counted_as_none():
    """Switched off, unknown: the caller's own default holds."""
    people = everybody(10)

    killed = audience.compare(flags(None), flags(None, "DISABLED"), "new-ranker", people, NOW)

    assert audience.count(flags(None), "other", people, NOW).variants == {audience.NOBODY: 10}
    assert [(turn.variant, turn.added, turn.dropped) for turn in killed.turns] == [
        (audience.NOBODY, 10, 0),
        ("off", 0, 10),
    ]
