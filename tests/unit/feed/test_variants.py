"""What flags may decide of a feed, and that nothing they say can spoil one."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.community.types import Action, Key
from millrace.feed import variants as variants_module
from millrace.feed.features import FEATURES
from millrace.feed.models import values_of
from millrace.feed.testing import FakeSwitches, Said
from millrace.feed.types import App, FeedConfig
from millrace.feed.value import ACTIONS
from millrace.feed.variants import BY_FLAG, KNOBS, NEWEST, SETTINGS, Fault, Kind, Plan, Variants

CONFIG = FeedConfig()
VALUES = values_of(CONFIG)
ADA, BEN = Key(1, 1), Key(1, 2)
APP = App()


def asked(**flags) -> Variants:
    """Variants over flags that say the same to everybody."""
    said = {name: (lambda _m, _a, one=one: one) for name, one in flags.items()}
    return Variants(CONFIG, VALUES, FakeSwitches(**said))


def says(value: object, variant: str = "on") -> Said:
    return Said(key="", value=value, variant=variant)


def test_without_flags_a_feed_is_as_the_settings_say():
    for variants in (Variants(CONFIG, VALUES, None), asked(), asked(unknown_thing=says(3))):
        plan = variants.plan(ADA, APP)

        assert plan == Plan(config=CONFIG)
        assert variants.faults == {}


def test_members_get_the_variants_of_their_own():
    def by_member(member: Key, _: App) -> Said:
        return says(20, "short") if member == ADA else says(200, "long")

    variants = Variants(CONFIG, VALUES, FakeSwitches(ranked_max=by_member))
    ada, ben = variants.plan(ADA, APP), variants.plan(BEN, APP)

    assert (ada.config.ranked_max, ada.variants) == (20, {"feed.ranked_max": "short"})
    assert (ben.config.ranked_max, ben.variants) == (200, {"feed.ranked_max": "long"})
    assert variants.plan(ADA, APP) is ada, "a combination of variants is planned once"


def test_a_changed_flag_is_obeyed_at_once():
    switches = FakeSwitches(ranked_max=lambda _m, _a: says(20))
    variants = Variants(CONFIG, VALUES, switches)
    before = variants.plan(ADA, APP)
    switches.put("ranked_max", lambda _m, _a: says(30))
    after = variants.plan(ADA, APP)

    assert (before.config.ranked_max, after.config.ranked_max) == (20, 30)


def test_every_kind_of_flag_is_obeyed():
    plan = asked(
        diversity=says(0.5), author_decay=says(False), scorer=says("prior"),
        weights=says({"like": 3, "hide": -2.5}),
        **{"feature.affinity": says(False), "feature.recency": says(True)},
    ).plan(ADA, APP)  # fmt: skip

    assert plan.config.diversity == 0.5
    assert (plan.author_decay, plan.scorer, plan.off) == (False, "prior", {"affinity"})
    weights = dict(zip(ACTIONS, plan.values.weights, strict=True))
    before = dict(zip(ACTIONS, VALUES.weights, strict=True))
    assert (weights.pop(Action.LIKE), weights.pop(Action.HIDE)) == (3.0, -2.5)
    assert weights.items() <= before.items()
    assert plan.values.version != VALUES.version
    assert len(plan.variants) == 6
    assert plan.faults == {}


@pytest.mark.parametrize(
    ("name", "said", "fault", "words"),
    [
        ("ranked_max", says(1001), Fault.BOUNDS, "1001 is not a whole number from 1 to 1000"),
        ("ranked_max", says(0), Fault.BOUNDS, "0 is not a whole number from 1 to 1000"),
        ("ranked_max", says(2.5), Fault.FORM, "2.5 is not a whole number from 1 to 1000"),
        ("ranked_max", says(True), Fault.FORM, "True is not a whole number from 1 to 1000"),
        ("diversity", says("much"), Fault.FORM, "'much' is not a number from 0 to 1"),
        ("diversity", says(float("nan")), Fault.BOUNDS, "nan is not a number from 0 to 1"),
        ("diversity", says(10**400), Fault.BOUNDS, "a number of many digits is not"),
        ("seen_days", says(31), Fault.BOUNDS, "31 days is more than the setting feed.seen_days, 30"),
        ("author_decay", says("no"), Fault.FORM, "'no' is not true or false"),
        ("weights", says([1]), Fault.FORM, "[1] is not an object from action to weight"),
        ("weights", says({"smile": 1}), Fault.UNKNOWN, "names an action that there is not: smile"),
        ("weights", says({"hide": 1}), Fault.BOUNDS, "the weight of hide"),
        ("weights", says({"like": 10**400}), Fault.BOUNDS, "the weight of like"),
        ("scorer", says(""), Fault.FORM, "'' is not newest, prior or the version of a fitted"),
        ("ranked_max", Said(key="", error="PARSE_ERROR", message="no"), Fault.ERROR, "PARSE_ERROR: no"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_be_obeyed_changes_nothing_but_counters(name, said, fault, words):
    variants = asked(**{name: said})
    plan, again = variants.plan(ADA, APP), variants.plan(BEN, APP)

    assert words in plan.faults[f"feed.{name}"]
    assert plan == again == Plan(config=CONFIG, faults=plan.faults)
    assert variants.faults == {(f"feed.{name}", fault): 2}


def test_a_flag_that_is_off_is_no_fault():
    variants = asked(ranked_max=Said(key="", variant=""))

    assert variants.plan(ADA, APP) == Plan(config=CONFIG)
    assert variants.faults == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["like", "hide", "x"]), inner),
    max_leaves=4,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(BY_FLAG)), JSON, max_size=8))
def test_whatever_flags_say_a_plan_is_within_its_bounds(said):
    """Any JSON in any flags: no exception, every flag obeyed or at fault, every figure in bounds."""
    flags = {key.removeprefix("feed."): says(value) for key, value in said.items()}
    plan = asked(**flags).plan(ADA, APP)

    assert plan.variants.keys() | plan.faults.keys() == said.keys()
    assert not plan.variants.keys() & plan.faults.keys()
    for knob in KNOBS:
        if knob.kind in (Kind.WHOLE, Kind.NUMBER):
            figure = getattr(plan.config, knob.name)
            assert knob.least <= figure <= knob.most
            assert knob.name != "seen_days" or figure <= CONFIG.seen_days, "history has no more"
            assert type(figure) is type(getattr(CONFIG, knob.name))
    assert plan.off <= set(FEATURES)
    assert json.dumps(plan.faults)


def test_the_settings_themselves_are_within_the_bounds():
    """A flag can always say what the settings say; the table names fields that there are."""
    for knob in KNOBS:
        if knob.kind in (Kind.WHOLE, Kind.NUMBER):
            assert knob.least <= getattr(CONFIG, knob.name) <= knob.most
    assert Plan().scorer == NEWEST


def test_the_documents_tell_everything_that_a_flag_may_decide():
    told = (Path(__file__).parents[3] / "docs" / "flags.md").read_text(encoding="utf-8")
    for knob in KNOBS:
        if not knob.name.startswith("feature."):
            line = f"| `{knob.flag}` | {knob.limit} | {knob.about} |"
            assert line in told, f"write into docs/flags.md: {line}"


def test_no_stage_reads_past_the_plan():
    """A figure that a flag may decide is read from the plan, or the flag would be for show."""
    room = Path(variants_module.__file__).parent
    names = {knob.name for knob in SETTINGS}
    for stage in ("pipeline", "hydration", "sources", "filters", "select", "ranking"):
        text = (room / f"{stage}.py").read_text(encoding="utf-8")
        read = set(re.findall(r"_?parts\.config\.(\w+)", text))
        assert not read & names, f"{stage}.py: read it from run.plan.config"
        assert not re.search(r"= self\._parts\.config\b(?!\.)", text), f"{stage}.py"
