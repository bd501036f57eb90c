"""The town of the demonstration: what a page needs first, its history behind, then its life."""

import asyncio

from millrace.cli.demo_flags import bring_flags
from millrace.cli.frame import say
from millrace.community.types import program as millrace
from millrace.kernel.clock import Clock
from millrace.kernel.errors import MillraceError
from millrace.wiring import Domain, Program, without_feed
from millrace.world.loader import silent
from millrace.world.simulator.filling import FILE_NAME, FIRST, HISTORY, Filler, begun
from millrace.world.simulator.http_door import SIGNED_IN_SECONDS
from millrace.world.simulator.live import Pace, live
from millrace.world.simulator.standing import Ground, stand
from millrace.world.simulator.types import TownConfig

TOWN = TownConfig(seed=1871, members=600, posts=4_000, impressions=120_000)
PACE = Pace(speed=10.0, members=TOWN.members, rate=5.0)
"""About three feeds opened and one post written a minute: a page that lives, a machine at rest."""
TELL_SECONDS = 5.0


class Demo:
    """The town of one program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._mark = program.data_dir / FILE_NAME
        self._filler: Filler | None = None

    async def fill(self) -> bool:
        """Bring in what a page needs, where there is nothing or a filling was interrupted.

        Returns whether something came in. What people did in a town that is whole stays: it is
        not touched again.
        """
        empty = not await self._program.communities.list(millrace())
        found = begun(self._mark)
        if not empty and (found is None or found.whole):
            return False
        if empty:  # whatever the mark says is in was of another database
            self._mark.unlink(missing_ok=True)
        rooms: Domain = without_feed(self._program)
        self._filler = Filler(rooms, self._mark, found.config if found else TOWN)
        town = self._filler.config
        say("making the town")
        await asyncio.to_thread(self._filler.made, silent)
        say(f"bringing the town in: {town.posts:,} posts of {town.members:,} members")
        await self._filler.bring(FIRST, silent)
        await bring_flags(rooms)
        return True

    async def remember(self) -> None:
        """Bring in what was shown and done before, telling how far it is."""
        if self._filler is None:
            return
        await self._filler.bring(HISTORY, _Told(self._program.clock).watch)

    async def live(self, url: str) -> None:
        """Let the people of the town come to this program, like anybody, until cancelled."""
        found = begun(self._mark)
        if found is None or not found.whole:
            return
        program = self._program
        try:
            rooms: Domain = without_feed(program)
            filler = self._filler or Filler(rooms, self._mark, found.config)
            town = await asyncio.to_thread(filler.made, silent)
            communities = await program.communities.list(millrace())
            grounds = {one.name: Ground(one.community_id, one.created_at) for one in communities}
            standing = stand(town, grounds)
            say("the town lives: its people come by; `up --no-live` leaves it asleep")
            await live(standing, url, self._issue, PACE, clock=program.clock, say=say)
        except MillraceError as failure:  # the page stays up without them
            say(f"the town does not live: {failure.message}")

    async def _issue(self, member_id: str) -> str:
        issued = await self._program.identity.issue(f"member:{member_id}", SIGNED_IN_SECONDS)
        return issued.token


class _Told:
    """Says once in a while how far the history is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.monotonic()

    def watch(self, part: str, count: int, of: int) -> None:
        """Take a step of progress."""
        if self._clock.monotonic() - self._last >= TELL_SECONDS or count == of:
            self._last = self._clock.monotonic()
            say(f"history of the town: {part} {count:,} of {of:,}")
