"""What the pages say of counts, rings and outcomes: exact, and never more than is known."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.types import FlagOutcomes, VariantOutcome
from millrace.release.flags import why
from millrace.release.flags.audience import Audience, Difference, Turn
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.types import RINGS, Choice, Flag, FlagChange, FlagMove, Ring, RingRule
from millrace.web.crowds import crowd_row, shades_of, share_text
from millrace.web.flag_crowds import crowd_view, difference_view, kill_words
from millrace.web.flag_forms import FlagForm
from millrace.web.flag_outcomes import outcome_view
from millrace.web.flag_places import form_by_name, form_by_number, with_places
from millrace.web.flag_ramps import ramp_view
from millrace.web.flag_rules import RuleFields
from millrace.web.flag_views import flag_line, history_lines, summary_of
from millrace.web.flag_why import decision_view
from millrace.web.ring_views import early_rings, inside_counts, rule_words

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ON_OFF = '{"variants": {"on": true, "off": false}, "defaultVariant": "off"%s}'


@given(
    st.dictionaries(st.sampled_from(["on", "off", "", "gone"]), st.integers(0, 10**7), min_size=1)
)
def test_the_pieces_of_a_bar_fill_it_and_count_everybody(counts):
    """Whatever is counted: nobody is lost between the numbers and the picture."""
    row = crowd_row("x", counts, shades_of(["on", "off"], "off"))
    whole = sum(counts.values())

    assert sum(int(one.members.replace(",", "")) for one in row.slices) == whole
    assert {one.members for one in row.slices} == {f"{n:,}" for n in counts.values() if n}
    if whole:
        assert sum(float(one.width) for one in row.slices) == pytest.approx(100, abs=0.01)
    for one, following in zip(row.slices, row.slices[1:], strict=False):
        assert float(following.left) == pytest.approx(float(one.left) + float(one.width), abs=0.01)


@pytest.mark.parametrize(
    ("part", "whole", "says"),
    [(0, 10, "0 %"), (10, 10, "100 %"), (1, 3, "33.3 %"), (1, 10**6, "< 0.01 %"), (1, 2, "50 %"),
     (999_999, 10**6, "99.99 %"), (1, 200, "0.50 %"), (0, 0, "0 %")],
)  # fmt: skip
def test_what_is_not_all_is_never_shown_as_all(part, whole, says):
    """Nor is somebody shown as nobody."""
    assert share_text(part, whole) == says


def test_counts_are_told_by_ring_and_market():
    """Rings from the inside out, communities by name and size, what is not known as such."""
    audience = Audience("a", 3, {"on": 2, "off": 1}, {"everyone": {"off": 1}, "beta": {"on": 2}},
                        {"": {"on": 2, "off": 1}}, {"7": {"on": 1}, "8": {"on": 1, "off": 1}})  # fmt: skip
    view = crowd_view(audience, ON_OFF % "", {"7": "Hill", "8": "Harbour"})

    assert [table.title for table in view.tables] == ["In all", "By ring", "By community"]
    assert [row.label for row in view.tables[1].rows] == ["Beta", "Only everyone"]
    assert [row.label for row in view.tables[2].rows] == ["Harbour", "Hill"]
    assert [(one.variant, one.shade) for one in view.legend] == [("on", "1"), ("off", "plain")]
    assert "2 get on and 1 gets off" in kill_words(audience)


def test_a_preview_warns_only_where_somebody_loses_something():
    """To leave `off` is no loss; to leave `on` is."""
    grows = Difference("a", 10, 2, (Turn("off", 8, 6, 0, 2, (), ("7-1",)), Turn("on", 2, 4, 2, 0, ("7-1",))), 20)  # fmt: skip
    falls = Difference("a", 10, 2, (Turn("off", 8, 10, 2, 0), Turn("on", 2, 0, 0, 2)), 20)
    view = difference_view(grows, ON_OFF % "", ON_OFF % "", {"7-1": "Ada"})

    assert not view.drops
    assert view.rows[0].added_names == ["Ada"]
    assert (
        view.sentence == "2 of 10 members (20 %) are given something else: off loses 2; on gains 2."
    )
    assert difference_view(falls, ON_OFF % "", ON_OFF % "", {}).drops


def test_communities_stand_by_name_and_go_back_to_their_numbers():
    """Only a name that means one community, and that commas leave whole."""
    names = {"71": "Hill", "72": "Down, Under", "73": "Twin", "74": "twin", "75": "99"}
    form = FlagForm(rules=(RuleFields(communities="71, 72, 73, 75, 80"),))
    shown = form_by_name(form, names)

    assert shown.rules[0].communities == "Hill, 72, 73, 75, 80"
    assert form_by_number(shown, names).rules == form.rules
    assert form_by_number(FlagForm(rules=(RuleFields(communities="hILL"),)), names).rules[0].communities == "71"  # fmt: skip
    assert with_places("Whoever is in community 71 or community 80 gets on.", names) == (
        "Whoever is in Hill or community 80 gets on."
    )


@pytest.mark.parametrize(
    ("targeting", "possible", "percentage"),
    [
        ("", True, "0"),
        (', "targeting": {"fractional": [["on", 5], ["off", 995]]}', True, "0.5"),
        (', "targeting": {"if": [{"in": ["beta", {"var": "rings"}]}, "on"]}', True, "0"),
        (', "targeting": {"var": "ring"}', False, ""),
    ],
)  # fmt: skip
def test_a_ramp_begins_where_it_is(targeting, possible, percentage):
    """The share that a rule for everyone gives, or nothing where no one share can be set."""
    found = ramp_view(ON_OFF % targeting, NOW)

    assert (found.possible, found.percentage) == (possible, percentage)
    assert bool(found.note) == (not possible)


def test_a_key_that_is_no_segment_of_an_address_has_no_link():
    """An import may bring it; its page could not be found."""
    flag = Flag(key="a/b", content="{", version=1, owner="", created_at=NOW, changed_at=NOW)

    assert flag_line(flag, {}, NOW, None, []).address == ""


def test_members_are_offered_only_what_they_may_wish():
    """Beta is open here; whoever was put in is not asked."""

    def wishes(inside: bool, choice: Choice | None, ring: Ring = Ring.BETA):
        own = {} if choice is None else {ring: choice}
        found = early_rings(dict.fromkeys(RINGS, inside), own, [Ring.BETA])
        return [[value for value, _ in one.wishes] for one in found]

    assert wishes(inside=False, choice=None) == [["leave"], ["enter"]]
    assert wishes(inside=True, choice=Choice.OPTED_IN) == [["leave"], ["leave"]]
    assert wishes(inside=False, choice=Choice.OPTED_OUT) == [["leave"], ["enter"]]
    assert wishes(inside=True, choice=Choice.LISTED, ring=Ring.EMPLOYEES) == [[], []]


def test_rings_are_told():
    """Each holds those inside of it, and its rule is a sentence."""
    inside = inside_counts({Ring.ALPHA: 2, Ring.EVERYONE: 5})
    rule = RingRule(
        track="ios", ring=Ring.BETA, attribute="country", values=("DE", "FR"), percentage=0.5
    )

    assert list(inside.values()) == [0, 2, 2, 2, 7]
    assert (
        rule_words(rule, Ring.BETA) == "Members whose country is DE or FR and 0.5 % of all members."
    )
    assert rule_words(None, Ring.EMPLOYEES) == "Nobody but those by name."


def test_outcomes_say_how_sure_they_are():
    """A share with its span; what cannot be known is called that."""
    usual = {"feeds": 3, "impressions": 0, "engaged": 0, "kinds": {}, "rates": {}}
    variants = [
        VariantOutcome(variant="on", members=1200, engaged_rate=0.25, engaged_rate_error=0.01, **usual),
        VariantOutcome(variant="", members=1, engaged_rate=None, engaged_rate_error=None, **usual),
    ]  # fmt: skip
    view = outcome_view(FlagOutcomes(flag="a", since=NOW, until=NOW, share=0.05, variants=variants))
    assert view is not None
    found = view.lines

    assert view.about.endswith("of 5 % of the members.")
    assert [one.engaged for one in found] == ["25.00 % ± 1.96", "not known"]
    assert [one.variant for one in found] == ["on", "the default in the code"]
    assert found[0].members == "1,200"


def test_a_decision_says_what_somebody_gets_and_how_near_they_are():
    """Not only the rule that decided: the variant, its value, and the share that they lie in."""
    targeting = {"if": [{"in": ["beta", {"var": "rings"}]}, "on",
                        {"fractional": [["on", 10], ["off", 90]]}]}  # fmt: skip
    definition = {"state": "ENABLED", "variants": {"on": True, "off": False},
                  "defaultVariant": "off", "targeting": targeting}  # fmt: skip
    flags = FlagSet.compile({"flags": {"a": definition}})
    context = {"targetingKey": "7-42", "rings": ["everyone"]}
    view = decision_view("Ada", why.explain(flags, "a", definition, context, 0.0), {})

    assert (view.name, view.given) == ("Ada", "on (true)")
    assert view.steps[0].outcome == "does not fit; not true of them: is in ring beta"
    assert "%, in the share of on: from 0 % to before 10 %. It comes from a7-42" in view.draw


def test_a_long_rule_is_cut_between_words_and_says_so():
    """What is left out is never taken for the end of the sentence."""
    shares = [[f"layout-{n}", 10] for n in range(10)]
    said = summary_of({"state": "ENABLED", "variants": {name: 1 for name, _ in shares},
                       "defaultVariant": "layout-0", "targeting": {"fractional": shares}})  # fmt: skip

    assert len(said) <= 142
    assert said.endswith(" for 10 %, layout-6 …")


def test_a_new_owner_is_told_where_it_is_known():
    """The trail keeps who owned a flag after each change, so each is held beside the one before."""
    trail = [
        FlagChange(id=version, key="a", version=version, move=FlagMove.PUT, actor="operator:olga",
                   reason="", before=ON_OFF % "", after=ON_OFF % "", owner=owner, request_id=None,
                   at=NOW)
        for version, owner in ((3, "web"), (2, "feed"), (1, "feed"))
    ]  # fmt: skip
    lines = history_lines(trail, NOW, 3)

    assert [one.words for one in lines] == [["Owner: feed becomes web."], [], []]
