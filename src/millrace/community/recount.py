"""Numbers that can be made from rows: thrown away and made anew, or compared with what there is.

Counting holds the counters of a stretch first and counts then, so it may run beside writers: one
that has inserted its row and not moved its counter yet waits, and moves it afterwards.
"""

from msgspec import Struct

from millrace.community.intake import QUERIES
from millrace.community.percentiles import RATE_PRIOR_VIEWS, Percentiles
from millrace.community.types import Key
from millrace.store.queries import load
from millrace.store.router import Router

STORE = load("millrace.store")
STRETCH = 10_000
"""Counters that are held at a time: each stretch reads the logs once."""


class Difference(Struct, frozen=True):
    """One thing that is not what a rebuild would make it."""

    key: str
    field: str
    live: str
    rebuilt: str


class Compared(Struct, frozen=True, kw_only=True):
    """What became of one comparison.

    differing: how many of those compared; `first` has some of them.
    waiting: how many are known to be out of date, and were not compared.
    """

    part: str
    compared: int
    differing: int = 0
    waiting: int = 0
    first: list[Difference] = []


class DifferenceRow(Struct, frozen=True):
    """A number that differs, and how many do in all."""

    community_id: int
    id: int
    field: str
    live: str
    rebuilt: str
    differing: int


class HeldRow(Struct, frozen=True):
    """The key of a counter."""

    community_id: int
    id: int


class TotalsRow(Struct, frozen=True):
    """How much there is to compare."""

    posts: int
    members: int
    scales: int


class Recount:
    """Makes counters and scales anew, or compares them."""

    def __init__(self, *, router: Router, percentiles: Percentiles) -> None:
        self._router = router
        self._percentiles = percentiles

    async def counters(self) -> int:
        """Make all counters from the rows; return how many were wrong."""
        changed = 0
        for hold, recount in (
            ("hold_post_counters", "recount_posts"),
            ("hold_member_counters", "recount_members"),  # from the counters of their posts
        ):
            after: Key | None = Key(0, 0)
            while after is not None:
                async with self._router.write() as session:
                    await session.run(STORE["unhurried"])  # each stretch reads whole logs
                    rows = await session.rows(
                        QUERIES[hold],
                        HeldRow,
                        community_id=after.community_id,
                        id=after.id,
                        limit=STRETCH,
                    )
                    changed += await session.run(
                        QUERIES[recount],
                        communities=[row.community_id for row in rows],
                        ids=[row.id for row in rows],
                    )
                last = rows[-1] if len(rows) == STRETCH else None
                after = None if last is None else Key(last.community_id, last.id)
        return changed

    async def scales(self) -> None:
        """Throw the scales of percentiles away, and make them anew."""
        async with self._router.write() as session:
            for query in ("drop_scales", "drop_marks"):
                await session.run(QUERIES[query])
        await self._percentiles.refresh()

    async def compared(self) -> list[Compared]:
        """Compare every counter with the rows, and the scales with the counters. Writes nothing."""
        async with self._router.read() as session:
            totals = await session.row(QUERIES["counted_rows"], TotalsRow)
            assert totals is not None, "a select without a table has one row"
            posts = await session.rows(QUERIES["post_counters_differ"], DifferenceRow)
            members = await session.rows(QUERIES["member_counters_differ"], DifferenceRow)
            scales = await session.rows(
                QUERIES["scales_differ"], DifferenceRow, prior_views=RATE_PRIOR_VIEWS
            )
            still = int(await session.value(QUERIES["scales_still"]) or 0)
        return [
            _compared("counters of posts", totals.posts, posts),
            _compared("counters of members", totals.members, members),
            _compared("percentile scales", still, scales, waiting=totals.scales - still),
        ]


def _compared(part: str, total: int, rows: list[DifferenceRow], *, waiting: int = 0) -> Compared:
    return Compared(
        part=part,
        compared=total,
        differing=rows[0].differing if rows else 0,
        waiting=waiting,
        first=[
            Difference(
                key=f"{row.community_id}-{row.id}" if row.id else str(row.community_id),
                field=row.field,
                live=row.live[:200],
                rebuilt=row.rebuilt[:200],
            )
            for row in rows
        ],
    )
