"""Communities by name where people read and write, by number where flags decide. Pure."""

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from millrace.web.flag_forms import FlagForm
from millrace.web.flag_rules import listed

NUMBERED = re.compile(r"\bcommunity ([0-9]{1,19})\b")


def with_places(text: str, names: Mapping[str, str]) -> str:
    """Return a sentence in which communities have their names."""
    return NUMBERED.sub(lambda found: names.get(found[1], found[0]), text)


def all_with_places(texts: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Return sentences in which communities have their names."""
    return [with_places(text, names) for text in texts]


def form_by_name(form: FlagForm, names: Mapping[str, str]) -> FlagForm:
    """Return a form whose communities stand by name, where a name says which one is meant."""
    known = {number: name for number, name in names.items() if _is_plain(name, names)}
    return _with_communities(form, known)


def form_by_number(form: FlagForm, names: Mapping[str, str]) -> FlagForm:
    """Return a form whose communities stand by number; what is no name of one stays as it is."""
    numbers = {name.casefold(): number for number, name in names.items() if _is_plain(name, names)}
    return _with_communities(form, numbers)


def _is_plain(name: str, names: Mapping[str, str]) -> bool:
    """Whether a name fits between commas, is no number, and is that of one community only."""
    alone = [one.casefold() for one in names.values()].count(name.casefold()) == 1
    return alone and listed(name) == (name,) and not name.isdigit()


def _with_communities(form: FlagForm, others: Mapping[str, str]) -> FlagForm:
    rules = tuple(
        replace(
            rule,
            communities=", ".join(
                others.get(one, others.get(one.casefold(), one)) for one in listed(rule.communities)
            ),
        )
        for rule in form.rules
    )
    place = form.later.wait_community
    place = others.get(place, others.get(place.casefold(), place))
    return replace(form, rules=rules, later=replace(form.later, wait_community=place))
