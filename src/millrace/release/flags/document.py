"""A file of flags in flagd's JSON: read with warnings instead of refusals, written as it was."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from msgspec import Struct

from millrace.release.flags import check, jsontext
from millrace.release.flags.parts import RefusedError
from millrace.release.flags.pointers import escaped
from millrace.release.flags.types import Problem

FLAGS = "flags"
EVALUATORS = "$evaluators"
METADATA = "metadata"


class Document(Struct, frozen=True):
    """What a file says. content: all of it, in its order; problems: with pointers into it."""

    content: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()

    @property
    def flags(self) -> Mapping[str, Any]:
        """Definitions by key."""
        return _part(self.content, FLAGS)

    @property
    def evaluators(self) -> Mapping[str, Any]:
        """Shared rules by name."""
        return _part(self.content, EVALUATORS)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is said of the whole set."""
        return _part(self.content, METADATA)


def read(text: str) -> Document:
    """Return what a text says. This never raises.

    What an editor would refuse is a warning here, since another evaluator may have accepted it for
    years: such a flag is brought in and, where nothing can be made of it, answers with its error.
    Grave is only what makes the whole unreadable; then there are no flags.
    """
    try:
        content = jsontext.value_of(text)
    except RefusedError as error:
        return Document({}, (Problem("", f"{error}: nothing was read"),))
    if not isinstance(content, dict):
        return Document({}, (Problem("", "a file of flags is a JSON object: nothing was read"),))
    document = Document(cast("dict[str, Any]", content))
    return Document(document.content, tuple(_problems(document)))


def written(document: Document) -> str:
    """Return a document as text, its members in the order in which they were read."""
    return jsontext.written(dict(document.content))


def _problems(document: Document) -> Iterator[Problem]:
    """Yield what is wrong with a document that can be read."""
    if not isinstance(document.content.get(FLAGS), dict):
        yield Problem("", 'there is no object "flags": nothing was read')
    for name in (EVALUATORS, METADATA):
        found = document.content.get(name, {})
        if not isinstance(found, dict):
            yield Problem(f"/{name}", f"{name} is not an object and is ignored", grave=False)
    for problem in check.shared_problems(document.evaluators, document.metadata):
        yield Problem(problem.place, problem.message, grave=False)
    for key, definition in document.flags.items():
        for problem in check.problems(key, definition, document.content):
            place = f"/{FLAGS}/{escaped(key)}{problem.place}"
            yield Problem(place, problem.message, grave=False)


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object of a document, an empty one where there is none."""
    found = content.get(name)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
