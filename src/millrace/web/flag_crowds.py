"""Counts of who is given what, and of whom a change gives something else. Pure: no reads."""

from collections.abc import Mapping

from msgspec import Struct

from millrace.release.flags.audience import Audience, Counts, Difference
from millrace.release.flags.difference import CODE_DEFAULT
from millrace.release.flags.types import RINGS, Ring
from millrace.web.crowds import (
    CrowdRow,
    CrowdTable,
    CrowdView,
    crowd_row,
    exact,
    share_text,
    swatches_of,
)
from millrace.web.flag_forms import RING_LABELS
from millrace.web.flag_views import shades_in

ROWS_MAX = 12  # markets that are shown, the largest first
UNKNOWN = "not known"


class DifferenceRow(Struct, frozen=True, kw_only=True):
    """What a change does to one variant; the first few whom it adds and drops, by their names."""

    variant: str
    shade: str
    now: str
    added: str
    dropped: str
    then: str
    added_names: list[str]
    dropped_names: list[str]


class DifferenceView(Struct, frozen=True, kw_only=True):
    """Whom a change adds and drops. `drops`: whether somebody would lose what they have."""

    about: str
    sentence: str
    drops: bool
    rows: list[DifferenceRow]
    bars: list[CrowdRow]


def crowd_view(audience: Audience, content: str, communities: Mapping[str, str]) -> CrowdView:
    """Draw who gets a flag. `communities`: names by number."""
    shades = shades_in([content])
    everyone = CrowdTable(
        title="In all",
        about="",
        rows=[crowd_row("Members", audience.variants, shades)],
    )
    rings = {
        ring.value: audience.rings[ring.value] for ring in RINGS if ring.value in audience.rings
    }
    labels = {ring.value: RING_LABELS[ring] for ring in Ring}
    labels[Ring.EVERYONE.value] = "Only everyone"
    tables = [everyone, _table("By ring", "Each member once, at the innermost of their rings.",
                               rings, labels, shades, by_size=False)]  # fmt: skip
    if set(audience.countries) - {""}:
        tables.append(_table("By country", "", audience.countries, {"": UNKNOWN}, shades))
    named = {"": UNKNOWN} | dict(communities)
    tables.append(_table("By community", "", audience.communities, named, shades))
    return CrowdView(
        about=f"Exact counts over {exact(audience.members)} "
        f"{'member' if audience.members == 1 else 'members'}, each asked as their feed would be.",
        legend=swatches_of(shades, audience.variants),
        tables=tables,
    )


def _table(
    title: str,
    about: str,
    cut: Mapping[str, Counts],
    labels: Mapping[str, str],
    shades: Mapping[str, str],
    *,
    by_size: bool = True,
) -> CrowdTable:
    names = sorted(cut, key=lambda name: -sum(cut[name].values())) if by_size else list(cut)
    rows = [crowd_row(labels.get(name, name), cut[name], shades) for name in names[:ROWS_MAX]]
    return CrowdTable(title=title, about=about, rows=rows, rest=max(0, len(names) - ROWS_MAX))


def kill_words(audience: Audience) -> str:
    """Say whom the kill switch would affect."""
    given = {name: count for name, count in audience.variants.items() if name and count}
    if not given:
        return f"Nobody is given a variant now: everybody has {CODE_DEFAULT} already."
    return (
        f"Takes it from everybody at once: {_listed(given)}. They get {CODE_DEFAULT}, on every "
        "server within a second. It can be switched on again as it is."
    )


def revive_words(revived: Difference) -> str:
    """Say whom a killed flag would be given to again."""
    given = {turn.variant: turn.added for turn in revived.turns if turn.variant and turn.added}
    now = f"All {exact(revived.members)} members get {CODE_DEFAULT}."
    return f"{now} Switched on again: {_listed(given)}." if given else now


def _listed(given: Mapping[str, int]) -> str:
    parts = [
        f"{exact(count)} {'gets' if count == 1 else 'get'} {name}"
        for name, count in sorted(given.items(), key=lambda pair: -pair[1])
    ]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def difference_view(
    difference: Difference, before: str, after: str, people: Mapping[str, str]
) -> DifferenceView:
    """Show whom a change adds and drops, over both definitions. `people`: names by key."""
    shades = shades_in([after, before])
    turns = {turn.variant: turn for turn in difference.turns}
    order = [name for name in shades if name in turns] + [n for n in turns if n not in shades]
    rows = [
        DifferenceRow(
            variant=name or CODE_DEFAULT,
            shade=shades.get(name, "none"),
            now=exact(turns[name].before),
            added=exact(turns[name].added),
            dropped=exact(turns[name].dropped),
            then=exact(turns[name].after),
            added_names=[people.get(key, key) for key in turns[name].added_names],
            dropped_names=[people.get(key, key) for key in turns[name].dropped_names],
        )
        for name in order
    ]
    return DifferenceView(
        about=f"Exact counts over {exact(difference.members)} members, as of now.",
        sentence=_sentence(difference),
        drops=any(turn.dropped for turn in difference.turns if shades.get(turn.variant) != "plain"
                  and turn.variant),
        rows=rows,
        bars=[
            crowd_row("Now", {name: turns[name].before for name in order}, shades),
            crowd_row("Then", {name: turns[name].after for name in order}, shades),
        ],
    )  # fmt: skip


def _sentence(difference: Difference) -> str:
    changed, members = difference.changed, difference.members
    if not changed:
        return "Nobody is given anything else."
    share = share_text(changed, members)
    parts: list[str] = []
    for turn in difference.turns:
        gains = [f"gains {exact(turn.added)}"] if turn.added else []
        losses = [f"loses {exact(turn.dropped)}"] if turn.dropped else []
        if gains or losses:
            parts.append(f"{turn.variant or CODE_DEFAULT} {' and '.join(gains + losses)}")
    verb = "is" if changed == 1 else "are"
    noun = "member" if members == 1 else "members"
    return (
        f"{exact(changed)} of {exact(members)} {noun} ({share}) {verb} given something else: "
        f"{'; '.join(parts)}."
    )
