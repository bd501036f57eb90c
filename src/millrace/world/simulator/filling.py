"""Brings a town straight into a program, part by part, and remembers what is done.

The same rows as in a folder, through the same loader, without a file in between. Each part is
marked when it is in: a start after a kill goes on with the part that was interrupted, and never
touches again what was whole, because people may have changed it meanwhile.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from millrace.community.types import (
    Action,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
    Role,
)
from millrace.world.loader import CommunityRow, Loader, created_at_of
from millrace.world.ports import Rooms, Watch
from millrace.world.rejects import RejectsList
from millrace.world.simulator.files import COMMUNITY_DAYS, by_post
from millrace.world.simulator.making import make
from millrace.world.simulator.town import Town
from millrace.world.simulator.types import ACTIONS, DAY, VERSION, TownConfig
from millrace.world.types import BATCH_ROWS, Draft, Event, ImportReport, Place, Reached, Row

FILE_NAME = "town.json"
"""The mark, in the data directory: which town it is, and how far its filling is."""
FIRST = ("communities", "members", "posts", "comments", "follows")
"""What a page needs. All of it can be changed by people, so it is in before they come."""
HISTORY = ("impressions", "engagements")
"""What may come in behind the page: logs, which nobody can change."""
COMMENT = ACTIONS.index(Action.COMMENT)


class Filling(Struct):
    """How far a filling is, as it stands in the mark."""

    version: str
    config: TownConfig
    done: list[str] = []

    @property
    def whole(self) -> bool:
        """Tell whether everything is in."""
        return set(self.done) >= {*FIRST, *HISTORY}


class Filler:
    """Fills one program with one town.

    Args:
        rooms: the program, or its community alone.
        mark: the file that says how far it is; it is there from the first row on and stays.
        config: the town, where there is no mark yet; a mark says which one was begun.
    """

    def __init__(self, rooms: Rooms, mark: Path, config: TownConfig) -> None:
        self._rooms = rooms
        self._mark = mark
        found = begun(mark)
        self._filling = found or Filling(VERSION, config)
        self.config = self._filling.config
        self._rejects = RejectsList()
        self._town: Town | None = None

    def made(self, watch: Watch) -> Town:
        """Make the town; takes seconds of a core, so callers do it in a thread."""
        self._town = self._town or make(self.config, watch)
        return self._town

    async def bring(self, parts: tuple[str, ...], watch: Watch) -> ImportReport:
        """Bring in those of these parts that are not in yet; the town was made before."""
        assert self._town is not None, "a town is made before it is brought in"
        report = ImportReport(kind="town", folder=VERSION)
        loader = Loader(self._rooms, report, self._rejects, watch)
        anchor = await self._anchor()
        rows = Rows(self._town, anchor)
        ids = [place.external_id for place in self._town.places]
        if "communities" in self._filling.done:
            for external_id in ids:
                await loader.named(external_id)
        for part in parts:
            if part in self._filling.done:
                continue
            self._note()
            if part == "communities":
                await loader.communities(rows.communities())
            else:
                await loader.take(getattr(rows, part)())
            self._filling.done.append(part)
            self._note()
        assert not self._rejects.rows, f"the town does not fit: {self._rejects.rows[0]}"
        await self._rooms.percentiles.refresh(list(report.communities.values()))
        return report

    async def _anchor(self) -> datetime:
        """Return when the past of the town ends: at its first import."""
        assert self._town is not None, "a town is made before it is brought in"
        known = await created_at_of(self._rooms, self._town.places[0].external_id)
        if known is None:
            return self._rooms.clock.now().replace(microsecond=0)
        return end_of(known, self.config)

    def _note(self) -> None:
        """Write the mark, whole or not at all."""
        draft = self._mark.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(self._filling))
        draft.replace(self._mark)


def begun(mark: Path) -> Filling | None:
    """Return how far a filling is that was begun; None where there is none, or of another version.

    A town of another version cannot be gone on with: what is in stays as it is.
    """
    try:
        found = msgspec.json.decode(mark.read_bytes(), type=Filling)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.version == VERSION else None


def end_of(created: datetime, config: TownConfig) -> datetime:
    """Return when the past of a town ends, from when its communities began."""
    return created + timedelta(days=COMMUNITY_DAYS + config.days)


class Rows:
    """A town as rows for the loader. `end` is when its past ends."""

    def __init__(self, town: Town, end: datetime) -> None:
        self._town = town
        self._start = end - timedelta(days=town.config.days)
        self._homes = [place.external_id for place in town.places]
        self._places = np.array([one.community for one in town.people], dtype=np.int64)

    def _at(self, seconds: int) -> datetime:
        return self._start + timedelta(seconds=seconds)

    def communities(self) -> list[CommunityRow]:
        """Return the communities."""
        began = self._at(-COMMUNITY_DAYS * DAY)
        return [
            CommunityRow(
                Place("communities", line),
                CommunityDraft(
                    external_id=one.external_id,
                    name=one.name,
                    description=one.description,
                    place=one.place,
                    nearby=one.nearby,
                    created_at=began,
                ),
                one.external_id,
            )
            for line, one in enumerate(self._town.places, 1)
        ]

    def members(self) -> Iterator[Event]:
        """Yield the members."""
        people = self._town.people

        def draft(line: int) -> tuple[int, Draft]:
            one = people[line]
            return one.community, MemberDraft(
                external_id=one.external_id,
                display_name=one.display_name,
                headline=one.headline,
                about=one.about,
                skills=one.skills,
                place=one.place,
                languages=one.languages,
                role=Role.MODERATOR if one.moderates else Role.MEMBER,
                joined_at=self._at(one.joined),
            )

        return self._rows("members", len(people), draft)

    def posts(self) -> Iterator[Event]:
        """Yield the posts, the newest first: a page shows something true from the first batch."""
        posts, people = self._town.posts, self._town.people
        newest = len(posts) - 1

        def draft(line: int) -> tuple[int, Draft]:
            one = posts[newest - line]
            return one.community, PostDraft(
                external_id=one.external_id,
                author=people[one.author].external_id,
                kind=one.kind,
                title=one.title,
                text=one.text,
                link=one.link,
                topics=one.topics,
                audience=one.audience,
                created_at=self._at(one.created),
            )

        return self._rows("posts", len(posts), draft)

    def comments(self) -> Iterator[Event]:
        """Yield the comments."""
        town = self._town

        def draft(line: int) -> tuple[int, Draft]:
            one = town.remarks[line]
            parent = town.remarks[one.parent].external_id if one.parent >= 0 else ""
            return town.posts[one.post].community, CommentDraft(
                external_id=one.external_id,
                author=town.people[one.author].external_id,
                post=town.posts[one.post].external_id,
                text=one.text,
                parent=parent,
                created_at=self._at(one.created),
            )

        return self._rows("comments", len(town.remarks), draft)

    def follows(self) -> Iterator[Event]:
        """Yield the follows."""
        bonds, people = self._town.bonds, self._town.people

        def draft(line: int) -> tuple[int, Draft]:
            one = bonds[line]
            return people[one.member].community, FollowDraft(
                member=people[one.member].external_id,
                target=people[one.target].external_id,
                created_at=self._at(one.created),
            )

        return self._rows("follows", len(bonds), draft)

    def impressions(self) -> Iterator[Event]:
        """Yield what was shown."""
        town, shown = self._town, self._town.shown
        order = by_post(self._places, shown)

        def draft(line: int) -> tuple[int, Draft]:
            row = int(order[line])
            member = town.people[int(shown.member[row])]
            return member.community, ImpressionDraft(
                member=member.external_id,
                post=town.posts[int(shown.post[row])].external_id,
                shown_at=self._at(int(shown.at[row])),
                position=int(shown.position[row]),
            )

        return self._rows("impressions", len(order), draft)

    def engagements(self) -> Iterator[Event]:
        """Yield what was done; a comment is an engagement by itself, so its own row is left out."""
        town, done = self._town, self._town.done
        order = by_post(self._places, done, np.flatnonzero(done.kind != COMMENT))

        def draft(line: int) -> tuple[int, Draft]:
            row = int(order[line])
            member, dwell = town.people[int(done.member[row])], int(done.dwell_ms[row])
            return member.community, EngagementDraft(
                member=member.external_id,
                post=town.posts[int(done.post[row])].external_id,
                kind=ACTIONS[int(done.kind[row])],
                happened_at=self._at(int(done.at[row])),
                position=int(done.position[row]),
                dwell_ms=dwell if dwell >= 0 else None,
            )

        return self._rows("engagements", len(order), draft)

    def _rows(
        self, part: str, count: int, draft: Callable[[int], tuple[int, Draft]]
    ) -> Iterator[Event]:
        """Yield so many rows of one part, and how far it is before each batch."""
        for line in range(count):
            if line % BATCH_ROWS == 0:
                yield Reached(part, line, count)
            home, made = draft(line)
            yield Row(Place(part, line + 1), self._homes[home], (made,), part)
        yield Reached(part, count, count)
