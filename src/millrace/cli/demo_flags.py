"""The flags of the demonstration: a switch, a circle of members and a split, about the feed."""

import json
from typing import Any

from millrace.community.types import program
from millrace.release.flags.contexts import TRACK
from millrace.release.flags.types import Actor, Choice, Ring, RingEntry, Terms
from millrace.wiring import Domain

OWNER = "feed"
EMPLOYEES = 3
REASON = "so that the demonstration has flags to look at"

FLAGS: dict[str, dict[str, Any]] = {
    # Stays: a parameter, and who is nearer to the team sees another value of it.
    "feed.diversity": {
        "state": "ENABLED",
        "variants": {"usual": 0.05, "more": 0.2},
        "defaultVariant": "usual",
        "targeting": {"if": [{"in": ["alpha", {"var": "rings"}]}, "more"]},
        "metadata": {"permanent": True},
    },
    # Goes when it is decided: an experiment on a tenth, and on the team.
    "feed.exploration_every": {
        "state": "ENABLED",
        "variants": {"often": 10, "usual": 20},
        "defaultVariant": "usual",
        "targeting": {
            "if": [
                {"in": ["employees", {"var": "rings"}]},
                "often",
                {"fractional": [["often", 10], ["usual", 90]]},
            ]
        },
    },
    # Stays: a switch to throw where the learned part of the model goes wrong.
    "feed.feature.learned_similarity": {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "on",
        "metadata": {"permanent": True},
    },
}


async def bring_flags(domain: Domain) -> bool:
    """Write the flags of the demonstration where there are none; say whether it did.

    The first members that the page offers to sign in as become employees.
    """
    flags, actor = domain.flags, Actor(program("demo").name)
    if await flags.list(limit=1):
        return False
    for member in await domain.members.sample(EMPLOYEES):
        entry = RingEntry(
            track=TRACK,
            ring=Ring.EMPLOYEES,
            member=member.key,
            choice=Choice.LISTED,
            actor=actor.name,
            at=domain.clock.now(),
        )
        await flags.ring_put(entry, reason=REASON)
    for key, definition in FLAGS.items():
        await flags.put(
            key,
            json.dumps(definition, indent=2) + "\n",
            version=0,
            actor=actor,
            reason=REASON,
            terms=Terms(owner=OWNER),
        )
    return True
