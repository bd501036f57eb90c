"""The form of a flag: what people think in becomes flagd's JSON and comes back, nothing lost."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.kernel.errors import InvalidError
from millrace.release.flags import rules as room_rules
from millrace.release.flags.conditions import (
    AppVersions,
    Depends,
    Having,
    InRings,
    Markets,
    Members,
)
from millrace.release.flags.outcomes import Give, Share, Split
from millrace.release.flags.rules import Rule
from millrace.release.flags.types import RINGS
from millrace.web.asked import Form
from millrace.web.flag_forms import (
    AS_JSON,
    FlagForm,
    as_rules,
    definition_of,
    due_of,
    new_form,
    pretty,
    sent_flag,
    wait_of,
    worked,
)
from millrace.web.flag_rules import Pair, RuleFields, fields_of, rule_of

VARIANTS = ["on", "off", "both"]
words = st.text("abcdefgh", min_size=1, max_size=6)
lists = st.lists(words, min_size=1, max_size=4, unique=True).map(tuple)
conditions = st.tuples(
    st.none() | st.lists(st.sampled_from(RINGS), min_size=1, unique=True)
    .map(lambda found: InRings(tuple(ring for ring in RINGS if ring in found))),
    st.none() | st.builds(Markets, st.just(("DE", "FR")), st.just(("7",))),
    st.none() | st.builds(Members, lists),
    st.none() | st.builds(AppVersions, st.just("2.1.0"), st.sampled_from(["", "3.0.0"])),
    st.none() | st.builds(Having, words, lists),
    st.none() | st.builds(Depends, words, words),
).map(lambda found: tuple(one for one in found if one is not None))  # fmt: skip


@st.composite
def splits(draw):
    """Return a split in hundredths of a percent, its variants in any order."""
    names = draw(st.permutations(VARIANTS))[: draw(st.integers(2, 3))]
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=len(names) - 1, max_size=2)))
    cuts = cuts[: len(names) - 1]
    ends = [0, *cuts, 10_000]
    weights = [ends[n + 1] - ends[n] for n in range(len(names))]
    return Split(tuple(Share(name, weight) for name, weight in zip(names, weights, strict=True)))


def same_ratio(one, other) -> bool:
    """Whether two outcomes give everybody the same."""
    if not isinstance(one, Split) or not isinstance(other, Split):
        return one == other
    sums = [sum(share.weight for share in each.shares) for each in (one, other)]
    return [(s.variant, s.weight * sums[1]) for s in one.shares] == [
        (s.variant, s.weight * sums[0]) for s in other.shares
    ]


@given(conditions, st.one_of(st.sampled_from(VARIANTS).map(Give), splits()))
@settings(deadline=None, max_examples=150)
def test_a_rule_comes_back_from_its_fields(held, outcome):
    """Whatever a rule says stands in the form and is read from it again, the order of a split too."""
    rule = Rule(held, outcome)
    back = rule_of(fields_of(rule, VARIANTS), VARIANTS, 1)

    assert back.conditions == rule.conditions
    assert same_ratio(back.outcome, rule.outcome)


def sent(form: FlagForm) -> FlagForm:
    """Send a form and read it, as a browser would."""
    fields = {"version": str(form.version), "mode": form.mode, "kept": form.kept.replace("\n", "\r\n"),
              "key": form.key, "default": form.default, "description": form.description}  # fmt: skip
    for n, one in enumerate(form.variants):
        fields |= {f"variant-{n}-name": one.name, f"variant-{n}-value": one.value}
    for n, rule in enumerate(form.rules):
        stem = f"rule-{n}-"
        fields |= {stem + name: getattr(rule, name) for name in RuleFields.__struct_fields__
                   if isinstance(getattr(rule, name), str)}  # fmt: skip
        fields |= {f"{stem}weight-{place}": text for place, text in enumerate(rule.weights)}
        fields |= {f"{stem}parts": "1"} if rule.parts else {}
        fields |= {f"{stem}ring-{ring}": "1" for ring in rule.rings}
        for kind in ("depends", "having"):
            for place, pair in enumerate(getattr(rule, kind)):
                fields |= {f"{stem}{kind}-{place}-name": pair.name,
                           f"{stem}{kind}-{place}-value": pair.value}  # fmt: skip
    return sent_flag(Form(fields), key="" if form.new else form.key)


def test_a_definition_that_nobody_changed_is_left_as_it_was_written():
    """Odd white space, keys that mean nothing to the form, and the order of all stay."""
    text = (
        '{"metadata":{"bucketing":"v3","description":"x"},  "odd":[1.0],\n"state":"ENABLED",'
        '"variants":{"on":true,"off":false},"defaultVariant":"off",'
        '"targeting":{"fractional":[["on",1],["off",3]]}}'
    )
    form = as_rules(FlagForm(key="a", content=text))

    assert form is not None
    assert form.description == "x"
    assert definition_of(sent(form)) == text


def test_what_is_changed_in_the_form_is_all_that_changes():
    """A weight, and the rest of the text stays as somebody wrote it."""
    text = '{"odd": 1, "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}'
    form = as_rules(FlagForm(key="a", content=text))
    assert form is not None
    form = worked(form, "add")
    [rule] = form.rules
    rule = RuleFields(**{name: getattr(rule, name) for name in rule.__struct_fields__ if name != "weights"},
                      weights=("0.5", "99.5"))  # fmt: skip
    changed = FlagForm(
        key="a", kept=form.kept, variants=form.variants, rules=(rule,), default="off"
    )
    found = json.loads(definition_of(sent(changed)))

    assert found.pop("targeting") == {"fractional": [["on", 5], ["off", 995]]}
    assert found == json.loads(text)


def test_a_new_flag_is_sound_and_gives_nobody_anything_yet():
    """On and off, and everybody has off until somebody says otherwise."""
    definition = json.loads(definition_of(sent(new_form())))

    assert definition["variants"] == {"on": True, "off": False}
    assert room_rules.read(definition["targeting"]) == [
        Rule((), Split((Share("on", 0), Share("off", 100))))
    ]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (RuleFields(weights=("50", "40")), "rule 1: its shares add up to 90 %"),
        (RuleFields(weights=("", "")), "rule 1: it gives nothing"),
        (RuleFields(weights=("many", "")), "'many' is not a percentage"),
        (RuleFields(weights=("100", ""), begins="soon"), "'soon' is not a time"),
        (RuleFields(weights=("100", ""), ramp_variant="on"), "gives shares and grows"),
        (RuleFields(ramp_variant="on", ramp_rest="off", ramp_steps="tomorrow 5"), "no step of a ramp"),
        (RuleFields(weights=("100", ""), countries="Germany"), "'GERMANY' is none of the countries"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_rule_is_said(rule, says):
    """Each message names the rule and what is wrong with it."""
    form = FlagForm(key="a", variants=(Pair("on", "true"), Pair("off", "false")), rules=(rule,))

    with pytest.raises(InvalidError, match=says):
        definition_of(form)


def test_the_buttons_of_the_form_move_what_they_name():
    """Rules and variants come, go and change places, with all that was typed in them."""
    form = worked(worked(new_form(), "add"), "up-1")
    assert [rule.weights for rule in form.rules] == [("", ""), ("0", "100")]
    form = worked(worked(form, "add-variant"), "drop-variant-0")
    assert form.names == ["off", ""]
    assert [rule.weights for rule in form.rules] == [("",), ("100",)]
    form = worked(worked(form, "drop-0"), "down-0")

    assert [rule.weights for rule in form.rules] == [("100",)]
    for nonsense in ("drop-9", "up-0", "drop-", "drop--1", "", "save-1"):
        assert worked(form, nonsense) == form


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"variants": 1}', '{"variants": {}, "targeting": {"var": "x"}}',
     '{"variants": {"a": 1}, "targeting": {"if": [true, "b"]}}', '{"a": "\\ud800"}', "[" * 9999],
)  # fmt: skip
def test_what_the_form_has_no_field_for_stays_json(content):
    """Hand-written targeting, variants that are not there, and what is no JSON at all."""
    assert as_rules(FlagForm(key="a", mode=AS_JSON, content=content)) is None
    assert isinstance(pretty(content), str)


def test_when_a_change_is_to_be_made_is_read():
    """A moment in UTC, and a share of a version; half of it is said to be half."""
    form = sent_flag(Form({"due": "2026-12-01T09:00", "wait_version": "2.4.0", "wait_share": "80",
                           "wait_track": "ios", "wait_country": "de"}), key="a")  # fmt: skip
    wait = wait_of(form.later)

    assert str(due_of(form.later)) == "2026-12-01 09:00:00+00:00"
    assert wait is not None
    assert (wait.track, wait.share, wait.country) == ("ios", 0.8, "DE")
    with pytest.raises(InvalidError, match="not for which share"):
        wait_of(sent_flag(Form({"wait_version": "2.4.0"}), key="a").later)
