"""To decide: a look into this process's memory, which never waits and never raises."""

from typing import Any

from millrace.community.types import Key
from millrace.kernel.clock import Clock
from millrace.release.flags import contexts
from millrace.release.flags.contexts import NO_APP, NOTHING, App
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.live import Hears, LiveFlags
from millrace.release.flags.rings import RingBook
from millrace.release.flags.types import Context, FlagType, Resolution
from millrace.release.flags.usage import UsageBook


class Decisions:
    """What flags and rings answer, by what this process knows."""

    def __init__(self, *, clock: Clock, live: LiveFlags, usage_book: UsageBook) -> None:
        self._clock = clock
        self._monotonic = clock.monotonic
        self.live = live
        self.usage_book = usage_book
        self._counts = usage_book.counts
        self.set_clock()

    def set_clock(self) -> None:
        """Look at the time of day; until the next look it goes on by seconds that never run back.

        Asking for the time of day costs as much as a decision, and half of that is its zone.
        """
        self._epoch = self._clock.now().timestamp() - self._monotonic()

    def evaluate(self, key: str, context: Context) -> Resolution:
        """Return what a flag gives, of whatever type."""
        found = self.live.flagset.evaluate(key, context, self._epoch + self._monotonic())
        if found.error is None:
            self._counts[key, found.variant] += 1
        else:
            self.usage_book.fail(found)
        return found

    def resolve(self, key: str, kind: FlagType, context: Context) -> Resolution:
        """Return what a flag gives to a caller who can use one type of value only."""
        now = self._epoch + self._monotonic()
        found = self.live.flagset.resolve(key, kind, context, now)
        if found.error is None:
            self._counts[key, found.variant] += 1
        else:
            self.usage_book.fail(found)
        return found

    def evaluate_all(self, context: Context) -> list[Resolution]:
        """Return what every flag gives, by key."""
        keys = self.live.flagset.keys()
        return [self.evaluate(key, context) for key in keys]

    def flagset(self) -> FlagSet:
        """Return the compiled flags as they stand: for work that must not count as use."""
        return self.live.flagset

    def rings(self) -> RingBook:
        """Return who is in which ring, as it stands."""
        return self.live.rings

    def etag(self) -> str:
        """Return what changes with every change of a flag, a ring or a market."""
        return self.live.etag

    def etag_of(self, member: Key) -> str:
        """Return what changes with every change that may give this member something else."""
        return self.live.etag_of(member)

    def listen(self, hears: Hears) -> None:
        """Tell somebody of every change from now on: whose answers may be others."""
        self.live.listen(hears)

    async def changed(self, etag: str, seconds: float) -> str:
        """Wait until the etag is another one, or for so long; return what it is then."""
        return await self.live.news(etag, seconds)

    def context_of(
        self,
        member: Key,
        app: App = NO_APP,
        *,
        country: str = "",
        more: Context = NOTHING,
    ) -> dict[str, Any]:
        """Return what a decision about a member may look at, rings included.

        Args:
            member: whom it is for.
            app: with what they come.
            country: where they say they are; it counts where their community has said no country.
            more: what else is known of them; rings may go by it.
        """
        where = self.live.countries.get(member.community_id, "") or country
        known = {**more, **contexts.of_member(member, app, where)}
        contexts.with_rings(known, self.live.rings, (), trusted=True)
        return known

    def enriched(self, context: Context, *, trusted: bool = False) -> dict[str, Any]:
        """Return a client's context with what the server knows over it.

        Args:
            context: as it came; its ring, and what it says of a member's community, is not believed.
            trusted: whether rings may go by everything in it, because no client wrote it.
        """
        return contexts.enriched(context, self.live.rings, self.live.countries, trusted=trusted)
