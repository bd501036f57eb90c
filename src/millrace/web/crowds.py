"""Who gets what, as exact counts beside bars that are drawn on the server. Pure: no reads."""

from collections.abc import Container, Mapping, Sequence

from msgspec import Struct

from millrace.release.flags.difference import CODE_DEFAULT

SHADES = 5  # colours for variants; the sixth has the first one again, and its name beside it
NEUTRAL = "plain"
ABSENT_SHADE = "none"


class Slice(Struct, frozen=True, kw_only=True):
    """How many of a row get one variant: a piece of its bar, from `left`, `width` wide, in percent."""

    variant: str
    shade: str
    members: str
    share: str
    left: str
    width: str


class CrowdRow(Struct, frozen=True, kw_only=True):
    """Members who have something in common, and what they get."""

    label: str
    members: str
    slices: list[Slice]


class CrowdTable(Struct, frozen=True, kw_only=True):
    """Rows under a title. `rest`: how many more rows there are than are shown."""

    title: str
    about: str
    rows: list[CrowdRow]
    rest: int = 0


class Swatch(Struct, frozen=True):
    """A variant and its colour."""

    variant: str
    shade: str


class CrowdView(Struct, frozen=True, kw_only=True):
    """Who gets a flag's variants: in all, by ring, by country, by community."""

    about: str
    legend: list[Swatch]
    tables: list[CrowdTable]


def exact(number: int) -> str:
    """Return a count with a sign between thousands: counts here are exact and never rounded."""
    return f"{number:,}"


def share_text(part: int, whole: int) -> str:
    """Return a part in percent; what is not all is never shown as 100, nor something as 0."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    if part in (0, whole) or percent.is_integer():
        return f"{percent:.0f} %"
    if percent < 0.01:
        return "< 0.01 %"
    digits = 2 if percent < 1 or percent > 99 else 1
    return f"{min(percent, 99.99):.{digits}f} %"


def shades_of(variants: Sequence[str], plain: str = "") -> dict[str, str]:
    """Return the colour of each variant, in the order of the definition.

    plain: the variant that changes nothing, such as `off`; it has a quiet colour.
    """
    found = {"": ABSENT_SHADE}
    loud = 0
    for variant in variants:
        found[variant] = NEUTRAL if variant == plain else str(loud % SHADES + 1)
        loud += variant != plain
    return found


def swatches_of(shades: Mapping[str, str], seen: Container[str]) -> list[Swatch]:
    """Return the legend of what is seen, in the order of the colours."""
    return [Swatch(name or CODE_DEFAULT, shade) for name, shade in shades.items() if name in seen]


def crowd_row(
    label: str, counts: Mapping[str, int], shades: Mapping[str, str], widest: int = 0
) -> CrowdRow:
    """Draw one row: the pieces lie one after the other.

    Together they fill the width, or as much of it as their sum is of `widest`.
    """
    whole = sum(counts.values())
    full = widest or whole
    order = [one for one in shades if counts.get(one)]
    order += [one for one in counts if one not in shades and counts[one]]
    slices: list[Slice] = []
    before = 0
    for variant in order:
        part = counts[variant]
        slices.append(
            Slice(
                variant=variant or CODE_DEFAULT,
                shade=shades.get(variant, ABSENT_SHADE),
                members=exact(part),
                share=share_text(part, whole),
                left=f"{100 * before / full:.3f}",
                width=f"{100 * part / full:.3f}",
            )
        )
        before += part
    return CrowdRow(label=label, members=exact(whole), slices=slices)
