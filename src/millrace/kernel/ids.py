"""Time-ordered 64-bit ids that need no sequence, so that a community can move between shards.

Layout, high to low: 41 bits of milliseconds since 2010, 22 bits that tell ids of one
millisecond apart. The sign bit stays clear, so that PostgreSQL's bigint orders them by time.
The epoch lies before the oldest community that an importer is likely to meet; 41 bits last
until 2079.
"""

from datetime import UTC, datetime, timedelta

from millrace.kernel.clock import Clock
from millrace.kernel.hashing import hash64

EPOCH = datetime(2010, 1, 1, tzinfo=UTC)
TAIL_BITS = 22
TAIL_MAX = (1 << TAIL_BITS) - 1
MILLISECONDS_MAX = (1 << 41) - 1
NODE_BITS = 10
NODE_MAX = (1 << NODE_BITS) - 1
COUNT_MAX = (1 << (TAIL_BITS - NODE_BITS)) - 1


def _milliseconds(moment: datetime) -> int:
    """Return milliseconds since the epoch, held inside the 41 bits."""
    passed = (moment - EPOCH) // timedelta(milliseconds=1)
    return min(max(passed, 0), MILLISECONDS_MAX)


def time_of(identity: int) -> datetime:
    """Return the moment that an id carries, to the millisecond."""
    return EPOCH + timedelta(milliseconds=identity >> TAIL_BITS)


def floor_at(moment: datetime) -> int:
    """Return the smallest id that could have been made at `moment`."""
    return _milliseconds(moment) << TAIL_BITS


def id_at(moment: datetime, name: str) -> int:
    """Return the id of the imported thing `name` that was made at `moment`.

    The same thing always gets the same id, so importing twice changes nothing.
    """
    return floor_at(moment) | (hash64(name) & TAIL_MAX)


class IdMaker:
    """Makes ids for one process. Two processes need two node numbers."""

    def __init__(self, clock: Clock, node: int) -> None:
        assert 0 <= node <= NODE_MAX, f"node {node} is outside 0..{NODE_MAX}"
        self._clock = clock
        self._node = node
        self._last = 0
        self._count = 0

    def next(self) -> int:
        """Return a new id, larger than every id this maker gave before."""
        moment = max(_milliseconds(self._clock.now()), self._last)
        self._count = self._count + 1 if moment == self._last else 0
        if self._count > COUNT_MAX:  # more than 4,096 in a millisecond: borrow from the next one
            moment, self._count = moment + 1, 0
        self._last = moment
        return (moment << TAIL_BITS) | (self._node << (TAIL_BITS - NODE_BITS)) | self._count
