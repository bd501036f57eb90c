"""Whole files of flags, in and out: what a file would change, and the file that stands for all.

To bring the same file in again changes nothing. Every definition is kept as the text that it was,
so that what goes out is what came in.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import document, jsontext
from millrace.release.flags.book import Edit, expect_plain
from millrace.release.flags.document import Document
from millrace.release.flags.expressions import DEPENDS
from millrace.release.flags.parts import RefusedError
from millrace.release.flags.pointers import escaped, told
from millrace.release.flags.repository import EVALUATORS, METADATA, SHARED
from millrace.release.flags.types import Flag, FlagMove, Problem

PARTS = {EVALUATORS: document.EVALUATORS, METADATA: document.METADATA}
"""Under which key a part of a file is stored."""

KNOWN = frozenset({document.FLAGS, document.EVALUATORS, document.METADATA})


class Plan(Struct, frozen=True):
    """What a file would change.

    texts: definitions to be written, by key; created and changed say which they are.
    versions: that each is made from. left_out: keys that cannot be kept; problems say why.
    """

    texts: Mapping[str, str]
    versions: Mapping[str, int]
    created: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    left_out: tuple[str, ...]
    problems: tuple[Problem, ...]


class Imported(Struct, frozen=True, kw_only=True):
    """What became of a file, by key. waiting: changes that somebody has to approve first."""

    created: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    waiting: tuple[str, ...]
    left_out: tuple[str, ...]
    problems: tuple[Problem, ...]


class Exported(Struct, frozen=True):
    """A file of flags, and what other evaluators cannot do with it."""

    text: str
    problems: tuple[Problem, ...]


def planned(text: str, stands: Mapping[str, Flag]) -> Plan:
    """Return what a file would change.

    Args:
        text: of the file, in flagd's JSON.
        stands: every flag, and what flags share, by key.

    Raises:
        InvalidError: nothing in it can be read; says where.
    """
    found = document.read(text)
    grave = [problem for problem in found.problems if problem.grave]
    if grave:
        raise InvalidError(
            f"the file cannot be brought in: {grave[0].message}",
            field=grave[0].place or "file",
            next_step="mend that place; nothing was changed",
        )
    problems = [*found.problems, *_unknown(found)]
    texts: dict[str, str] = {}
    unchanged: list[str] = []
    left_out: list[str] = []
    shared, flags = _texts(text, found)
    for key in [key for key in SHARED if key in flags]:
        left_out.append(key)
        problems.append(
            Problem(_place(key), f"{key!r} is no name of a flag: left out", grave=False)
        )
        del flags[key]
    for key, written in {**shared, **flags}.items():  # before the flags that refer to it
        try:
            expect_plain(_edit(key, written))
        except InvalidError as exc:
            problems.append(Problem(_place(key), f"{exc.message}: left out", grave=False))
            left_out.append(told(key))
            continue
        if key in stands and _same(stands[key].content, written):
            unchanged.append(key)
        else:
            texts[key] = written
    return Plan(
        texts=texts,
        versions={key: stands[key].version if key in stands else 0 for key in texts},
        created=tuple(key for key in texts if key not in stands),
        changed=tuple(key for key in texts if key in stands),
        unchanged=tuple(unchanged),
        left_out=tuple(left_out),
        problems=tuple(problems),
    )


def written(flags: Iterable[Flag]) -> Exported:
    """Return the file of all flags, and of what they share, each as it was written."""
    texts = {flag.key: flag.content for flag in flags}
    whole: dict[str, Any] = {
        part: Raw(texts[key].encode()) for key, part in PARTS.items() if key in texts
    }
    own = {key: content for key, content in texts.items() if key not in SHARED}
    whole[document.FLAGS] = {key: Raw(content.encode()) for key, content in own.items()}
    message = f"only Millrace knows {DEPENDS!r}: another evaluator gives this flag's default"
    return Exported(
        text=msgspec.json.format(msgspec.json.encode(whole), indent=2).decode() + "\n",
        problems=tuple(
            Problem(_place(key), message, grave=False)
            for key, content in own.items()
            if f'"{DEPENDS}"' in content
        ),
    )


def _texts(text: str, found: Document) -> tuple[dict[str, str], dict[str, str]]:
    """Return what flags share, and the definitions, by key, as they stand in the text."""
    try:
        whole = msgspec.json.decode(text.removeprefix("\ufeff"), type=dict[str, Raw])
        flags = msgspec.json.decode(whole[document.FLAGS], type=dict[str, Raw])
        shared = {key: whole[part] for key, part in PARTS.items() if part in whole}
        return _decoded(shared), _decoded(flags)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        # Python's reader takes some more than this one: then the text is written anew.
        content = found.content
        whole = {key: content[part] for key, part in PARTS.items() if part in content}
        return _anew(whole), _anew(found.flags)


def _decoded(raws: Mapping[str, Raw]) -> dict[str, str]:
    return {key: bytes(raw).decode() for key, raw in raws.items()}


def _anew(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: jsontext.written(value) for key, value in values.items()}


def _place(key: str) -> str:
    return f"/{document.FLAGS}/{escaped(key)}"


def _unknown(found: Document) -> Iterable[Problem]:
    for name in found.content:
        if name not in KNOWN:
            message = f"{name[:80]!r} is of the whole file and is not kept"
            yield Problem(f"/{escaped(name)}", message, grave=False)


def _same(stored: str, other: str) -> bool:
    """Return whether two texts say the same, order and kinds of numbers included."""
    try:
        return jsontext.written(jsontext.value_of(stored)) == jsontext.written(
            jsontext.value_of(other)
        )
    except RefusedError:
        return stored == other


def _edit(key: str, text: str) -> Edit:
    """Return a change that is only looked at."""
    return Edit(
        key=key, move=FlagMove.IMPORT, content=text, actor="import", reason="import", version=None
    )
