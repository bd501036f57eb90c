"""A town with flags: what the tests of the doors of flags begin with."""

import asyncio
import json

from millrace.api.testing import Town
from millrace.release.flags.types import Actor

TESTER = Actor("operator:olga")
SEEN_SECONDS_MAX = 20.0

FLAGS = {
    "shown": {"variants": {"on": True, "off": False}, "defaultVariant": "on"},
    "greeting": {"variants": {"short": "hi", "long": "good day"}, "defaultVariant": "short"},
    "page-size": {"variants": {"few": 5, "many": 50}, "defaultVariant": "few"},
    "speed": {"variants": {"slow": 1.0, "fast": 2.5}, "defaultVariant": "slow"},
    "mixed": {"variants": {"whole": 1, "part": 0.5}, "defaultVariant": "whole"},
    "layout": {"variants": {"a": {"columns": 2, "names": ["x", "y"]}}, "defaultVariant": "a"},
    "killed": {
        "state": "DISABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on",
    },
    "undecided": {
        "variants": {"on": True, "off": False}, "defaultVariant": None,
        "targeting": {"if": [{"==": [{"var": "country"}, "SE"]}, "on", None]},
    },
    "inner": {
        "variants": {"on": True, "off": False}, "defaultVariant": "off",
        "targeting": {"if": [{"in": ["employees", {"var": "rings"}]}, "on", "off"]},
    },
    "told": {
        "variants": {"yes": "seen", "no": "unseen"}, "defaultVariant": "no",
        "targeting": {"if": [{"==": [{"var": "colour"}, "red"]}, "yes", "no"]},
        "metadata": {"team": "feed", "size": 2, "live": True},
    },
}  # fmt: skip


def text_of(definition: dict) -> str:
    """Return a definition as it is stored."""
    return json.dumps({"state": "ENABLED"} | definition)


async def put(place: Town, key: str, definition: dict, version: int | None = 0) -> None:
    """Write a flag, and wait until this process decides by it."""
    flags = place.program.flags
    before = flags.etag()
    await flags.put(key, text_of(definition), version=version, actor=TESTER, reason="for the test")
    await asyncio.wait_for(flags.changed(before, SEEN_SECONDS_MAX), SEEN_SECONDS_MAX)
    assert flags.etag() != before, "the change did not arrive"


async def with_flags(place: Town, definitions: dict = FLAGS) -> None:
    """Write flags, and wait until this process decides by all of them."""
    flags = place.program.flags
    for key, definition in definitions.items():
        await flags.put(key, text_of(definition), version=0, actor=TESTER, reason="for the test")
    async with asyncio.timeout(SEEN_SECONDS_MAX):
        while not set(definitions) <= set(flags.flagset().keys()):
            await flags.changed(flags.etag(), 1.0)
