"""How a key becomes a place among 2^32: versions that are frozen, and found by name.

Each version answers the same way in every release: a new one is a new module, and none imports
another. A definition names its own in `metadata.bucketing`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from millrace.release.flags.bucketing import v2, v3

Place: TypeAlias = Callable[[Any], int | None]
"""Where a key lies, from 0 to 2^32 - 1; None for what cannot be a key."""

DEFAULT = "v2"
METADATA_KEY = "bucketing"


class Bucketing(Struct, frozen=True):
    """One version.

    place: of a key that a rule names.
    place_of: for a flag, the place of somebody's targeting key, where a rule names no key.
    bounds: for each weight but the last, the first place beyond its share.
    """

    name: str
    place: Place
    place_of: Callable[[str], Callable[[str], int | None]]
    bounds: Callable[[Sequence[int]], list[int]]


NAMED: Mapping[str, Bucketing] = {
    version.NAME: Bucketing(
        name=version.NAME,
        place=version.place,
        place_of=version.place_of,
        bounds=version.bounds,
    )
    for version in (v2, v3)
}


def named(name: object) -> Bucketing | None:
    """Return the version of a name, None where there is no such version."""
    return NAMED.get(name) if isinstance(name, str) else None
