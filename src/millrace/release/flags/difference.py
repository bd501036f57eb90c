"""What differs between two definitions: in words for people, and as a patch for programs."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, TypeAlias, cast

import msgspec
from msgspec import UNSET, Struct

from millrace.release.flags import rules
from millrace.release.flags.patch import Patch, patches, same
from millrace.release.flags.rules import Rule

VALUE_CHARACTERS_MAX = 80
PLACES_MAX = 5
CODE_DEFAULT = "the default in the code"

Definition: TypeAlias = Mapping[str, Any]


class Difference(Struct, frozen=True):
    """What differs in one flag: sentences, and the patch from one definition to the other."""

    key: str
    words: list[str]
    patch: list[Patch]


def difference(key: str, before: Definition | None, after: Definition | None) -> Difference:
    """Return what differs; None is a flag that there is not."""
    found = list(patches(UNSET if before is None else before, UNSET if after is None else after))
    if not found:
        return Difference(key, [], found)
    if key.startswith("$"):  # what flags share, or a rule of a ring: no variants, only parts
        return Difference(key, list(_about_parts(before or {}, after or {})), found)
    return Difference(key, list(_words(before, after, found)), found)


def differences(
    before: Mapping[str, Definition], after: Mapping[str, Definition]
) -> list[Difference]:
    """Return what differs in two sets of flags, by key; flags that are the same are left out."""
    keys = dict.fromkeys([*before, *after])
    found = [difference(key, before.get(key), after.get(key)) for key in keys]
    return [each for each in found if each.patch]


def shown(value: object) -> str:
    """Write a value as JSON, cut where it is long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"


def _about_parts(before: Definition, after: Definition) -> Iterator[str]:
    for key in dict.fromkeys([*before, *after]):
        was, now = before.get(key, UNSET), after.get(key, UNSET)
        if not same(was, now):
            yield _moved(key, was, now)


def _words(
    before: Definition | None, after: Definition | None, patch: Sequence[Patch]
) -> Iterator[str]:
    """Yield sentences, in the order in which a reader asks."""
    if after is None:
        yield "The flag is removed."
        return
    if before is None:
        yield "The flag is new."
        before = {}
    yield from _about_state(before, after)
    yield from _about_variants(_object(before, "variants"), _object(after, "variants"))
    yield from _about_default(before, after)
    yield from _about_targeting(before.get("targeting"), after.get("targeting"), patch)
    yield from _about_metadata(_object(before, "metadata"), _object(after, "metadata"))
    known = {"state", "variants", "defaultVariant", "targeting", "metadata"}
    rest = {key: value for key, value in before.items() if key not in known}
    yield from _about_parts(rest, {key: after[key] for key in after if key not in known})


def _about_state(before: Definition, after: Definition) -> Iterator[str]:
    was, now = before.get("state", "ENABLED"), after.get("state", "ENABLED")
    if was == now:
        return
    if now == "DISABLED":
        yield f"Switched off: everybody gets {CODE_DEFAULT}."
    elif now == "ENABLED":
        yield "Switched on: its variants are given again."
    else:
        yield _moved("State", was, now)


def _about_variants(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            yield f"Variant {name} is gone; it was {shown(before[name])}."
        elif name not in before:
            yield f"Variant {name} is new: {shown(after[name])}."
        elif not same(before[name], after[name]):
            yield f"Variant {name}: {shown(before[name])} becomes {shown(after[name])}."


def _about_default(before: Definition, after: Definition) -> Iterator[str]:
    was, now = before.get("defaultVariant"), after.get("defaultVariant")
    if was == now and before:
        return
    first, last = was or CODE_DEFAULT, now or CODE_DEFAULT
    yield f"By default: {first} becomes {last}." if before else f"By default: {last}."


def _about_targeting(before: Any, after: Any, patch: Sequence[Patch]) -> Iterator[str]:
    if same(before or {}, after or {}):
        return
    was, now = rules.read(before), rules.read(after)
    if was is None or now is None:
        places = [each.path for each in patch if each.path.startswith("/targeting")]
        more = f" and {len(places) - PLACES_MAX} more" if len(places) > PLACES_MAX else ""
        at = f" at {', '.join(places[:PLACES_MAX])}{more}" if places else ""
        yield f"The targeting, which is written by hand, changes{at}."
        return
    lines = list(_about_rules(was, now))
    yield from lines
    if not lines:
        yield "The targeting is written in another way, and says the same."


def _about_rules(before: list[Rule], after: list[Rule]) -> Iterator[str]:
    was = [rules.in_words(rule) for rule in before]
    now = [rules.in_words(rule) for rule in after]
    for tag, i, j, k, m in SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        both = min(j - i, m - k)
        for n in range(both):
            yield f"Rule {k + n + 1} was: {was[i + n]}"
            yield f"Rule {k + n + 1} is: {now[k + n]}"
        for n in range(i + both, j):
            yield f"Rule {n + 1} is gone: {was[n]}"
        for n in range(k + both, m):
            yield f"Rule {n + 1} is new: {now[n]}"


def _about_metadata(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*before, *after]):
        was, now = before.get(key, UNSET), after.get(key, UNSET)
        if same(was, now):
            continue
        if key == "bucketing":
            yield f"Bucketing {was or 'v2'} becomes {now or 'v2'}: all splits are dealt anew."
        else:
            yield _moved(f"Metadata {key}", was, now)


def _moved(what: str, was: object, now: object) -> str:
    if was is UNSET:
        return f"{what} is new: {shown(now)}."
    if now is UNSET:
        return f"{what} is gone; it was {shown(was)}."
    return f"{what}: {shown(was)} becomes {shown(now)}."


def _object(definition: Definition, name: str) -> Mapping[str, Any]:
    """Return a part that ought to be an object; empty where an import brought something else."""
    part: object = definition.get(name)
    return cast("Mapping[str, Any]", part) if isinstance(part, Mapping) else {}
