"""Goal: rings lie inside one another whatever is written, and what is explained is what is decided."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.community.types import Key
from millrace.release.flags.bucketing import v2
from millrace.release.flags.rings import RingBook
from millrace.release.flags.types import RINGS, Choice, Ring, RingEntry, RingRule

TRACK = "android"
START = datetime(2026, 11, 1, tzinfo=UTC)
MEMBERS = [Key(7, 1), Key(7, 2)]
WISHED = {Ring.ALPHA, Ring.BETA}

entries = st.lists(
    st.builds(
        RingEntry,
        track=st.sampled_from([TRACK, TRACK, TRACK, "ios"]),
        ring=st.sampled_from(Ring),
        member=st.sampled_from(MEMBERS),
        choice=st.sampled_from(Choice),
        actor=st.just("operator ops"),
        at=st.integers(0, 5).map(lambda day: START + timedelta(days=day)),
    ),
    max_size=6,
    unique_by=lambda entry: (entry.track, entry.ring, entry.member),
)
rules = st.lists(
    st.builds(
        RingRule,
        track=st.sampled_from([TRACK, TRACK, TRACK, "ios"]),
        ring=st.sampled_from(RINGS[:-1]),
        attribute=st.sampled_from(["", "country", "plan"]),
        values=st.sampled_from([(), ("DE",), ("DE", "gold"), ("DE", "gold")]),
        percentage=st.sampled_from([0.0, 0.5, 20.0, 50.0, 100.0]),
    ),
    max_size=5,
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "country": st.sampled_from(["DE", "DE", "FR", 7, None]),
        "plan": st.sampled_from(["gold", ["free", "gold"], [], True]),
    },
)
members = st.sampled_from(MEMBERS)


def expected(found: list[RingEntry], ruled: list[RingRule], member: Key, known: dict) -> Ring:
    """The ring by the words of the design, without a thought for speed."""
    mine = [entry for entry in found if entry.track == TRACK and entry.member == member]
    outs = [e for e in mine if e.choice is Choice.OPTED_OUT and e.ring in WISHED]
    ins = [e for e in mine if e.choice is Choice.OPTED_IN and e.ring in WISHED]
    left = [
        e
        for e in outs
        if not any(i.at > e.at and RINGS.index(i.ring) <= RINGS.index(e.ring) for i in ins)
    ]
    inside = {Ring.EVERYONE}
    inside |= {e.ring for e in mine if e.choice is Choice.LISTED}
    inside |= {
        e.ring
        for e in ins
        if not any(o.at >= e.at and RINGS.index(e.ring) <= RINGS.index(o.ring) for o in outs)
    }
    mine_ruled = [rule for rule in ruled if rule.track == TRACK]
    if not any(rule.ring is Ring.ONE_PERCENT for rule in mine_ruled):
        mine_ruled.append(RingRule(track=TRACK, ring=Ring.ONE_PERCENT, percentage=1.0))
    place = v2.place(f"ring/{TRACK}/{member}")
    for rule in mine_ruled:
        value = known.get(rule.attribute)
        values = value if isinstance(value, list) else [value]
        by_attribute = bool(rule.attribute) and any(each in rule.values for each in values)
        by_share = place / 2**32 < rule.percentage / 100
        shut = any(RINGS.index(rule.ring) <= RINGS.index(e.ring) for e in left)
        if (by_attribute or by_share) and not shut:
            inside.add(rule.ring)
    return min(inside, key=RINGS.index)


@settings(max_examples=400)
@given(entries, rules, attributes, members)
def test_the_innermost_way_in_decides(found, ruled, known, member):
    """Lists, wishes, attributes and shares, in whatever mixture."""
    ring = RingBook(found, ruled).ring(TRACK, member, known)

    assert ring is expected(found, ruled, member, known)


@given(entries, rules, attributes, members)
def test_an_inner_ring_is_in_all_outer_ones(found, ruled, known, member):
    """The names are those from the innermost ring outwards, without a gap."""
    book = RingBook(found, ruled)
    ring = book.ring(TRACK, member, known)

    assert book.rings(TRACK, member, known) == [r.value for r in RINGS[RINGS.index(ring) :]]
    for each in RINGS:
        named = list(book.members(TRACK, each, [(str(member), known)]))
        assert named == ([str(member)] if RINGS.index(ring) <= RINGS.index(each) else [])


@given(entries, rules, attributes, members)
def test_what_is_explained_is_what_is_decided(found, ruled, known, member):
    """The sentence and the steps name the same ring as the decision, and every step says why."""
    book = RingBook(found, ruled)
    ring = book.ring(TRACK, member, known)

    told = book.explain(TRACK, member, known)

    assert told.ring is ring
    assert told.sentence.startswith(f"{member} is in ring {ring} of {TRACK}")
    assert [step.ring for step in told.steps] == list(RINGS)
    assert [step.inside for step in told.steps] == [
        RINGS.index(ring) <= level for level in range(len(RINGS))
    ]
    assert all(step.because for step in told.steps)


@given(st.text(max_size=20), st.floats(0, 100), st.floats(0, 100))
def test_a_growing_ring_keeps_its_members(name, first, second):
    """A share sticks to the member, so a larger one only adds."""
    small, large = sorted([first, second])
    rings = [
        RingBook([], [RingRule(track=TRACK, ring=Ring.ALPHA, percentage=share)])
        for share in (small, large)
    ]
    before, after = (book.rings(TRACK, name, {}) for book in rings)

    assert set(before) <= set(after)


@given(entries, entries, rules, attributes)
def test_a_book_that_follows_is_the_book_that_is_written_anew(before, after, ruled, known):
    """Entry by entry it comes to the same, on every track."""
    places = {(entry.track, str(entry.member)) for entry in [*before, *after]}
    changes = {
        (track, name): [e for e in after if (e.track, str(e.member)) == (track, name)]
        for track, name in places
    }

    followed = RingBook(before, ruled).with_members(changes)

    anew = RingBook(after, ruled)
    for track in (TRACK, "ios", "desktop"):
        for member in MEMBERS:
            assert followed.explain(track, member, known) == anew.explain(track, member, known)
            assert followed.ring(track, member, known) is anew.ring(track, member, known)
