"""JSON pointers (RFC 6901): where something stands in a value."""

from typing import Any, cast


def escaped(name: str) -> str:
    """Return a name as a step of a pointer, which UTF-8 can tell: half of a pair is written out."""
    return told(name).replace("~", "~0").replace("/", "~1")


def told(text: str) -> str:
    """Return a text as UTF-8 can tell it."""
    return text.encode("utf-8", "backslashreplace").decode()


def existing(value: Any, place: str) -> str:
    """Return a pointer to where something stands in a value as it was written.

    Rules are walked as if every operator had a list of arguments; `{"!": x}` has none, and there
    the step to its only argument is left out.
    """
    steps: list[str] = []
    for step in place.split("/")[1:]:
        if isinstance(value, list):
            items = cast("list[Any]", value)
            value = items[int(step)] if step.isdigit() and int(step) < len(items) else None
        elif isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            name = step.replace("~1", "/").replace("~0", "~")
            if name not in members and step == "0":
                continue
            value = members.get(name)
        else:
            break  # what a shared evaluator says stands elsewhere; here stands what refers to it
        steps.append(step)
    return "".join(f"/{step}" for step in steps)
