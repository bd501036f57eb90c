"""What the control of a ramp shows: the share that is ramped now, or why there is none. Pure."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millrace.kernel.errors import ConflictError, InvalidError
from millrace.release.flags import edits, percentages
from millrace.release.flags import rules as room_rules
from millrace.release.flags.outcomes import Give, Outcome, Split
from millrace.release.flags.ramps import Ramp, percentage_at
from millrace.release.flags.rules import Rule
from millrace.web.flag_forms import object_of
from millrace.web.flag_views import variants_of


class RampView(Struct, frozen=True, kw_only=True):
    """The fields of a ramp. possible: whether one share can be set; `note`: where, or why not.

    reason: that was typed further on, before the ramp was refused.
    """

    possible: bool
    variant: str
    percentage: str
    note: str = ""
    reason: str = ""


def ramp_view(content: str, now: datetime) -> RampView:
    """Return which variant is ramped, for whom, and how far it is."""
    definition = object_of(content) or {}
    names = list(variants_of(definition))
    first = names[0] if names else ""
    try:
        edits.with_ramp(definition, first, 0)
    except (ConflictError, InvalidError) as error:
        note = f"{error.message[:1].upper()}{error.message[1:]}: change the rules instead."
        return RampView(possible=False, variant=first, percentage="", note=note)
    rule = _ramped(room_rules.read(definition.get("targeting")) or [])
    if rule is None:
        everyone = definition.get("defaultVariant") == first
        return RampView(possible=True, variant=first, percentage="100" if everyone else "0")
    variant, reached = _reached(rule.outcome, first, now)
    note = f"This rule: {room_rules.in_words(rule)}" if rule.conditions else ""
    return RampView(possible=True, variant=variant, percentage=reached, note=note)


def _ramped(rules: Sequence[Rule]) -> Rule | None:
    """Return the rule that a share is set in: that for everyone, else the only split."""
    everyone = next((rule for rule in rules if not rule.conditions), None)
    splits = [rule for rule in rules if not isinstance(rule.outcome, Give)]
    return everyone or (splits[0] if len(splits) == 1 else None)


def _reached(outcome: Outcome, first: str, now: datetime) -> tuple[str, str]:
    """Return the variant that grows, and its share in percent."""
    match outcome:
        case Give(given):
            return first, "100" if given == first else "0"
        case Split(shares):
            total = sum(share.weight for share in shares)
            reached = 100 * shares[0].weight / total
            return shares[0].variant, percentages.in_words(reached).removesuffix(" %")
        case Ramp(variant):
            reached = percentage_at(outcome, now)
            return variant, percentages.in_words(reached).removesuffix(" %")
