"""`millrace bench freshness`: how soon others see what changed, under the load of `bench feed`.

The place is that of `bench feed`, but the encoder is the whole packaged model. Posts and visits
arrive, feeds are asked for at random moments at 60 % of what the server can answer, and beside all
that a few members make changes and others watch for them (probes.py).

The peer is a page without the river: a post is looked for in the list of the newest posts, read
from SQL, beside the same load. What a feed takes longer than that is what ranking and derived state
cost.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from millrace.lab import report
from millrace.lab.filling import QUERIES, Size
from millrace.lab.measures import percentile
from millrace.lab.place import Place, packaged_encoder, place
from millrace.lab.probes import Probes, pairs_of
from millrace.lab.town_load import (
    ENGAGEMENTS_PER_VISIT,
    POSTS_PER_SECOND,
    VISITS_PER_SECOND,
    Arriving,
    Tally,
    reasons,
)
from millrace.wiring import opened

CLIENTS = 6
SHARE_OF_CAPACITY = 0.6
FEEDS_OF_PROBES = 12.0  # a second, about; they are a part of the share
LATE_MS = 10_000.0


class Plan(Struct, frozen=True, kw_only=True):
    """How large and how long. Seconds of each phase."""

    size: Size
    aside: int
    warm: float
    capacity: float
    settle: float
    loaded: float


FULL = Plan(
    size=Size(posts=100_000, members=2_000, authors=5_000, events=1_000),
    aside=200,
    warm=180.0, capacity=20.0, settle=30.0, loaded=120.0,
)  # fmt: skip
QUICK = Plan(
    size=Size(posts=10_000, members=200, authors=500, events=1_000),
    aside=40,
    warm=10.0, capacity=3.0, settle=3.0, loaded=10.0,
)  # fmt: skip


class RowMilliseconds(Struct, frozen=True):
    """How long after it was written a post had a vector."""

    milliseconds: float


class Watched(Struct, kw_only=True):
    """What the probes saw, beside which load."""

    probes: Probes
    loaded: Tally
    capacity: float
    seconds: float
    embedded: list[float]


async def run(quick: bool, seed: int, say: Callable[[str], None]) -> dict[str, object]:
    """Measure freshness.

    Args:
        quick: a tenth of the posts and members, and short phases.
        seed: of everything that is made up.
        say: told what is being waited for.

    Returns:
        The keys of BENCH.md for `freshness`.
    """
    start, plan = report.begin(seed), QUICK if quick else FULL
    async with place(plan.size, seed, say, packaged_encoder, plan.aside) as found:
        async with Arriving(found.town):
            watched = await _watched(found, plan, say)
        figures = _figures(found, plan, watched)
    return report.finish(start, figures, ("torch", "granian", "litestar"))


async def _watched(found: Place, plan: Plan, say: Callable[[str], None]) -> Watched:
    town = found.town
    half = len(found.aside) // 2
    peer, *authors = found.aside[:half]
    pairs, visitors = pairs_of(authors, found.newcomers[1:]), found.aside[half:]
    async with opened(found.settings) as domain:
        probes = Probes(town, domain.router, peer)
        async with domain.router.write() as session:
            await session.run(QUERIES["take_members_as_made"])
        say("warming up")
        await probes.prepare(pairs)
        await town.each_once(CLIENTS, plan.warm)
        say("as many feeds as there can be")
        _, capacity = await town.closed_loop(CLIENTS, plan.capacity)
        rate = max(SHARE_OF_CAPACITY * capacity - FEEDS_OF_PROBES, 1.0)
        say("letting what was put off be done")  # at full load nothing is left for vectors
        await town.open_loop(rate, plan.settle)
        say(f"watching for changes beside {rate:.0f} feeds a second")
        since = found.clock.now()
        watching = asyncio.create_task(probes.for_ever(pairs, visitors))
        loaded = await town.open_loop(rate, plan.loaded)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        async with domain.router.read() as session:
            rows = await session.rows(QUERIES["embedded_after"], RowMilliseconds, since=since)
    return Watched(
        probes=probes,
        loaded=loaded,
        capacity=capacity,
        seconds=plan.loaded,
        embedded=[row.milliseconds for row in rows],
    )


def _figures(found: Place, plan: Plan, made: Watched) -> dict[str, object]:
    """Return the figures under their fixed names; what was given up counts as the whole wait."""
    probes, town = made.probes, found.town
    posts, edits, blocks, members = (
        [*times.milliseconds, *[LATE_MS] * times.late]
        for times in (probes.posts, probes.edits, probes.blocks, probes.members)
    )
    asked = len(made.loaded.milliseconds) + len(probes.feeds.milliseconds)
    return {
        "post_visible_ms_p50": percentile(posts, 50),
        "post_visible_ms_p99": percentile(posts, 99),
        "edit_visible_ms_p99": percentile(edits, 99),
        "engagement_to_member_ms_p99": percentile(members, 99),
        "block_visible_ms_p99": percentile(blocks, 99),
        "writes_per_second": POSTS_PER_SECOND + VISITS_PER_SECOND * ENGAGEMENTS_PER_VISIT,
        "newest_first_visible_ms_p50": percentile(probes.newest.milliseconds, 50),
        "edit_visible_ms_p50": percentile(edits, 50),
        "engagement_to_member_ms_p50": percentile(members, 50),
        "block_visible_ms_p50": percentile(blocks, 50),
        "post_embedded_ms_p50": percentile(made.embedded, 50),
        "post_embedded_ms_p99": percentile(made.embedded, 99),
        "probes": {
            "posts": len(posts),
            "edits": len(edits),
            "blocks": len(blocks),
            "engagements": len(members),
        },
        "post_visible_without_feed_ms_p50": percentile(probes.posts.asked, 50),
        "post_visible_without_feed_ms_p99": percentile(probes.posts.asked, 99),
        "capacity_per_second": round(made.capacity, 1),
        "feeds_per_second": round(asked / made.seconds, 1),
        "feeds_per_second_of_probes": round(len(probes.feeds.milliseconds) / made.seconds, 1),
        "feed_ms_p50": percentile(made.loaded.milliseconds, 50),
        "feed_ms_p99": percentile(made.loaded.milliseconds, 99),
        "feeds_failed": made.loaded.failures + probes.feeds.failures,
        "writes_failed": town.writes.failures + probes.writes.failures,
        "reasons_of_failures": reasons(made.loaded, probes.feeds, town.writes, probes.writes),
        "live_posts": plan.size.posts,
        "members": plan.size.members,
        "rss_mib_peak": found.server.rss_mib_peak(),
        "vectors": "synthetic, and those of new posts and of members by the encoder",
        "encoder": "the packaged model",
    }
