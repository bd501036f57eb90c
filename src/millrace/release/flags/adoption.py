"""Which versions of the app members use: noted in memory, written in batches, asked for by ramps."""

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from millrace.community.types import Key
from millrace.kernel.clock import Clock
from millrace.release.flags import semver
from millrace.release.flags.limits import expect_version
from millrace.release.flags.repository import QUERIES
from millrace.release.flags.rings import TRACKS
from millrace.release.flags.types import Adoption, Wait
from millrace.store.router import Router
from millrace.store.session import document

NOTE_SECONDS = 3600.0
"""A member and track are written at most so often, unless the version is another one."""
NOTED_MAX = 200_000  # notes that are remembered; the oldest go first
LINES_MAX = 5_000  # that are written in one statement
ACTIVE_DAYS = 7
VERSION_MAX = 64


class Place(NamedTuple):
    """Whose app on what."""

    member: Key
    track: str


class Noted(NamedTuple):
    """What was seen, and when by the clock that never runs backwards."""

    version: str
    at: float


class Line(Struct, frozen=True):
    """A note that is to be written."""

    community_id: int
    member_id: int
    track: str
    version: str
    seen_at: datetime


class InUse(Struct, frozen=True):
    """How many members have a version."""

    version: str
    members: int


class AppBook:
    """Notes versions of members, and says how many have one."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._noted: dict[Place, Noted] = {}
        self._waiting: dict[Place, Line] = {}

    def note(self, member: Key, track: str, version: str) -> None:
        """Remember which version a member uses; what is no version is not noted."""
        place = Place(member, track)
        noted = self._noted.get(place)
        now = self._clock.monotonic()
        if noted is not None and noted.version == version and now - noted.at < NOTE_SECONDS:
            return
        if track not in TRACKS or len(version) > VERSION_MAX:
            return  # a client names both, and may think of any number of them
        if semver.parsed(version) is None:
            return
        self._noted.pop(place, None)  # so that it is the youngest
        while len(self._noted) >= NOTED_MAX:
            self._noted.pop(next(iter(self._noted)))
        self._noted[place] = Noted(version, now)
        seen = self._clock.now()
        if len(self._waiting) >= NOTED_MAX:  # nothing was written for long
            self._waiting.pop(next(iter(self._waiting)))
        self._waiting[place] = Line(member.community_id, member.id, track, version, seen)

    async def flush(self) -> None:
        """Write what was noted; where that fails it waits still."""
        waiting, self._waiting = self._waiting, {}
        lines = list(waiting.values())
        try:
            for start in range(0, len(lines), LINES_MAX):
                async with self._router.write() as session:
                    part = document(lines[start : start + LINES_MAX])
                    await session.run(QUERIES["note_apps"], lines=part)
        except BaseException:
            self._waiting = {**waiting, **self._waiting}
            raise

    async def adoption(self, wait: Wait) -> Adoption:
        """Return how many of those who are active in a market have a version or a later one.

        Passes on:
            InvalidError: it is no version.
        """
        wanted = expect_version(wait.version)
        async with self._router.read() as session:
            found = await session.rows(
                QUERIES["versions_in_use"],
                InUse,
                track=wait.track,
                since=self._clock.now() - timedelta(days=ACTIVE_DAYS),
                country=wait.country,
                community_id=wait.community_id,
            )
        have = [one.members for one in found if (semver.parsed(one.version) or ()) >= wanted]
        return Adoption(members=sum(have), active=sum(one.members for one in found))

    async def met(self, wait: Wait) -> bool:
        """Return whether enough of them have it. Where nobody is active, nobody has."""
        found = await self.adoption(wait)
        return found.active > 0 and found.share >= wait.share
