"""What somebody typed into a search, as words. Pure.

Quotes keep words together, `or` offers a choice, a minus in front excludes: PostgreSQL reads them and
takes everything else as words, so that no text is an error. The last word may be unfinished.
"""

import re

from msgspec import Struct

from millrace.community import validator
from millrace.kernel.errors import InvalidError

QUERY_MAX = 200
WORDS_MAX = 20
UNFINISHED = re.compile(r"(?<![\w\"'.@/:-])(\w{2,})$")
WORD = re.compile(r"\w+")
OPERATORS = frozenset({"or", "and", "not"})

OPENING, CLOSING = "\ue000", "\ue001"
MARKS = OPENING + CLOSING
"""Two letters of no language stand around what matched, while it comes from the database."""


class Asked(Struct, frozen=True):
    """A search as the queries take it.

    words: as a search engine reads them. head: all but an unfinished last word.
    tail: that word as a beginning, in PostgreSQL's terms; empty where the last word is finished.
    begun: every word as a beginning, all of them wanted; for names.
    named: every word as a whole word of a name; for names of people elsewhere. Empty where nothing
        longer than a letter is asked for, which would be an initial.
    """

    words: str
    head: str
    tail: str
    begun: str
    named: str


class Marked(Struct, frozen=True):
    """A text with the stretches that matched, as (from, to) in characters; `to` is behind the last."""

    text: str
    ranges: list[tuple[int, int]]


def asked_words(text: str) -> Asked:
    """Read a search.

    Raises:
        InvalidError: there is no word in it, or there are too many.

    Passes on:
        InvalidError: it is empty, too long or cannot be stored.
    """
    words = validator.name("q", text, QUERY_MAX).translate(dict.fromkeys(map(ord, MARKS)))
    plain = WORD.findall(words)
    if not 1 <= len(plain) <= WORDS_MAX:
        raise InvalidError(
            f"q has {len(plain)} words",
            field="q",
            value=len(plain),
            limit=f"1 to {WORDS_MAX} words",
            next_step="search for fewer words, or for some",
        )
    last = UNFINISHED.search(words)
    unfinished = last is not None and words.count('"') % 2 == 0 and last[1].lower() not in OPERATORS
    return Asked(
        words=words,
        head=words[: last.start(1)] if last is not None and unfinished else words,
        tail=_beginning(last[1]) if last is not None and unfinished else "",
        begun=" & ".join(_beginning(word) for word in plain),
        named=" & ".join(f"'{word}':A" for word in plain) if max(map(len, plain)) > 1 else "",
    )


def marked(text: str) -> Marked:
    """Return a text without its marks, and where they stood."""
    plain: list[str] = []
    ranges: list[tuple[int, int]] = []
    length = opened = 0
    for part in re.split(f"([{MARKS}])", text):
        if part == OPENING:
            opened = length
        elif part == CLOSING:
            ranges.append((opened, length))
        else:
            plain.append(part)
            length += len(part)
    return Marked("".join(plain), ranges)


def _beginning(word: str) -> str:
    """Return a word as a beginning. It has no letter that the quotes would not hold."""
    return f"'{word}':*"
