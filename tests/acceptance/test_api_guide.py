"""Goal: every example of docs/api.md and docs/flags.md is true."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from millrace.api.inventory import Inventory
from millrace.api.testing import town
from millrace.release.flags.types import Actor

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "api.md"
GREETING = {
    "state": "ENABLED",
    "variants": {"short": "hi", "long": "good day"},
    "defaultVariant": "short",
    "targeting": {"if": [{"==": [{"var": "country"}, "SE"]}, "long", "short"]},
}
BLOCK = re.compile(r"```http\n(.*?)\n```", re.DOTALL)
ANYTHING = "*"


def parts(block: str) -> tuple[str, dict[str, str], str]:
    """Return the first line, the headers and the body of an example."""
    head, _, body = block.partition("\n\n")
    first, *lines = head.split("\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def differs(told: Any, found: Any) -> str:
    """Return how an answer differs from what the guide tells; it may hold more."""
    if told == ANYTHING:
        return ""
    if isinstance(told, dict) and isinstance(found, dict):
        missing = set(told) - set(found)
        inner = [f"{key}: {differs(told[key], found[key])}" for key in told if key in found]
        wrong = [one for one in inner if not one.endswith(": ")]
        return ", ".join([f"missing {missing}"] * bool(missing) + wrong)
    if isinstance(told, list) and isinstance(found, list) and told:
        return next(filter(None, map(differs, told, found)), "" if found else "an empty list")
    return "" if told == found else f"{found!r} instead of {told!r}"


@pytest.mark.parametrize("guide", ["api.md", "flags.md"])
async def test_examples(conninfo, tmp_path, guide):
    """Each request of the guide gets the answer below it."""
    blocks = BLOCK.findall((DOCS / guide).read_text())
    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        await place.program.feed.settled()
        await place.program.flags.put(
            "greeting",
            json.dumps(GREETING),
            version=0,
            actor=Actor("operator:olga"),
            reason="a test",
        )
        known = place.tokens | {
            "ada_id": str(place.members["ada"]),
            "adas_post": str(place.posts["ada"]),
            "ben_id": str(place.members["ben"]),
            "bens_post": str(place.posts["ben"]),
        }

        def filled(text: str) -> str:
            return re.sub(r"\{(\w+)\}", lambda found: known[found[1]], text)

        for asked, told in zip(blocks[::2], blocks[1::2], strict=True):
            line, headers, body = parts(filled(asked))
            method, path = line.split(" ")
            answer = await client.request(method, path, headers=headers, content=body or None)
            status, expected, content = parts(filled(told))

            assert f"HTTP/1.1 {answer.status_code}" == status, f"{line}: {answer.text}"
            assert not differs(json.loads(content), answer.json()), f"{line}: {answer.text}"
            for name, value in expected.items():
                assert value in (ANYTHING, answer.headers[name]), f"{line}: {name}"
    assert len(blocks) >= 16


def test_every_scope_is_as_the_guide_tells():
    """The table of routes is that of the inventory."""
    rows = re.findall(r"^\| `(\w+) (\S+)` \| (\w+) \|", GUIDE.read_text(), re.MULTILINE)
    told = {(method, path): scope for method, path, scope in rows}
    found = {(rule.method, rule.path): str(rule.scope) for rule in Inventory() if not rule.page}
    del found["GET", "/static/{path}"]  # what the pages are made of

    assert told == found
