"""A moment as people read it."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

STEPS = (
    (timedelta(minutes=1), timedelta(hours=1), "min"),
    (timedelta(hours=1), timedelta(days=1), "h"),
    (timedelta(days=1), timedelta(days=7), "d"),
    (timedelta(days=7), timedelta(days=35), "wk"),
)
UNITS = {name for _, _, name in STEPS}


class When(Struct, frozen=True):
    """A moment for a page: for people in short, for people in full, and for machines."""

    short: str
    full: str
    machine: str

    @property
    def past(self) -> str:
        """The same within a sentence: "5 min ago", "just now", a date as it is."""
        if self.short == "now":
            return "just now"
        return f"{self.short} ago" if self.short.split()[-1] in UNITS else self.short


def when_of(moment: datetime, now: datetime) -> When:
    """Describe a moment as seen from `now`."""
    utc = moment.astimezone(UTC)
    full = f"{utc.day} {utc:%B %Y, %H:%M} UTC"
    return When(_short(utc, now), full, utc.isoformat(timespec="seconds"))


def _short(moment: datetime, now: datetime) -> str:
    age = now - moment
    if age < timedelta(minutes=1):  # also a clock that runs a little ahead
        return "now"
    for unit, end, name in STEPS:
        if age < end:
            return f"{age // unit} {name}"
    if moment.year == now.year:
        return f"{moment.day} {moment:%b}"
    return f"{moment.day} {moment:%b %Y}"
