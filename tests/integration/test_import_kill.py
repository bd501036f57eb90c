"""Goal: an import that is killed leaves whole batches, and running it again ends the same."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from import_state import counts, state, write_lines

from millrace.kernel.rng import rng as rng_of

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH_ROWS = 40

# A child that imports a folder in small batches and says each step, so that it can be killed
# between any two of them or within one.
CHILD = f"""
import asyncio, json, sys
from pathlib import Path
from millrace.world import loader
loader.BATCH_ROWS = {BATCH_ROWS}
from millrace.community.testing import Rooms
from millrace.kernel.clock import SystemClock
from millrace.store.testing import opened
from millrace.world.importers.kinds import bring

async def main():
    async with opened(sys.argv[1]) as router:
        rooms = Rooms(router, SystemClock())
        for name, verb in (("members", "upsert"), ("posts", "upsert"), ("threads", "upsert"),
                           ("activity", "upsert_engagements")):
            said(getattr(rooms, name), verb)
        report = await bring(rooms, "dir", Path(sys.argv[2]), rejects=Path(sys.argv[3]))
        print("end", report.exit_status, flush=True)

def said(room, verb):
    real = getattr(room, verb)
    async def telling(*given):
        print("begin", flush=True)
        found = await real(*given)
        print("done", flush=True)
        return found
    setattr(room, verb, telling)

asyncio.run(main())
"""


def at(minutes):
    """Return a moment as text."""
    return (START + timedelta(minutes=minutes)).isoformat()


@pytest.fixture
def folder(tmp_path):
    """Some hundred rows of each noun, a few of them bad."""
    made = tmp_path / "town"
    write_lines(made, "communities", {"external_id": "q", "name": "Q", "created_at": at(0)})
    write_lines(
        made,
        "members",
        *({"external_id": f"m{n}", "display_name": f"Member {n}", "joined_at": at(n)}
          for n in range(150)),
    )  # fmt: skip
    write_lines(
        made,
        "posts",
        *({"external_id": f"p{n}", "author": f"m{n % 150}", "text": f"Post {n}", "created_at": at(200 + n)}
          for n in range(200)),
        {"external_id": "bad", "author": "nobody", "text": "Not taken."},
    )  # fmt: skip
    write_lines(
        made,
        "comments",
        *({"external_id": f"c{n}", "author": f"m{n % 150}", "post": f"p{n % 200}", "text": f"Comment {n}",
           "created_at": at(400 + n)} for n in range(250)),
    )  # fmt: skip
    write_lines(
        made,
        "engagements",
        *({"member": f"m{n % 150}", "post": f"p{n * 7 % 200}", "kind": ("like", "click", "hide")[n % 3],
           "happened_at": at(700 + n)} for n in range(400)),
    )  # fmt: skip
    return made


def child(conninfo, folder, rejects):
    command = [sys.executable, "-c", CHILD, conninfo, str(folder), str(rejects)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)


def finished(process):
    """Return what a child said at its end."""
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return text.split()[-1]


def test_a_killed_import_is_completed_by_the_next(server, folder, tmp_path):
    """The rows after kills and a whole run are those of one undisturbed run, versions included."""
    undisturbed = server.copy()
    first = tmp_path / "first.jsonl"
    assert finished(child(undisturbed, folder, first)) == "8"
    expected = state(undisturbed)
    rejected = first.read_bytes()
    assert len(rejected.splitlines()) == 1  # the post by nobody
    steps = 2 * (4 + 6 + 7 + 10)
    rng = rng_of(7)
    conninfo = server.copy()
    second = tmp_path / "second.jsonl"
    reached = set()

    for _ in range(4):
        process = child(conninfo, folder, second)
        for _ in range(rng.randrange(1, steps)):
            assert process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        assert not second.exists()
        reached.add(json.dumps(counts(conninfo)))
    assert finished(child(conninfo, folder, second)) == "8"

    assert len(reached) > 1  # the kills came at different places
    assert state(conninfo) == expected
    assert second.read_bytes() == rejected


def test_a_killed_batch_is_there_whole_or_not_at_all(server, folder, tmp_path):
    """Whatever the moment, each noun has a number of rows that whole batches make."""
    rng = rng_of(11)
    for _ in range(3):
        conninfo = server.copy()
        process = child(conninfo, folder, tmp_path / "out.jsonl")
        for _ in range(rng.randrange(2, 30)):
            assert process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        found = counts(conninfo)

        assert found.get("member", 0) % BATCH_ROWS in (0, 150 % BATCH_ROWS)
        assert found.get("post", 0) % BATCH_ROWS == 0
        assert found.get("post_counter", 0) == found.get("post", 0)
        assert found.get("comment", 0) % BATCH_ROWS in (0, 250 % BATCH_ROWS)
