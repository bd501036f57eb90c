"""A generated avatar: initials on a colour that follows from the member's key."""

import unicodedata

from msgspec import Struct

from millrace.community.types import Member
from millrace.kernel.hashing import hash64

HUES = 10  # as many as .hue-* rules in static/app.css


class Face(Struct, frozen=True):
    """What stands where a portrait would."""

    initials: str
    hue: int


def face_of(member: Member) -> Face:
    """Return the same face for the same member, always."""
    return Face(initials_of(member.display_name or member.handle), hash64(str(member.key)) % HUES)


def initials_of(name: str) -> str:
    """Return one or two capital letters of a name, or a dot when it has none."""
    words = [
        "".join(c for c in word if unicodedata.category(c)[0] in "LN") for word in name.split()
    ]
    words = [word for word in words if word]
    if not words:
        return "·"
    chosen = words[0][0] if len(words) == 1 else words[0][0] + words[-1][0]
    return chosen.upper()[:2]
