"""A folder of examples from a data set in memory, cut by the exporter's own cutter.

What `millrace train export` makes of an installation that imported the same, without one: for
measurements and evaluations that need examples of many towns. Ids are places in the data set.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from millrace.community.types import Action
from millrace.feed.examples.cutting import FOLLOW, SHOWN, Cutter
from millrace.feed.examples.rows import BirthRow, DeedRow, MomentRow, ProfileRow
from millrace.feed.examples.types import FORMAT, ExportPlan, Instant, Manifest
from millrace.feed.examples.writing import beside, files, fingerprint_of, finished, opened
from millrace.feed.features import FEATURES
from millrace.feed.prompts import v2
from millrace.lab.dataset import Dataset, Named

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
VISIT = 30 * 60 * 1_000_000  # microseconds; what is shown within one half hour is one moment

Row: TypeAlias = BirthRow | DeedRow | MomentRow
Pair: TypeAlias = tuple[Named, Named]


def write_examples(data: Dataset, plan: ExportPlan, folder: Path) -> Path:
    """Write the examples of a data set; return their folder.

    Args:
        data: what happened.
        plan: up to when, and how much of a member's past stands beside a moment.
        folder: a new or empty one, or one of earlier examples.
    """
    happened = _Happened(data, plan)
    with beside(folder) as made:
        tables = opened(made, "arrow")
        cutter = Cutter(plan, tables)
        for row in happened.rows():
            if isinstance(row, MomentRow):
                cutter.moment(row, None, happened.profiles[row.community_id, row.member_id])
            elif isinstance(row, BirthRow):
                cutter.birth(row)
            else:
                cutter.deed(row)
        tables.close()
        manifest = Manifest(
            format=FORMAT,
            made_at=plan.until,
            cut_at=plan.until,
            label_hours=plan.label_hours,
            prompt_version=v2.VERSION,
            encoding="arrow",
            tables=files("arrow"),
            fingerprint=fingerprint_of(made, files("arrow")),
            counts=cutter.counts(happened.unripe),
            feature_names=list(FEATURES),
            assumed=["a data set in memory, as an import would have brought it"],
        )
        finished(made, folder, manifest)
    return folder


class _Happened:
    """What happened, as the rows that the exporter reads from its tables."""

    def __init__(self, data: Dataset, plan: ExportPlan) -> None:
        self._data = data
        self._until = _instant(plan.until)
        self._label = int(plan.label_hours * 3_600_000_000)
        self._homes = {one.external_id: place for place, one in enumerate(data.communities)}
        self._members = {(home, one.external_id): at for at, (home, one) in enumerate(data.members)}
        self._posts = {(home, one.external_id): at for at, (home, one) in enumerate(data.posts)}
        self.profiles = dict(self._profiles())
        self.unripe = 0

    def rows(self) -> list[Row]:
        """Return everything in the order of time; at the same time moments, births, deeds."""
        told: list[tuple[Instant, int, Row]] = [(one.at, 0, one) for one in self._moments()]
        told += [(one.at, 1, one) for one in self._births()]
        told += [(one.at, 2, one) for one in self._deeds()]
        told.sort(key=lambda one: one[:2])
        return [row for at, _, row in told if at < self._until]

    def _profiles(self) -> Iterator[tuple[tuple[int, int], ProfileRow]]:
        for place, (home, one) in enumerate(self._data.members):
            row = ProfileRow(
                community_id=self._homes[home],
                member_id=place,
                display_name=one.display_name,
                headline=one.headline,
                about=one.about,
                skills=one.skills,
                place=one.place,
                languages=one.languages,
                said=None,
            )
            yield (row.community_id, place), row

    def _births(self) -> Iterator[BirthRow]:
        names = {one.external_id: one.name for one in self._data.communities}
        first = min(one.created_at for _, one in self._data.posts if one.created_at is not None)
        for place, (home, one) in enumerate(self._data.posts):
            author = self._members.get((home, one.author), -1)
            who = self._data.members[author][1] if author >= 0 else None
            yield BirthRow(
                at=_instant(one.created_at or first),
                community_id=self._homes[home],
                post_id=place,
                author_id=author,
                kind=one.kind.value,
                title=one.title,
                text=one.text,
                topics=one.topics,
                author_name=who.display_name if who else "",
                headline=who.headline if who else "",
                community_name=names[home],
                said=None,
            )

    def _deeds(self) -> Iterator[DeedRow]:
        data = self._data
        for home, one in data.impressions:
            yield from self._deed(home, one.member, one.post, SHOWN, one.shown_at)
        for home, one in data.engagements:
            yield from self._deed(home, one.member, one.post, one.kind.value, one.happened_at)
        for home, one in data.comments:
            if one.created_at is not None:
                kind = Action.COMMENT.value
                yield from self._deed(home, one.author, one.post, kind, one.created_at)
        for home, one in data.follows:
            who, whom = self._members.get((home, one.member)), self._members.get((home, one.target))
            if who is not None and whom is not None and one.created_at is not None:
                place, at = self._homes[home], _instant(one.created_at)
                yield DeedRow(at, place, who, place, whom, FOLLOW)

    def _deed(
        self, home: str, member: str, post: str, deed: str, at: datetime
    ) -> Iterator[DeedRow]:
        who, what = self._members.get((home, member)), self._posts.get((home, post))
        if who is not None and what is not None:
            place = self._homes[home]
            yield DeedRow(_instant(at), place, who, place, what, deed)

    def _moments(self) -> Iterator[MomentRow]:
        """Yield visits whose answers are complete, then engagements that no impression goes before."""
        liked: dict[Pair, list[Instant]] = defaultdict(list)
        for at, member, post in self._data.positives():
            liked[member, post].append(_instant(at))
        visits: dict[tuple[Named, int], dict[Named, tuple[Instant, int]]] = defaultdict(dict)
        first_shown: dict[Pair, Instant] = {}
        for home, one in self._data.impressions:
            member, post, at = (home, one.member), (home, one.post), _instant(one.shown_at)
            posts = visits[member, at // VISIT]
            earliest, place = posts.get(post, (at, one.position))
            posts[post] = (min(earliest, at), min(place, one.position))
            first_shown[member, post] = min(first_shown.get((member, post), at), at)
        for (member, _), posts in visits.items():
            yield from self._visit(member, posts, liked)
        for (member, post), times in liked.items():
            if first_shown.get((member, post), self._until) > times[0]:
                yield from self._moment(member, {post: (times[0], -1)}, [True], times[0])

    def _visit(
        self,
        member: Named,
        posts: dict[Named, tuple[Instant, int]],
        liked: dict[Pair, list[Instant]],
    ) -> Iterator[MomentRow]:
        began = min(at for at, _ in posts.values())
        until = began + self._label
        if until > self._until:
            self.unripe += began < self._until
            return
        ordered = dict(sorted(posts.items(), key=lambda one: (one[1][1], one[0])))
        answers: list[bool] = []
        for post in ordered:
            times = liked.get((member, post), [])
            place = bisect_left(times, began)
            answers.append(place < len(times) and times[place] < until)
        yield from self._moment(member, ordered, answers, until)

    def _moment(
        self,
        member: Named,
        posts: dict[Named, tuple[Instant, int]],
        engaged: list[bool],
        until: Instant,
    ) -> Iterator[MomentRow]:
        who = self._members.get(member)
        known = [self._posts.get(post) for post in posts]
        if who is None or any(post is None for post in known):
            return
        home = self._homes[member[0]]
        yield MomentRow(
            at=min(at for at, _ in posts.values()),
            community_id=home,
            member_id=who,
            post_communities=[home] * len(known),
            post_ids=[post for post in known if post is not None],
            positions=[place for _, place in posts.values()],
            engaged=engaged,
            labelled_until=until,
            lone=[place for _, place in posts.values()] == [-1],
        )


def _instant(at: datetime) -> Instant:
    return (at - EPOCH) // MICROSECOND
