"""`millrace bench feed`: a member opens the feed, over HTTP, while the community lives on.

A database is filled as large as BENCH.md says. Then `millrace serve` runs in a process of its own,
with everything that it does by itself: the change stream, embedding, logging each feed durably.
This process is the members: posts and visits arrive at their rates all the time, and feeds are
asked for one by one, then without a pause (capacity), then at random moments at 60 % of it.

The peer is the same door's list of the newest posts (`GET /v1/posts`), read from SQL through the
same rule of visibility with the same number of posts: what a page costs without any ranking.

What is made up: texts, histories and vectors. The encoder is the first layer of the packaged model
with a budget of 64 tokens, so that everything around it runs as it does and two cores are not
taken by the model; `bench freshness` has the whole model. The scorer is not fitted meanwhile.
"""

from collections.abc import Callable

from msgspec import Struct

from millrace.feed import record
from millrace.feed.records.types import Record
from millrace.lab import report
from millrace.lab.filling import QUERIES, Size
from millrace.lab.measures import percentile
from millrace.lab.place import Place, place, small_encoder
from millrace.lab.serving import Usage
from millrace.lab.town_load import Arriving, Tally, reasons
from millrace.wiring import opened

CLIENTS = 6
SHARE_OF_CAPACITY = 0.6
RECORDS_MAX = 2_000


class Plan(Struct, frozen=True, kw_only=True):
    """How large and how long. Seconds of each phase; `first` ends when everybody was there."""

    size: Size
    first: float
    alone: float
    capacity: float
    loaded: float
    peer: float


FULL = Plan(
    size=Size(posts=100_000, members=2_000, authors=5_000, events=1_000),
    first=180.0, alone=30.0, capacity=30.0, loaded=60.0, peer=15.0,
)  # fmt: skip
QUICK = Plan(
    size=Size(posts=10_000, members=200, authors=500, events=1_000),
    first=12.0, alone=4.0, capacity=4.0, loaded=6.0, peer=2.0,
)  # fmt: skip


class Measured(Struct, kw_only=True):
    """What the phases gave."""

    first: Tally
    alone: Tally
    records: list[Record]
    peer: Tally
    closed: Tally
    capacity: float
    peer_capacity: float
    spent: dict[str, float]
    loaded: Tally


class RecordRow(Struct, frozen=True):
    """A logged feed."""

    record: bytes


async def run(quick: bool, seed: int, say: Callable[[str], None]) -> dict[str, object]:
    """Measure the feed.

    Args:
        quick: a tenth of the posts and members, and short phases.
        seed: of everything that is made up.
        say: told what is being waited for.

    Returns:
        The keys of BENCH.md for `feed`.
    """
    start, plan = report.begin(seed), QUICK if quick else FULL
    async with place(plan.size, seed, say, small_encoder) as found:
        async with Arriving(found.town):
            measured = await _measured(found, plan, say)
        figures = _figures(found, plan, measured)
    return report.finish(start, figures, ("torch", "granian", "litestar"))


async def _measured(found: Place, plan: Plan, say: Callable[[str], None]) -> Measured:
    town, server = found.town, found.server
    say("every member opens the feed for the first time")
    first = await town.each_once(CLIENTS, plan.first)
    say("one feed at a time")
    since = found.clock.now()
    alone = await town.one_by_one(plan.alone)
    until = found.clock.now()
    peer = await town.one_by_one(plan.peer, newest=True)
    say("as many feeds as there can be")
    before = server.usage()
    closed, capacity = await town.closed_loop(CLIENTS, plan.capacity)
    spent = _per_feed(before, server.usage(), len(closed.milliseconds))
    _, peer_capacity = await town.closed_loop(CLIENTS, plan.peer, newest=True)
    say(f"{SHARE_OF_CAPACITY:.0%} of {capacity:.0f} feeds a second")
    loaded = await town.open_loop(SHARE_OF_CAPACITY * capacity, plan.loaded)
    async with opened(found.settings) as domain, domain.router.read() as session:
        rows = await session.rows(
            QUERIES["served_between"], RecordRow, since=since, until=until, limit=RECORDS_MAX
        )
    return Measured(
        first=first,
        alone=alone,
        records=[record.decode(row.record) for row in rows],
        peer=peer,
        closed=closed,
        capacity=capacity,
        peer_capacity=peer_capacity,
        spent=spent,
        loaded=loaded,
    )


def _per_feed(before: Usage, after: Usage, feeds: int) -> dict[str, float]:
    """Return the processor milliseconds per feed, of everything that ran meanwhile."""
    return {
        name: round((getattr(after, name) - getattr(before, name)) * 1000 / max(feeds, 1), 2)
        for name in Usage.__struct_fields__
    }


def _figures(found: Place, plan: Plan, made: Measured) -> dict[str, object]:
    """Return the figures under their fixed names."""
    alone, loaded = made.alone.milliseconds, made.loaded.milliseconds
    scored = [len(one.feature_matrix()) for one in made.records]
    stages = [{line.stage: line.milliseconds for line in one.stages} for one in made.records]
    names = list(stages[0]) if stages else []
    tallies = (made.first, made.alone, made.closed, made.loaded)
    return {
        "live_posts": plan.size.posts,
        "members": plan.size.members,
        "candidates_scored": percentile(scored, 50),
        "history_length": plan.size.events,
        "feed_ms_p50": percentile(alone, 50),
        "feed_ms_p99": percentile(alone, 99),
        "loaded_ms_p50": percentile(loaded, 50),
        "loaded_ms_p99": percentile(loaded, 99),
        "capacity_per_second": round(made.capacity, 1),
        "rss_mib_peak": found.server.rss_mib_peak(),
        "stages_ms_p50": {n: percentile([one[n] for one in stages], 50, 3) for n in names},
        "first_feed_ms_p50": percentile(made.first.milliseconds, 50),
        "members_warm": len(made.first.milliseconds),
        "loaded_per_second": round(SHARE_OF_CAPACITY * made.capacity, 1),
        "feeds_measured": sum(len(one.milliseconds) for one in tallies),
        "feeds_failed": sum(one.failures for one in tallies),
        "reasons_of_failures": reasons(*tallies, found.town.writes),
        "feeds_degraded": sum(one.degraded for one in tallies),
        "posts_written": found.town.written,
        "engagements_written": found.town.engaged,
        "writes_failed": found.town.writes.failures,
        "cpu_ms_per_feed": made.spent,
        "newest_first_ms_p50": percentile(made.peer.milliseconds, 50),
        "newest_first_per_second": round(made.peer_capacity, 1),
        "vectors": "synthetic",
        "encoder": "first layer of the packaged model, 64 tokens",
    }
