"""Changes one member of a definition, and leaves the rest of the text as somebody wrote it. Pure."""

import json
import re

GAP = re.compile(r"[ \t\r\n]*")
_VALUES = json.JSONDecoder()


def with_member(text: str, name: str, value: str) -> str:
    """Return a JSON object with one member set, every other character as it was.

    Args:
        text: a JSON object; anything else is a ValueError.
        name: of the member; a new one comes first.
        value: of the member, as JSON.
    """
    place = _place(text, name)
    if place is None:
        start = text.index("{") + 1
        comma = "" if _after_gap(text, start)[1] == "}" else ", "
        return f"{text[:start]}{json.dumps(name)}: {value}{comma}{text[start:]}"
    return f"{text[: place[0]]}{value}{text[place[1] :]}"


def _place(text: str, name: str) -> tuple[int, int] | None:
    """Return where the value of a member stands: of its last, which is the one that counts.

    Raises:
        ValueError: the text is not a JSON object.
    """
    at, mark = _after_gap(text, 0)
    if mark != "{":
        raise ValueError("a definition is a JSON object")
    found: tuple[int, int] | None = None
    at, mark = _after_gap(text, at + 1)
    while mark != "}":
        key, at = _VALUES.raw_decode(text, at)
        at, mark = _after_gap(text, at)
        if mark != ":" or not isinstance(key, str):
            raise ValueError(f"a member is missing its value at character {at}")
        start, _ = _after_gap(text, at + 1)
        _, end = _VALUES.raw_decode(text, start)
        if key == name:
            found = start, end
        at, mark = _after_gap(text, end)
        if mark == ",":
            at, mark = _after_gap(text, at + 1)
        elif mark != "}":
            raise ValueError(f"neither a comma nor an end at character {at}")
    return found


def _after_gap(text: str, at: int) -> tuple[int, str]:
    """Return the next place that is not white space, and what stands there."""
    gap = GAP.match(text, at)
    assert gap is not None, "a gap may be empty"
    return gap.end(), text[gap.end() : gap.end() + 1]
