"""What a decision may look at: what the server knows goes over what a client claims.

A ring is never believed, and neither is the community or the market of a member whom we know.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from millrace.community.types import BIGINT_MAX, Key
from millrace.release.flags.rings import TRACKS, RingBook
from millrace.release.flags.types import TARGETING_KEY, Context, Ring

TRACK = "server"
"""Of whoever names none: a browser, or another service."""

MEMBER = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
CLAIMS = ("appVersion", "platform", "language", "track")
"""What nobody knows better than the client; a ring's rule may go by it. By anything else that a
client says of itself no ring opens, for it could say `employee: true`."""

MARKET = ("community", "country")


class App(Struct, frozen=True, kw_only=True):
    """With what a member comes."""

    track: str = TRACK
    version: str = ""
    platform: str = ""
    language: str = ""


NO_APP = App()
NOTHING: Mapping[str, Any] = {}


def member_of(context: Context, countries: Mapping[int, str]) -> Key | None:
    """Return the member whom a context names; None where it is nobody of a community of ours."""
    name = context.get(TARGETING_KEY)
    found = MEMBER.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return None
    community, member = int(found[1]), int(found[2])
    return Key(community, member) if community in countries and member <= BIGINT_MAX else None


def of_member(member: Key, app: App, country: str) -> dict[str, Any]:
    """Return what is known of a member, without rings; what is not known is left out."""
    known: dict[str, Any] = {
        TARGETING_KEY: str(member),
        "track": app.track,
        "community": str(member.community_id),
    }
    said = {
        "country": country,
        "appVersion": app.version,
        "platform": app.platform,
        "language": app.language,
    }
    known.update((name, value) for name, value in said.items() if value)
    return known


def enriched(
    context: Context, rings: RingBook, countries: Mapping[int, str], *, trusted: bool
) -> dict[str, Any]:
    """Return a client's context with what the server knows over it.

    Args:
        context: as it came.
        rings: who is in which.
        countries: of every community.
        trusted: whether rings may go by everything in it, because no client wrote it.
    """
    known = dict(context)
    known.pop("ring", None)
    member = member_of(context, countries)
    if member is not None:
        known["community"] = str(member.community_id)
        if country := countries[member.community_id]:
            known["country"] = country
    with_rings(known, rings, (*CLAIMS, *MARKET) if member is not None else CLAIMS, trusted=trusted)
    return known


def with_rings(
    context: dict[str, Any], rings: RingBook, names: tuple[str, ...], *, trusted: bool
) -> None:
    """Put the rings into a context.

    Args:
        context: has everything else.
        rings: who is in which.
        names: what of the context they may go by.
        trusted: whether they may go by all of it.
    """
    name, track = context.get(TARGETING_KEY), context.get("track")
    if isinstance(name, str) and name:
        attributes: Context = context
        if not trusted:
            attributes = {each: context[each] for each in names if each in context}
            track = track if track in TRACKS else TRACK  # each draws anew who is in its percentages
        track = track if isinstance(track, str) and track else TRACK
        context["rings"] = rings.rings(track, name, attributes)
    else:
        context["rings"] = [Ring.EVERYONE.value]
    context["ring"] = context["rings"][0]
