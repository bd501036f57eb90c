"""Whether a definition may be stored: looked at against everything that stands. Pure."""

from collections.abc import Mapping
from typing import Any, cast

from millrace.release.flags import check, jsontext, reassignment
from millrace.release.flags.parts import RefusedError
from millrace.release.flags.repository import EVALUATORS, METADATA, SHARED
from millrace.release.flags.types import Problem

REF = '"$ref"'


def problems(key: str, content: str, texts: Mapping[str, str]) -> list[Problem]:
    """Return what is wrong with a definition, with places in it, grave or not.

    Args:
        key: of the flag, or of what flags share.
        content: the definition, as JSON text.
        texts: every definition that stands, by key, with what flags share.

    A sound change of a flag is also warned of where it would draw members anew.
    """
    try:
        definition = jsontext.value_of(content)
    except RefusedError as exc:
        return [Problem(exc.place, str(exc))]
    if not isinstance(definition, dict):
        return [Problem("", "a definition is a JSON object")]
    standing = document({**texts, key: content})
    if key not in SHARED:
        found = check.problems(key, cast("object", definition), standing)
        wrong = any(problem.grave for problem in found)
        return found if wrong else found + reassigned(key, texts.get(key, ""), content)
    found = check.shared_problems(standing[EVALUATORS], standing["metadata"])
    name = EVALUATORS if key == EVALUATORS else "metadata"
    mine = [_inside(problem, f"/{name}") for problem in found]
    return [problem for problem in mine if problem is not None] + _broken(key, content, texts)


def reassigned(key: str, before: str, after: str) -> list[Problem]:
    """Return a warning for each split of a flag that a change of its text would draw anew.

    None for a flag that is new or goes, and for what flags share, which gives nobody a variant.
    """
    if key in SHARED or not before or not after:
        return []
    return reassignment.reassigned(_value(before), _value(after))


def document(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return what is stored as one document, as flagd has it."""
    return {
        "flags": {key: _value(text) for key, text in texts.items() if key not in SHARED},
        EVALUATORS: _value(texts.get(EVALUATORS, "{}")),
        "metadata": _value(texts.get(METADATA, "{}")),
    }


def _broken(key: str, content: str, texts: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each flag that a change of what it refers to would break."""
    if key != EVALUATORS:
        return []
    before, after = document(texts), document({**texts, key: content})
    return [
        Problem("", f"flag {name!r} would be wrong at {problem.place or '/'}: {problem.message}")
        for name, text in texts.items()
        if name not in SHARED and REF in text
        for problem in _grave(name, after)
        if problem not in _grave(name, before)
    ]


def _grave(key: str, standing: Mapping[str, Any]) -> list[Problem]:
    found = check.problems(key, standing["flags"][key], standing)
    return [problem for problem in found if problem.grave]


def _inside(problem: Problem, prefix: str) -> Problem | None:
    """Return a problem with its place from one part of the document; None where it is elsewhere."""
    if problem.place != prefix and not problem.place.startswith(f"{prefix}/"):
        return None
    return Problem(problem.place[len(prefix) :], problem.message, grave=problem.grave)


def _value(text: str) -> Any:
    """Return the JSON of a stored text; one that cannot be read stays a text, which is refused."""
    try:
        return jsontext.value_of(text)
    except RefusedError:
        return text
