"""How often a caller may come: the generic cell rate algorithm, one number per caller and class.

A caller may use a whole minute's requests at once, and gets them back evenly. Why this and not a
library: docs/decisions/0041. Counts live in this process; several processes allow that many times
the rate.
"""

from collections import OrderedDict
from collections.abc import Mapping

from msgspec import Struct

from millrace.kernel.clock import Clock
from millrace.kernel.errors import SetupError

WINDOW_SECONDS = 60.0
CALLERS_MAX = 100_000


class Allowance(Struct, frozen=True):
    """What a caller has left.

    allowed: whether this request may run.
    limit: requests in a window.
    remaining: requests that could follow at once.
    retry_seconds: how long until one more is allowed; 0 where one is.
    full_seconds: how long until the whole limit is back.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_seconds: float
    full_seconds: float


def decide(now: float, due: float, limit: int) -> tuple[Allowance, float]:
    """Decide about one request; return the allowance and the caller's next due time.

    `due` is when the caller's bucket is full again: each request moves it by one interval, and it
    may not lie further ahead than the window.
    """
    interval = WINDOW_SECONDS / limit
    moved = max(due, now) + interval
    if moved - now > WINDOW_SECONDS + 1e-9:
        wait = moved - now - WINDOW_SECONDS
        return _refusal(limit, wait, due - now), due
    left = int((WINDOW_SECONDS - (moved - now)) / interval + 1e-9)
    return Allowance(
        allowed=True, limit=limit, remaining=left, retry_seconds=0.0, full_seconds=moved - now
    ), moved


def _refusal(limit: int, wait: float, full: float) -> Allowance:
    return Allowance(allowed=False, limit=limit, remaining=0, retry_seconds=wait, full_seconds=full)


class Limits:
    """The callers' due times. Bounded: the callers longest away are forgotten first."""

    def __init__(self, clock: Clock, rates: Mapping[str, int], classes: list[str]) -> None:
        """Check the rates.

        Raises:
            SetupError: a class has no rate, or one below 1.
        """
        for name in classes:
            if rates.get(name, 0) < 1:
                raise SetupError(
                    f"door.rates has no usable rate for {name!r}",
                    field=f"door.rates.{name}",
                    value=rates.get(name),
                    limit="1 or more requests a minute",
                    next_step="set it in millrace.toml",
                )
        self._clock = clock
        self._rates = dict(rates)
        self._due: OrderedDict[tuple[str, str], float] = OrderedDict()

    def take(self, rate_class: str, caller: str) -> Allowance:
        """Count one request of a caller."""
        place = (rate_class, caller)
        now = self._clock.monotonic()
        allowance, due = decide(now, self._due.get(place, 0.0), self._rates[rate_class])
        self._due[place] = due
        self._due.move_to_end(place)
        while len(self._due) > CALLERS_MAX:
            self._due.popitem(last=False)
        return allowance


def headers_of(rate_class: str, allowance: Allowance) -> dict[str, str]:
    """Return the RateLimit headers of the IETF draft, as structured fields."""
    full = max(1, round(allowance.full_seconds + 0.499))
    return {
        "ratelimit-policy": f'"{rate_class}";q={allowance.limit};w={WINDOW_SECONDS:.0f}',
        "ratelimit": f'"{rate_class}";r={allowance.remaining};t={full}',
    }
