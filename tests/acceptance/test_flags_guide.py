"""Goal: the week with a flag in docs/flags.md happens as it is told, command by command."""

import asyncio
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from command_line import Millrace

from millrace.community.testing import Rooms
from millrace.settings import overlaid, read
from millrace.store.testing import opened
from millrace.wiring import opened as whole

GUIDE = Path(__file__).parents[2] / "docs" / "flags.md"
WEEK = re.compile(r"^## A week with a flag\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
PART = re.compile(r"^```(\w+)\n(.*?)^```$|^<!-- test: (.*?) -->$", re.DOTALL | re.MULTILINE)
# What is of the moment and not of the story.
MOMENTS = [
    (re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?"), "DAY"),
    (re.compile(r"\b\d+ (s|min|h)( ago)?\b"), "AGO"),
    (re.compile(r"(?<![\d-])\d{15,}(?![\d-])"), "NUMBER"),
    (re.compile(r" +"), " "),
]


def told(text: str) -> list[str]:
    """Return the lines of an output without what is of the moment."""
    for pattern, word in MOMENTS:
        text = pattern.sub(word, text)
    return [line.strip() for line in text.strip().splitlines()]


def people(conninfo: str) -> None:
    """Make a hundred members; the same ones in the same order every time."""

    async def make() -> None:
        async with opened(conninfo) as router:
            rooms = Rooms(router)
            names = ["ada", "grace", "linus", *[f"m{n}" for n in range(97)]]
            await rooms.people(await rooms.community("town"), *names)

    asyncio.run(make())


def days_pass(conninfo: str) -> None:
    """Let everything have been written 40 days before, and members ask for the flag now."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        # The database refuses a change that its trail does not name; time is no change.
        db.execute("set session_replication_role = replica")
        db.execute("update flag set created_at = created_at - interval '40 days', "
                   "changed_at = changed_at - interval '40 days'")  # fmt: skip

    async def ask() -> None:
        settings = overlaid(read(None, {}), {"store.primary": conninfo}).settings
        async with whole(settings) as domain:
            await domain.flags.load()
            for member in await domain.members.sample(100):
                domain.flags.evaluate("new-home", domain.flags.context_of(member.key))
            await domain.flags.flush()

    asyncio.run(ask())


@pytest.mark.services
def test_a_week_with_a_flag(
    beside: Millrace, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    people(conninfo)
    code = Path("src/home.py")
    code.parent.mkdir()
    steps: dict[str, Callable[[], object]] = {
        "40 days pass; members ask": lambda: days_pass(conninfo),
        "the code is changed": lambda: code.write_text("home = new_home\n", encoding="utf-8"),
    }
    found = WEEK.search(GUIDE.read_text(encoding="utf-8"))
    assert found, "docs/flags.md has no week any more"
    commands = 0

    for kind, block, step in PART.findall(found[1]):
        if step:
            steps.pop(step)()
        elif kind == "python":
            code.write_text(block, encoding="utf-8")
        elif kind == "console":
            for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, output = shown.partition("\n")
                ran = beside(*shlex.split(line)[1:])
                assert told(ran.out + ran.err) == told(output), line
                assert ran.status == 0, line
                commands += 1
    assert commands > 15
    assert not steps
