"""SQL lives in .sql files, each query named and described.

A file holds blocks of this form; the description is for people, the text runs as it stands:

    -- name: post_by_key
    -- One post, removed or not.
    select ... where post_id = %(post_id)s
"""

import re
from functools import lru_cache
from importlib import resources
from typing import LiteralString, cast

from msgspec import Struct

NUMBERED_MAX = 2_000  # statements; a program has some hundreds
PLACE = re.compile(r"%(?:\((\w+)\)s|(%)|(.?))", re.DOTALL)
HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Query(Struct, frozen=True):
    """One named statement."""

    name: str
    description: str
    text: LiteralString


@lru_cache(maxsize=NUMBERED_MAX)
def numbered(query: Query) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement as the server reads it, $1 for the first value, and the values' names.

    A percent sign that stands for nothing is a ValueError; a plain one is written twice.
    """
    names: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        name, plain, wrong = found.groups()
        if name:
            return f"${names.setdefault(name, len(names) + 1)}"
        if plain:
            return "%"
        raise ValueError(f"query {query.name!r} has a % before {wrong!r}: write %%")

    text = PLACE.sub(place, query.text)
    return text.encode(), tuple(names)


class Queries:
    """The named queries of one room. An unknown name fails when the room is imported or built."""

    def __init__(self, room: str, queries: dict[str, Query]) -> None:
        self._room = room
        self._queries = queries

    def __getitem__(self, name: str) -> Query:
        try:
            return self._queries[name]
        except KeyError:
            known = ", ".join(sorted(self._queries))
            raise LookupError(f"{self._room} has no query {name!r}; it has: {known}") from None

    def names(self) -> list[str]:
        """Return the names of all queries, sorted."""
        return sorted(self._queries)


def parse(text: str) -> dict[str, Query]:
    """Split the text of a .sql file into its named queries.

    Raises:
        ValueError: a name occurs twice or a query has no text; names it.
    """
    parts = HEADER.split(text)
    found: dict[str, Query] = {}
    for name, block in zip(parts[1::2], parts[2::2], strict=True):
        lines = block.strip("\n").split("\n")
        described = [line for line in lines if line.startswith("--")]
        body = "\n".join(line for line in lines if not line.startswith("--")).strip()
        if name in found:
            raise ValueError(f"query {name!r} is defined twice")
        if not body:
            raise ValueError(f"query {name!r} has no text")
        about = " ".join(line.removeprefix("--").strip() for line in described)
        # The text comes from our own package data, never from input.
        found[name] = Query(name, about, cast(LiteralString, body.rstrip(";")))
    return found


def load(room: str) -> Queries:
    """Load every .sql file under the room's `sql` folder, for example `load("millrace.feed")`.

    Raises:
        ValueError: two files of the room have a query of the same name; names it.
    """
    found: dict[str, Query] = {}
    for file in sorted((resources.files(room) / "sql").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".sql"):
            read = parse(file.read_text(encoding="utf-8"))
            if twice := found.keys() & read.keys():
                raise ValueError(f"{file.name} of {room} defines {sorted(twice)} a second time")
            found |= read
    return Queries(room, found)
