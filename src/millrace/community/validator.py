"""Every text, list, date and choice that comes in passes here, once.

Each check returns the cleaned value: trimmed, a single line with single spaces where it is a line,
and without the control characters that move a terminal's cursor or turn the letters beside them
around, or marks by the hundred on one letter. Cleaning is stable, so that the same input twice changes nothing.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TypeVar
from unicodedata import category
from urllib.parse import urlsplit

from millrace.community.languages import code_of
from millrace.community.types import (
    FUTURE_SECONDS_MAX,
    LINK_MAX,
    LIST_MAX,
    WORD_MAX,
)
from millrace.kernel.errors import InvalidError, TooLargeError

E = TypeVar("E", bound=StrEnum)

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
INTEGER_MAX = (1 << 31) - 1
COUNT_MAX = 10**15
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}")
COUNTRY = re.compile(r"[A-Z]{2}")
HANDLE = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")

CONTROLS = {code: " " for code in (*range(1, 32), *range(127, 160)) if chr(code) not in "\t\n\r"}
"""Control characters become spaces. NUL is not among them: it is refused."""

TURNING = dict.fromkeys((*range(8234, 8239), *range(8294, 8298)))
"""Marks that turn the order of letters, also of those after the text: dropped from lines."""

STACK_MAX = 8
"""Marks on one letter: more than any script writes, and too few to paint over the lines around."""


WIDTHLESS = "\u200b-\u200f\u2060-\u2064\ufeff\U000e0100-\U000e01ef"
"""Has no width of its own, and would hide a stack between its marks."""


@cache
def _stacked() -> re.Pattern[str]:
    """Return what finds more marks on one letter than are kept; made for the first that is needed."""
    plane = map(chr, range(0x300, 0x10000))  # further ones make the search ten times as slow
    marks = "".join(letter for letter in plane if category(letter) in {"Mn", "Me"})
    return re.compile(f"([{marks}{WIDTHLESS}]{{{STACK_MAX}}})[{marks}{WIDTHLESS}]+")


def _encodable(field: str, value: str) -> str:
    """Refuse what PostgreSQL and UTF-8 cannot hold; replace control characters.

    Raises:
        InvalidError: NUL or a lone surrogate is in it.
    """
    if "\x00" in value:
        raise InvalidError(
            f"{field} contains a NUL character",
            field=field,
            value=value[:60],
            limit="text without U+0000",
            next_step="remove the NUL character",
        )
    if value.isascii():  # has no surrogates, and is most of what comes in
        return value.translate(CONTROLS)
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidError(
            f"{field} contains half of a surrogate pair",
            field=field,
            value=ascii(value[:60]),
            limit="valid Unicode",
            next_step="send the text as valid UTF-8",
        )
    return value.translate(CONTROLS)


def _unstacked(text: str) -> str:
    """Keep a few marks of each letter, where a text stacks them over its neighbours."""
    return text if text.isascii() else _stacked().sub(r"\1", text)


def _bounded(field: str, value: str, length_max: int) -> str:
    """Refuse what is too long.

    Raises:
        TooLargeError: names the length and the limit.
    """
    if len(value) > length_max:
        raise TooLargeError(
            f"{field} has {len(value):,} characters, {length_max:,} are allowed",
            field=field,
            value=len(value),
            limit=length_max,
            next_step="shorten the text",
        )
    return value


def _present(field: str, value: str) -> str:
    """Refuse what is empty.

    Raises:
        InvalidError: there is nothing in it.
    """
    if value and _is_plain(value):
        return value
    if not any(letter.isprintable() and not letter.isspace() for letter in value):
        raise InvalidError(
            f"{field} is empty",
            field=field,
            value="",
            limit="at least one visible character",
            next_step=f"fill in {field}",
        )
    return value


def line(field: str, value: str, length_max: int) -> str:
    """Clean a text of one line; it may be empty.

    Passes on:
        InvalidError: NUL or a lone surrogate is in it, or it is too long.
    """
    if _is_plain(value):
        return _bounded(field, value, length_max)
    text = _unstacked(_encodable(field, value).translate(TURNING))
    return _bounded(field, " ".join(text.split()), length_max)


def _is_plain(value: str) -> bool:
    """Tell whether there is nothing to clean: ids and words mostly, by the million in imports."""
    return value.isascii() and value.isprintable() and " " not in value


def name(field: str, value: str, length_max: int) -> str:
    """Clean a text of one line that must not be empty.

    Passes on:
        InvalidError: as for a line, or nothing is left.
    """
    return _present(field, line(field, value, length_max))


def prose(field: str, value: str, length_max: int) -> str:
    """Clean a text of many lines; it may be empty.

    Passes on:
        InvalidError: NUL or a lone surrogate is in it, or it is too long.
    """
    text = _unstacked(_encodable(field, value)).replace("\r\n", "\n").replace("\r", "\n")
    return _bounded(field, text.strip(), length_max)


def body(field: str, value: str, length_max: int) -> str:
    """Clean a text of many lines that must not be empty.

    Passes on:
        InvalidError: as for prose, or nothing is left.
    """
    return _present(field, prose(field, value, length_max))


def words(
    field: str, values: Sequence[str], count_max: int, length_max: int = WORD_MAX
) -> list[str]:
    """Clean a list of short texts: no empty one, none twice, the order kept.

    Raises:
        TooLargeError: there are too many.

    Passes on:
        InvalidError: a word is wrong.
    """
    if len(values) > count_max:
        raise TooLargeError(
            f"{field} has {len(values):,} entries, {count_max:,} are allowed",
            field=field,
            value=len(values),
            limit=count_max,
            next_step="send fewer entries",
        )
    cleaned = (line(f"{field}[{place}]", value, length_max) for place, value in enumerate(values))
    return list(dict.fromkeys(word for word in cleaned if word))


def link(field: str, value: str) -> str:
    """Clean an address of the web; it may be empty.

    Raises:
        InvalidError: it is no http or https address, carries a password, or is too long.
    """
    address = _bounded(field, _encodable(field, value).strip(), LINK_MAX)
    if not address or _is_web(address):
        return address
    raise InvalidError(
        f"{field} {address[:60]!r} is not an address of the web",
        field=field,
        value=address[:60],
        limit="http:// or https:// with a host, without a user name or spaces",
        next_step="send a whole address, for example https://example.org/page",
    )


def _is_web(address: str) -> bool:
    if any(letter.isspace() or not letter.isprintable() for letter in address):
        return False
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    named = bool(parts.hostname) and "@" not in parts.netloc and "\\" not in address
    return parts.scheme in ("http", "https") and named and port != 0


def language(field: str, value: str) -> str:
    """Clean a language tag such as `en` or `pt-BR`; a common name such as `German` becomes one.

    Raises:
        InvalidError: it has another form.
    """
    tag = line(field, value, WORD_MAX)
    head, dash, rest = (code_of(tag) or tag).partition("-")
    tag = head.lower() + dash + rest
    if LANGUAGE.fullmatch(tag):
        return tag
    raise InvalidError(
        f"{field} {tag!r} is not a language tag",
        field=field,
        value=tag,
        limit="two or three letters, then parts joined by '-'",
        next_step="send a tag such as en, de or pt-BR",
    )


def country(field: str, value: str) -> str:
    """Clean the code of a country such as `NL`; empty for unknown.

    Raises:
        InvalidError: it has another form.
    """
    code = line(field, value, WORD_MAX).upper()
    if not code or COUNTRY.fullmatch(code):
        return code
    raise InvalidError(
        f"{field} {code!r} is not the code of a country",
        field=field,
        value=code,
        limit="two letters, as ISO 3166 has them",
        next_step="send a code such as NL, or leave it out",
    )


def languages(field: str, values: Sequence[str], count_max: int) -> list[str]:
    """Clean a list of language tags.

    Passes on:
        InvalidError: a tag is wrong, or there are too many.
    """
    tags = words(field, values, count_max)
    return list(dict.fromkeys(language(f"{field}[{place}]", tag) for place, tag in enumerate(tags)))


def handle(field: str, value: str, length_max: int) -> str:
    """Clean a handle: small letters, digits, and `.`, `_` or `-` between them.

    Raises:
        InvalidError: it has another form or is too long.
    """
    text = name(field, value, length_max).lower()
    if HANDLE.fullmatch(text):
        return text
    raise InvalidError(
        f"{field} {text!r} is not a handle",
        field=field,
        value=text,
        limit="a to z and 0 to 9, with '.', '_' or '-' between them",
        next_step="leave the handle empty to get one made",
    )


def choice(field: str, value: str, among: type[E]) -> E:
    """Return the member of `among` that `value` names.

    Raises:
        InvalidError: there is none; names those that exist.
    """
    try:
        return among(value)
    except ValueError as exc:
        known = ", ".join(among)
        raise InvalidError(
            f"{field} {str(value)[:60]!r} is unknown",
            field=field,
            value=str(value)[:60],
            limit=known,
            next_step=f"send one of: {known}",
        ) from exc


def moment(field: str, value: datetime | None, now: datetime) -> datetime:
    """Return a moment in UTC, `now` where there is none.

    Raises:
        InvalidError: it has no time zone, lies before 1970, or ahead of the clock.
    """
    if value is None:
        return now
    if value.tzinfo is None:
        raise InvalidError(
            f"{field} {value.isoformat()} has no time zone",
            field=field,
            value=value.isoformat(),
            limit="a date with a time zone",
            next_step="add Z or an offset such as +02:00",
        )
    latest = now + timedelta(seconds=FUTURE_SECONDS_MAX)
    if EARLIEST <= value <= latest:
        return value.astimezone(UTC)
    raise InvalidError(
        f"{field} {value.isoformat()} is not between 1970 and now",
        field=field,
        value=value.isoformat(),
        limit=f"1970 to {FUTURE_SECONDS_MAX} s ahead of {now.isoformat(timespec='seconds')}",
        next_step="check the date and the clock that made it",
    )


def number(field: str, value: int, largest: int = INTEGER_MAX) -> int:
    """Return a whole number from 0 to `largest`.

    Raises:
        InvalidError: it lies outside.
    """
    if 0 <= value <= largest:
        return value
    raise InvalidError(
        f"{field} {value} is outside 0 to {largest}",
        field=field,
        value=value,
        limit=f"0 to {largest}",
        next_step=f"send {field} within the limit",
    )


def searchable(value: str, length_max: int = 400) -> str:
    """Return a text that PostgreSQL takes as a parameter, for looking something up.

    What PostgreSQL cannot hold cannot be there either, so it is replaced by a mark that no stored
    name contains.
    """
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()[:length_max]


def limit(value: int) -> int:
    """Return the length of a list that is asked for.

    Raises:
        InvalidError: it lies outside 1 to LIST_MAX.
    """
    if 1 <= value <= LIST_MAX:
        return value
    raise InvalidError(
        f"limit {value} is outside 1 to {LIST_MAX}",
        field="limit",
        value=value,
        limit=f"1 to {LIST_MAX}",
        next_step="ask for a shorter list and continue it with the cursor",
    )
