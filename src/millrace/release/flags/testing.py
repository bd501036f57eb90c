"""For tests: the room on one router, and definitions to put into it."""

import json
from typing import Any

from millrace.kernel.clock import Clock, SystemClock
from millrace.kernel.ids import IdMaker
from millrace.release.flags.room import FlagParts, Flags
from millrace.release.flags.types import Actor, FlagConfig
from millrace.store.router import Router

OLGA = Actor("operator:olga")
OSCAR = Actor("operator:oscar")


def flags_on(
    router: Router,
    conninfo: str = "",
    *,
    clock: Clock | None = None,
    node: int = 1,
    config: FlagConfig | None = None,
) -> Flags:
    """Return the room on a router; nothing starts yet.

    Args:
        router: of the database.
        conninfo: where it is; only a room that is started needs it.
        clock: a fake, where time matters.
        node: as of another process, where there are several.
        config: other settings than the defaults.
    """
    clock = clock or SystemClock()
    return Flags(
        FlagParts(
            router=router,
            clock=clock,
            ids=IdMaker(clock, node),
            conninfo=conninfo,
            config=config or FlagConfig(),
        )
    )


def switch(default: str = "off", *, state: str = "ENABLED", targeting: Any = None) -> str:
    """Return the definition of a flag that is on or off."""
    definition: dict[str, Any] = {
        "state": state,
        "variants": {"on": True, "off": False},
        "defaultVariant": default,
    }
    if targeting is not None:
        definition["targeting"] = targeting
    return json.dumps(definition)


def split(on: int, of: int = 100) -> dict[str, Any]:
    """Return the rule that gives a share of all members the variant `on`."""
    return {"fractional": [["on", on], ["off", of - on]]}
