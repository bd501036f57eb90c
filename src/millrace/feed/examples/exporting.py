"""Exports examples: everything that happened, cut in one pass, checked, and put into its folder."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from millrace.community.types import Key
from millrace.feed import record
from millrace.feed.embeddings import POSITIVE
from millrace.feed.examples import leaks
from millrace.feed.examples.cutting import Cutter
from millrace.feed.examples.rows import (
    BirthRow,
    DeedRow,
    FeedRow,
    LineRow,
    Logged,
    MomentRow,
    ProfileRow,
)
from millrace.feed.examples.streams import Source, Stretch, merged
from millrace.feed.examples.types import FORMAT, Counts, ExportPlan, Manifest, Progress, Watch
from millrace.feed.examples.writing import (
    Encoding,
    Tables,
    beside,
    files,
    fingerprint_of,
    finished,
    opened,
)
from millrace.feed.features import FEATURES
from millrace.feed.prompt_lines import TEXT_MAX
from millrace.feed.prompts import v2
from millrace.feed.records.types import Record
from millrace.feed.repository import QUERIES, columns
from millrace.kernel.clock import Clock
from millrace.kernel.errors import InvalidError
from millrace.store.router import Router
from millrace.store.session import Session
from millrace.store.snapshot import frozen

HOURS_MIN, HOURS_MAX = 1.0, 30 * 24.0
TOLD_EVERY = 1_000  # moments
ASSUMED = [
    "what an import says of a post or a member is taken as true from the beginning",
    "an import's counts are those of its own engagements, impressions and follows, by time",
    "whatever was removed is nowhere in it, whatever it meant when it was there",
]


class Exported(Struct, frozen=True):
    """What an export did. changed: whether the folder is another one than before."""

    manifest: Manifest
    changed: bool


async def export(
    router: Router,
    clock: Clock,
    folder: Path,
    plan: ExportPlan,
    *,
    encoding: Encoding = "arrow",
    watch: Watch | None = None,
) -> Exported:
    """Cut everything that happened before a time into examples, and write them.

    Args:
        router: of the database; one moment of it is read.
        clock: tells when the export was made.
        folder: where they go: a new or empty folder, or one of an earlier export.
        plan: what is exported.
        encoding: of the tables.
        watch: hears how far it is.

    Raises:
        InvalidError: the plan or the folder is none.
    """
    if not HOURS_MIN <= plan.label_hours <= HOURS_MAX:
        raise InvalidError(
            f"answers are waited for {plan.label_hours:g} hours",
            field="label_hours",
            value=plan.label_hours,
            limit=f"{HOURS_MIN:g}..{HOURS_MAX:g}",
            next_step="choose a window between an hour and a month",
        )
    with beside(folder) as made:
        tables = opened(made, encoding)
        try:
            async with frozen(router) as moment, moment.read() as session:
                counts = await Pass(session, plan, tables, watch).run()
        finally:
            tables.close()
        manifest = Manifest(
            format=FORMAT,
            made_at=clock.now(),
            cut_at=plan.until,
            label_hours=plan.label_hours,
            prompt_version=v2.VERSION,
            encoding=encoding,
            tables=files(encoding),
            fingerprint=fingerprint_of(made, files(encoding)),
            counts=counts,
            feature_names=list(FEATURES),
            assumed=ASSUMED,
        )
        leaks.check_tables(made, manifest)
        return Exported(manifest, finished(made, folder, manifest))


class Pass:
    """One pass over what happened."""

    def __init__(
        self, session: Session, plan: ExportPlan, tables: Tables, watch: Watch | None
    ) -> None:
        self._session = session
        self._plan = plan
        self._tables = tables
        self._watch = watch
        self._cutter = Cutter(plan, tables)
        self._logged: dict[tuple[Key, int], Logged] = {}
        self._profiles: dict[Key, ProfileRow] = {}

    async def run(self) -> Counts:
        """Cut everything; return how much it is."""
        session, until = self._session, self._plan.until
        label = {"until": until, "hours": self._plan.label_hours, "kinds": POSITIVE}
        served = Source(session, ("open_served", "more_served"), MomentRow, self._read_records)
        visits = Source(session, ("open_visits", "more_visits"), MomentRow, self._read_profiles)
        lone = Source(session, ("open_lone", "more_lone"), MomentRow, self._read_profiles)
        births = Source(session, ("open_births", "more_births"), BirthRow)
        lines = Source(session, ("open_lines", "more_lines"), LineRow)
        deeds = Source(session, ("open_deeds", "more_deeds"), DeedRow)
        await served.open(**label)
        await visits.open(**label)
        await lone.open(**label)
        await births.open(until=until, characters=TEXT_MAX)
        await lines.open(until=until)
        await deeds.open(until=until)
        async for stretch in merged([served, visits, lone, births, lines, deeds]):
            self._take(stretch)
        unripe = await session.value(
            QUERIES["unripe_moments"], until=until, hours=self._plan.label_hours
        )
        return self._cutter.counts(int(unripe))

    def _take(self, stretch: Stretch[Any]) -> None:
        cutter = self._cutter
        for row in stretch.rows:
            match row:
                case DeedRow():
                    cutter.deed(row)
                case MomentRow():
                    self._moment(row)
                case BirthRow():
                    cutter.birth(row)
                case LineRow():
                    cutter.line(row)
                case _:
                    raise AssertionError(f"{row!r} is of no source")

    def _moment(self, row: MomentRow) -> None:
        logged = None
        if row.served_at is not None:
            logged = self._logged[row.member, row.served_feed_id]
        self._cutter.moment(row, logged, self._profiles.get(row.member))
        if self._watch is not None and self._tables.moments.count % TOLD_EVERY == 0:
            self._watch(Progress(self._tables.moments.count, _time(row.at)))

    async def _read_records(self, rows: Sequence[MomentRow]) -> None:
        """Read what was logged of some served feeds, in place of those before."""
        found = await self._session.rows(
            QUERIES["records_of_feeds"],
            FeedRow,
            feeds=[row.served_feed_id for row in rows],
            times=[row.served_at for row in rows],
            **columns((row.member for row in rows), "communities", "members"),
        )
        shown = {(row.member, row.served_feed_id): row for row in rows}
        self._logged = {
            feed.name: logged_of(record.decode(feed.record), shown[feed.name]) for feed in found
        }

    async def _read_profiles(self, rows: Sequence[MomentRow]) -> None:
        """Read what members say of themselves of whom nothing is known yet."""
        unknown = {row.member for row in rows if not self._cutter.has_profile(row.member)}
        if not unknown:
            return
        found = await self._session.rows(
            QUERIES["first_profiles"],
            ProfileRow,
            until=self._plan.until,
            characters=TEXT_MAX,
            **columns(sorted(unknown), "communities", "ids"),
        )
        left = {
            key: row for key, row in self._profiles.items() if not self._cutter.has_profile(key)
        }
        self._profiles = left | {row.key: row for row in found}


def logged_of(found: Record, row: MomentRow) -> Logged:
    """Return what a record says for examples: whose vectors chose, of what, and the features."""
    features, pooled = None, found.pooled
    if found.feature_names == list(FEATURES):
        wanted = {Key(*key) for key in zip(row.post_communities, row.post_ids, strict=True)}
        matrix = found.feature_matrix()
        features = {
            post.key: matrix[place].tolist()
            for place, post in enumerate(found.ranked)
            if post.key in wanted
        }
    return Logged(
        encoder=found.versions.get("encoder", ""),
        position=position_of(found.versions.get("member_embedding_position", "")),
        features=features,
        liked=None if pooled is None else list(zip(pooled.posts, pooled.at, strict=True)),
    )


def position_of(text: str) -> int:
    """Return a position in the log of changes as a number; -1 where there is none."""
    high, _, low = text.partition("/")
    try:
        return (int(high, 16) << 32) | int(low, 16)
    except ValueError:
        return -1


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1_000_000, UTC)
