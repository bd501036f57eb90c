"""What nothing can be, whoever wrote it: too long, unreadable, or something that never comes. Pure."""

import re

from millrace.kernel.errors import InvalidError, TooLargeError
from millrace.release.flags import semver
from millrace.release.flags.rings import TRACKS
from millrace.release.flags.types import Terms, Wait

LIST_MAX = 1_000
TRACK = re.compile(r"[a-z][a-z0-9_-]{0,31}")
COUNTRY = re.compile(r"[A-Z]{2}")
NO_ADDRESS = re.compile(r"[/\x00-\x1f\x7f]")


def expect_limit(limit: int) -> None:
    """Refuse a stretch that is too long.

    Raises:
        InvalidError: the limit is outside its bounds.
    """
    if not 1 <= limit <= LIST_MAX:
        raise InvalidError(
            f"limit is {limit}", field="limit", value=limit, limit=f"1 to {LIST_MAX}"
        )


def expect_text(field: str, value: str, largest: int, *, needed: bool) -> None:
    """Refuse a text that is missing, too long, or that the database cannot hold.

    Raises:
        InvalidError: it is empty, or it has a character that cannot be kept.
        TooLargeError: names both lengths.
    """
    if needed and not value.strip():
        raise InvalidError(f"{field} is empty", field=field, next_step=f"give a {field}")
    if len(value) > largest:
        raise TooLargeError(
            f"{field} has {len(value):,} characters, {largest:,} are allowed",
            field=field,
            value=len(value),
            limit=largest,
            next_step="make it shorter",
        )
    if "\x00" in value or not _is_unicode(value):
        raise InvalidError(
            f"{field} has a character that cannot be kept: NUL, or half of a pair",
            field=field,
            next_step="take it out",
        )


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def expect_address(key: str) -> None:
    """Refuse a key that no address of a page or a route can name: nobody could kill that flag.

    Raises:
        InvalidError: it has a slash or a control character, or is a step in a path.
    """
    if key in {".", ".."} or NO_ADDRESS.search(key):
        raise InvalidError(
            f"a flag called {key!r} could not be reached by its address",
            field="key",
            value=key,
            limit="no slash, no control character, and neither . nor ..",
            next_step="rename it: write a full stop or a hyphen for each slash",
        )


def expect_track(track: str) -> None:
    """Refuse what cannot be a track.

    Raises:
        InvalidError: names the form.
    """
    if TRACK.fullmatch(track) is None:
        raise InvalidError(
            f"{track[:40]!r} is no track",
            field="track",
            value=track[:40],
            limit=TRACK.pattern,
            next_step="use android, ios, desktop or server",
        )


def expect_terms(terms: Terms) -> None:
    """Refuse to wait for what cannot come.

    Raises:
        InvalidError: the moment has no zone, or nobody will ever have what is waited for.
    """
    if terms.due_at is not None and terms.due_at.tzinfo is None:
        raise InvalidError(
            "due_at has no time zone",
            field="due_at",
            value=terms.due_at.isoformat(),
            next_step="add an offset, such as Z",
        )
    if terms.wait is not None:
        _expect_wait(terms.wait)


def _expect_wait(wait: Wait) -> None:
    """Refuse a share, a version or a market that nobody can have.

    Raises:
        InvalidError: names which.
    """
    if wait.track not in TRACKS:
        raise InvalidError(
            f"no versions of {wait.track[:40]!r} are noted",
            field="wait.track",
            value=wait.track[:40],
            limit=", ".join(TRACKS),
            next_step="name one of these",
        )
    if not 0 < wait.share <= 1:
        raise InvalidError(
            f"a share of {wait.share} cannot be waited for",
            field="wait.share",
            value=wait.share,
            limit="above 0, at most 1",
            next_step="0.8 stands for 80 %",
        )
    expect_version(wait.version)
    if wait.country and COUNTRY.fullmatch(wait.country) is None:
        raise InvalidError(
            f"{wait.country[:20]!r} is not the code of a country",
            field="wait.country",
            value=wait.country[:20],
            limit="two letters, as ISO 3166 has them",
            next_step="write NL, or nothing for everywhere",
        )


def expect_version(version: str) -> semver.Version:
    """Return what a version is that is waited for.

    Raises:
        InvalidError: it is none.
    """
    found = semver.parsed(version)
    if found is None:
        raise InvalidError(
            f"{version[:60]!r} is no version",
            field="wait.version",
            value=version[:60],
            next_step="write it like 9.2.0",
        )
    return found
