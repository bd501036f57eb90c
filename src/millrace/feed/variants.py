"""What of the feed a flag may decide, and what the flags decided for one feed. Pure.

The list is closed. Each entry is a flag `feed.<name>` with a kind and bounds; a flag that is not
there, is switched off, fails or says something that cannot be leaves what the settings say, and a
fault says why. Nothing else splits members: decision 0133.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import Key
from millrace.feed.features import FEATURES
from millrace.feed.ports import Decided, FlagNames, Switches
from millrace.feed.types import App, FeedConfig
from millrace.feed.value import Values, changed, shortly
from millrace.kernel.errors import SetupError

PREFIX = "feed."
FEATURE_PREFIX = "feature."
NEWEST, PRIOR, PACKAGED = "newest", "prior", "packaged"
SCORER_CHARACTERS_MAX = 80
PLANS_MAX = 512  # combinations of variants that are kept
SEEN_DAYS = "seen_days"


class Kind(StrEnum):
    """What the value of a flag is."""

    WHOLE = "a whole number"
    NUMBER = "a number"
    SWITCH = "true or false"
    WEIGHTS = "an object from action to weight"
    SCORER = "the name of a scorer"
    ENCODER = "the name of an encoder"


class Knob(Struct, frozen=True):
    """One thing that a flag may decide. least, most: of numbers, both allowed."""

    name: str
    kind: Kind
    about: str
    least: float = 0.0
    most: float = 0.0

    @property
    def flag(self) -> str:
        """Return the key of its flag."""
        return PREFIX + self.name

    @property
    def limit(self) -> str:
        """Return in words what its flag may say."""
        if self.kind in (Kind.WHOLE, Kind.NUMBER):
            return f"{self.kind} from {self.least:g} to {self.most:g}"
        if self.kind is Kind.SCORER:
            return f"{NEWEST}, {PRIOR} or the version of a fitted scorer"
        if self.kind is Kind.ENCODER:
            return f"{NEWEST}, {PACKAGED}, or the name or version of an encoder that is ready"
        return str(self.kind)


def _whole(name: str, least: int, most: int, about: str) -> Knob:
    return Knob(name, Kind.WHOLE, about, least, most)


def _number(name: str, least: float, most: float, about: str) -> Knob:
    return Knob(name, Kind.NUMBER, about, least, most)


SETTINGS = (
    _whole("network_max", 0, 1_000, "candidates of the community and of followed members"),
    _whole("retrieval_max", 1, 2_000, "candidates near to the member"),
    _whole("exploration_max", 0, 500, "candidates by authors whom few know"),
    _whole("ranked_max", 1, 1_000, "how long a feed is"),
    _number("age_days_max", 0, 3_650, "older posts are left out; 0 for none"),
    _number(
        SEEN_DAYS,
        0,
        3_650,
        "for so long a shown post does not come as new; not longer than the setting",
    ),
    _number("served_minutes", 0, 1_440, "for so long a delivered post does not come as new"),
    _number("reload_minutes", 0, 1_440, "within it a feed asked for again keeps what was not seen"),
    _number("affinity_days", 0, 3_650, "how far back engagement with an author counts"),
    _number("diversity", 0, 1, "what nearness to a post above costs"),
    _whole("diverse_max", 0, 1_000, "how many of the best are judged for diversity"),
    _whole("exploration_every", 1, 1_000, "one new author in so many posts"),
    _whole("exploration_slot", 0, 999, "the place of the new author, from 0"),
    _whole("new_followers_max", 0, 1_000_000, "who has more is no new author"),
    _whole("new_posts_max", 0, 1_000_000, "who wrote more is no new author"),
    _whole("new_views_max", 0, 1_000_000, "a post that has more is known"),
)
"""Fields of FeedConfig, by their own names."""

AUTHOR_DECAY, WEIGHTS, SCORER, ENCODER = "author_decay", "weights", "scorer", "encoder"
KNOBS: tuple[Knob, ...] = (
    *SETTINGS,
    Knob(AUTHOR_DECAY, Kind.SWITCH, "whether an author's later posts are lowered"),
    Knob(WEIGHTS, Kind.WEIGHTS, "action weights in place of those of the value file"),
    Knob(SCORER, Kind.SCORER, "which model says how likely each action is"),
    Knob(ENCODER, Kind.ENCODER, "whose vectors say what is near"),
    *(
        Knob(FEATURE_PREFIX + name, Kind.SWITCH, f"whether the model may use {name}")
        for name in FEATURES
    ),
)
SCORER_FLAG, ENCODER_FLAG = PREFIX + SCORER, PREFIX + ENCODER
BY_FLAG: Mapping[str, Knob] = {knob.flag: knob for knob in KNOBS}


class Fault(StrEnum):
    """Why a flag was not obeyed. The list is closed: it labels a counter.

    ERROR: its evaluation failed. FORM: its value is of another kind. BOUNDS: it cannot be that
    much. UNKNOWN: it names an action, a scorer or an encoder that there is not.
    """

    ERROR = "error"
    FORM = "form"
    BOUNDS = "bounds"
    UNKNOWN = "unknown"


class Plan(Struct, frozen=True, kw_only=True):
    """How one feed is to be made.

    values: None for those of the value file. scorer: NEWEST, PRIOR or a version.
    encoder: a name or a version; empty for the one that serves.
    off: features that the model may not use.
    variants: of each flag that was obeyed, by its key. faults: why others were not.
    """

    config: FeedConfig = FeedConfig()
    values: Values | None = None
    scorer: str = NEWEST
    encoder: str = ""
    author_decay: bool = True
    off: frozenset[str] = frozenset()
    variants: dict[str, str] = {}
    faults: dict[str, str] = {}


class Refused(Exception):  # noqa: N818 - it never leaves this module
    """A value that is not obeyed."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Variants:
    """Asks the flags, once per feed. Only those that exist are asked; none cost nothing."""

    def __init__(self, config: FeedConfig, values: Values, switches: Switches | None) -> None:
        self._plain = Plan(config=config)
        self._values = values
        self._switches = switches
        self._names: FlagNames | None = None
        self._asked: tuple[str, ...] = ()
        self._plans: dict[tuple[object, ...], tuple[Plan, dict[str, Fault]]] = {}
        self.served: dict[tuple[str, str], int] = {}
        self.faults: dict[tuple[str, Fault], int] = {}

    def plan(self, member: Key, app: App) -> Plan:
        """Return how a member's feed is to be made. A flag never makes it fail."""
        if self._switches is None:
            return self._plain
        names = self._switches.flagset()
        if names is not self._names:  # a variant's value is one and the same until then
            self._names, self._plans = names, {}
            self._asked = _known(names)
        if not self._asked:
            return self._plain
        context = self._switches.context_of(member, app)
        decided = [self._switches.evaluate(key, context) for key in self._asked]
        combination = tuple((one.variant, one.error) for one in decided)
        known = self._plans.get(combination)
        if known is None:
            known = self._made(decided)
            if len(self._plans) < PLANS_MAX:
                self._plans[combination] = known
        plan, faults = known
        for flag, fault in faults.items():
            self.count_fault(flag, fault)
        return plan

    def count_fault(self, flag: str, fault: Fault) -> None:
        """Count a flag that was not obeyed."""
        self.faults[flag, fault] = self.faults.get((flag, fault), 0) + 1

    def count_served(self, plan: Plan) -> None:
        """Count a served feed under each of its variants."""
        for line in plan.variants.items():
            self.served[line] = self.served.get(line, 0) + 1

    def existing(self) -> tuple[str, ...]:
        """Return the flags that exist and decide something of the feed."""
        if self._switches is None:
            return ()
        return _known(self._switches.flagset())

    def _made(self, decided: list[Decided]) -> tuple[Plan, dict[str, Fault]]:
        plan, faults, found = self._plain, dict[str, str](), dict[str, Fault]()
        variants: dict[str, str] = {}
        for one in decided:
            if one.error is None and not one.variant:
                continue  # switched off, or its rules chose nothing: the settings hold
            try:
                if one.error is not None:
                    raise Refused(Fault.ERROR, f"{one.error}: {one.message}")
                plan = self._obeyed(plan, BY_FLAG[one.key], one.value)
                variants[one.key] = one.variant
            except Refused as exc:
                faults[one.key], found[one.key] = str(exc), exc.fault
        return replace(plan, variants=variants, faults=faults), found

    def _obeyed(self, plan: Plan, knob: Knob, value: object) -> Plan:
        """Return a plan with what one flag says; what cannot be is Refused."""
        match knob.kind:
            case Kind.WHOLE | Kind.NUMBER:
                figure = _figure(knob, value)
                if knob.name == SEEN_DAYS:
                    _expect_held(figure, self._plain.config.seen_days)
                return replace(plan, config=replace(plan.config, **{knob.name: figure}))
            case Kind.WEIGHTS:
                return replace(plan, values=_weighed(self._values, knob, value))
            case Kind.SCORER:
                return replace(plan, scorer=_named(knob, value))
            case Kind.ENCODER:
                return replace(plan, encoder=_named(knob, value))
            case Kind.SWITCH:
                on = _switch(knob, value)
                if knob.name == AUTHOR_DECAY:
                    return replace(plan, author_decay=on)
                feature = knob.name.removeprefix(FEATURE_PREFIX)
                return plan if on else replace(plan, off=plan.off | {feature})


def _known(names: FlagNames) -> tuple[str, ...]:
    """Return those that decide something of the feed."""
    return tuple(sorted(BY_FLAG.keys() & set(names.keys())))


def _figure(knob: Knob, value: object) -> float:
    """Return a number as the settings have it.

    Raises:
        Refused: it is none, or outside its bounds.
    """
    whole = knob.kind is Kind.WHOLE
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (whole and value != value // 1)
    ):
        raise Refused(Fault.FORM, f"{shortly(value)} is not {knob.limit}")
    if not knob.least <= value <= knob.most:
        raise Refused(Fault.BOUNDS, f"{shortly(value)} is not {knob.limit}")
    return int(value) if whole else float(value)


def _expect_held(days: float, held: float) -> None:
    """Check that histories are kept for so many days: the setting says how many are read.

    Raises:
        Refused: they are not.
    """
    if days > held:
        raise Refused(
            Fault.BOUNDS,
            f"{days:g} days is more than the setting feed.seen_days, {held:g}: histories go back no"
            " further; raise the setting, and give the old figure to everybody else",
        )


def _switch(knob: Knob, value: object) -> bool:
    """Return true or false.

    Raises:
        Refused: it is neither.
    """
    if not isinstance(value, bool):
        raise Refused(Fault.FORM, f"{shortly(value)} is not {knob.limit}")
    return value


def _named(knob: Knob, value: object) -> str:
    """Return the name of a scorer or an encoder; whether there is one is seen when it is looked for.

    Raises:
        Refused: it is no name.
    """
    if not isinstance(value, str) or not value or len(value) > SCORER_CHARACTERS_MAX:
        raise Refused(Fault.FORM, f"{shortly(value)} is not {knob.limit}")
    return value


def _weighed(values: Values, knob: Knob, value: object) -> Values:
    """Return the weights of the value file with those that a flag names.

    Raises:
        Refused: it is no table, names no action, or a weight is wrong.
    """
    if not isinstance(value, Mapping):
        raise Refused(Fault.FORM, f"{shortly(value)} is not {knob.limit}")
    try:
        return changed(values, cast("Mapping[str, object]", value), f"the flag {knob.flag}")
    except SetupError as exc:
        fault = Fault.UNKNOWN if exc.field == WEIGHTS else Fault.BOUNDS
        raise Refused(fault, exc.message) from exc
