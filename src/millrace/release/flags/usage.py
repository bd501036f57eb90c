"""How often each flag is evaluated: counted in memory, added to the table now and then.

A process that is killed takes with it what it had not added.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from millrace.kernel.clock import Clock
from millrace.release.flags.jsontext import is_kept
from millrace.release.flags.repository import QUERIES
from millrace.release.flags.types import ErrorCode, Resolution, Usage
from millrace.store.router import Router
from millrace.store.session import document

logger = logging.getLogger(__name__)

LINES_MAX = 5_000  # that are added in one statement


class Line(Struct, frozen=True):
    """What is added to one row."""

    flag_key: str
    day: date
    variant: str
    evaluations: int
    errors: int
    last_at: datetime


class LastUse(Struct, frozen=True):
    """When a flag was last evaluated."""

    key: str
    at: datetime


class UsageBook:
    """Counts evaluations. `counts` is public, so that a count costs no call."""

    def __init__(self, *, router: Router, clock: Clock, days: int) -> None:
        """Keep `days` of counts."""
        self._router = router
        self._clock = clock
        self._days = days
        self._cleared: date | None = None
        self.counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        """By flag and variant, since the last time that they were added to the table."""
        self.errors: defaultdict[str, int] = defaultdict(int)
        """By flag; these are not in `counts`."""
        self.lost = 0
        """Evaluations since the start whose variant no table can hold."""
        self.failures: defaultdict[str, int] = defaultdict(int)
        """Evaluations that failed since the start, by flag; unknown flags are counted as one."""

    def fail(self, found: Resolution) -> None:
        """Count an evaluation that failed. An unknown key is counted without its name: anybody can
        think of another one."""
        key = "" if found.error is ErrorCode.FLAG_NOT_FOUND else found.key
        self.failures[key] += 1
        if key:
            self.errors[key] += 1

    async def flush(self) -> None:
        """Add what was counted to the table; where that fails it is counted still."""
        counts, errors = dict(self.counts), dict(self.errors)
        self.counts.clear()  # and not another one: whoever counts holds it
        self.errors.clear()
        now = self._clock.now()
        day = now.astimezone(UTC).date()
        lines = [Line(key, day, variant, n, 0, now) for (key, variant), n in counts.items()]
        lines += [Line(key, day, "", n, n, now) for key, n in errors.items()]
        lines = self._writable(lines)
        try:
            await self._add(_merged(lines))
        except BaseException:
            self._take_back(counts, errors)
            raise
        if lines and self._cleared != day:
            async with self._router.write() as session:
                before = day - timedelta(days=self._days)
                await session.run(QUERIES["forget_usage"], before=before)
            self._cleared = day

    def _writable(self, lines: list[Line]) -> list[Line]:
        """Return the lines that a table can hold: another would hold up all, for ever."""
        kept = [line for line in lines if is_kept(line.flag_key) and is_kept(line.variant)]
        if len(kept) < len(lines):
            lost = sum(line.evaluations for line in lines) - sum(x.evaluations for x in kept)
            self.lost += lost
            logger.warning("%d evaluations of variants that cannot be kept are not counted", lost)
        return kept

    async def _add(self, lines: list[Line]) -> None:
        if not lines:
            return
        async with self._router.write() as session:
            for start in range(0, len(lines), LINES_MAX):
                part = document(lines[start : start + LINES_MAX])
                await session.run(QUERIES["add_usage"], lines=part)

    def _take_back(self, counts: Mapping[tuple[str, str], int], errors: Mapping[str, int]) -> None:
        for place, count in counts.items():
            self.counts[place] += count
        for key, count in errors.items():
            self.errors[key] += count

    async def of(self, key: str | None) -> list[Usage]:
        """Return how often a flag was evaluated in all processes, or each; newest day first."""
        async with self._router.read() as session:
            return await session.rows(QUERIES["usage"], Usage, key=key)

    async def last(self) -> dict[str, datetime]:
        """Return when each flag was last evaluated, in any process."""
        async with self._router.read() as session:
            found = await session.rows(QUERIES["last_evaluated"], LastUse)
        return {line.key: line.at for line in found}


def _merged(lines: list[Line]) -> list[Line]:
    """Return one line per row: a statement may not touch a row twice."""
    found: dict[tuple[str, str], Line] = {}
    for line in lines:
        place = (line.flag_key, line.variant)
        other = found.get(place)
        if other is not None:
            line = Line(
                line.flag_key,
                line.day,
                line.variant,
                line.evaluations + other.evaluations,
                line.errors + other.errors,
                line.last_at,
            )
        found[place] = line
    return sorted(found.values(), key=lambda line: (line.flag_key, line.variant))
