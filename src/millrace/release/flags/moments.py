"""Moments of a rule: aware datetimes for people, whole seconds since 1970 in the JSON."""

from datetime import UTC, datetime

from millrace.kernel.errors import InvalidError


def seconds(at: datetime) -> int:
    """Return the seconds since 1970 that a rule compares `$flagd.timestamp` with.

    Raises:
        InvalidError: the moment has no time zone, or a fraction of a second.
    """
    if at.tzinfo is None or at.microsecond:
        message = f"a moment of a rule has a time zone and whole seconds, {at.isoformat()} has not"
        step = "write it as 2026-12-01T09:00:00Z"
        raise InvalidError(message, field="at", value=at.isoformat(), next_step=step)
    return int(at.timestamp())


def moment(found: object) -> datetime:
    """Return the moment that a number of seconds stands for.

    Raises:
        InvalidError: it is not a whole number of seconds, or beyond what a calendar has.
    """
    if not isinstance(found, int) or isinstance(found, bool):
        raise InvalidError(f"a moment is a whole number of seconds, not {found!r}", value=found)
    try:
        return datetime.fromtimestamp(found, UTC)
    except (OverflowError, ValueError, OSError) as exc:
        raise InvalidError(f"no calendar has the second {found}", value=found) from exc


def in_words(at: datetime) -> str:
    """Write a moment in UTC; seconds only where there are some."""
    there = at.astimezone(UTC)
    return there.strftime("%Y-%m-%d %H:%M:%S UTC" if there.second else "%Y-%m-%d %H:%M UTC")
