"""A town that lives at a server: people come by over HTTP until they are called off."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct

from millrace.kernel.clock import Clock
from millrace.world.simulator.client import RATE_DEFAULT
from millrace.world.simulator.draws import Draws
from millrace.world.simulator.http_door import HttpDoor, Issue
from millrace.world.simulator.living import Life, Lived
from millrace.world.simulator.standing import Standing

TELL_SECONDS = 60.0
SPEED_MAX = 100_000.0


class Pace(Struct, frozen=True, kw_only=True):
    """How a town lives.

    speed: how many times as often people come as in the town's past.
    members: how many of its people come at most.
    seconds: for how long; None is until the end.
    rate: requests a second at most.
    seed: of who comes when.
    """

    speed: float = 60.0
    members: int = 40
    seconds: float | None = None
    rate: float = RATE_DEFAULT
    seed: int = 1


async def live(
    standing: Standing,
    url: str,
    issue: Issue,
    pace: Pace,
    *,
    clock: Clock,
    say: Callable[[str], None],
) -> Lived:
    """Let people of a town come to a server; return what they did.

    Args:
        standing: the town at that server.
        url: of the server.
        issue: signs a member in.
        pace: how often, and for how long.
        clock: of the server's world.
        say: told once in a while, and at the end, what they did.
    """
    door = HttpDoor(url, standing, issue, clock=clock, rate=pace.rate)
    life = Life(
        standing.town,
        door,
        clock=clock,
        members=comers(standing, pace),
        seed=pace.seed,
        speed=pace.speed,
    )
    telling = asyncio.create_task(_tell(life.lived, say))
    try:
        await life.run(asyncio.sleep, seconds=pace.seconds)
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
        await door.close()
        say(f"the town: {life.lived}")
    return life.lived


def comers(standing: Standing, pace: Pace) -> Sequence[int]:
    """Return which people come."""
    count = len(standing.town.people)
    order = Draws(pace.seed, "comers").uniform(count).argsort(kind="stable")
    return sorted(int(place) for place in order[: pace.members])


async def _tell(lived: Lived, say: Callable[[str], None]) -> None:
    before = ""
    while True:
        await asyncio.sleep(TELL_SECONDS)
        if str(lived) != before:
            before = str(lived)
            say(f"the town: {lived}")
