"""kill -9 of the program, of the server and of both, fifty times: nothing acknowledged is lost.

And at the end everything derived is what a rebuild makes of the rows: counters, vectors by the
fingerprints of their prompts, and the index in memory.
"""

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import hammer
import numpy as np
import psycopg
import pytest

from millrace.community.recount import Recount
from millrace.community.testing import Rooms
from millrace.community.types import Key
from millrace.feed.embeddings import unpacked
from millrace.feed.proof import proved
from millrace.feed.rebuild import Rebuild
from millrace.feed.room import Feed
from millrace.feed.testing import parts_for
from millrace.kernel.clock import SystemClock
from millrace.kernel.rng import rng
from millrace.store.embedded import EmbeddedServer
from millrace.store.testing import fresh_folder, opened

pytestmark = pytest.mark.services
KILLS = 50
SEED = 20261121
SECONDS_MAX = 30.0


class Stem:
    """The stem of children; the newest one is what lives."""

    def __init__(self, folder: Path, notes: Path) -> None:
        self._folder, self.notes = folder, notes
        self._process = subprocess.Popen(
            [sys.executable, hammer.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        self._said: queue.Queue[list[str]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.child = 0
        self.is_up = False
        self.proofs = 0

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.split())

    def fork(self, *, prove: bool = False) -> None:
        assert self._process.stdin is not None
        self.is_up = False
        word = "prove" if prove else "write"
        self._process.stdin.write(f"{self._folder} {self.notes} {word}\n")
        self._process.stdin.flush()
        self.child = int(self._heard("forked")[1])

    def come_up(self) -> None:
        """Wait until the child writes."""
        while not self.is_up:
            self._take(self._said.get(timeout=SECONDS_MAX))

    def look_after(self) -> None:
        """Hear what was said so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._said.get_nowait())

    def _take(self, said: list[str]) -> None:
        """A child whose server was killed while it started has ended, and is replaced."""
        if int(said[1]) == self.child:
            assert said[0] not in ("broken", "wrong"), "see what it wrote"
            self.proofs += said[0] == "right"
            self.is_up = self.is_up or said[0] == "up"
            if said[0] == "ended":
                self.fork()

    def _heard(self, word: str) -> list[str]:
        while (said := self._said.get(timeout=SECONDS_MAX))[0] != word:
            pass
        return said

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)
        self.child, self.is_up = 0, False

    def close(self) -> None:
        if self.child:
            self.kill()
        self._process.kill()
        self._process.communicate(timeout=SECONDS_MAX)


def kill_server(folder: Path) -> None:
    """Kill the first process of the server; the others end when they notice."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError):
        pid = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)


def facts_of(conninfo: str, stem: Stem) -> dict:
    """Look at the database as soon as it answers."""
    until = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return hammer.found(conninfo)
        except psycopg.Error:
            assert time.monotonic() < until, "the server did not come back"
            time.sleep(0.02)
            if stem.child:
                stem.look_after()


def wait_for_notes(stem: Stem, number: int) -> None:
    until = time.monotonic() + SECONDS_MAX
    while len(hammer.noted(stem.notes)) < number:
        stem.look_after()
        assert time.monotonic() < until, "nobody writes any more"
        time.sleep(0.005)


def killed_often(folder: Path, notes: Path, seed: int) -> None:
    """Kill, start and look, again and again; every few times let the next one prove first."""
    draw = rng(seed)
    conninfo = EmbeddedServer(folder).conninfo
    stem = Stem(folder, notes)
    try:
        for kill in range(KILLS):
            if not stem.child:
                stem.fork(prove=draw.random() < 0.5)
            if kill == 0 or draw.random() < 0.85:  # else in the middle of its start
                stem.come_up()
                wait_for_notes(stem, len(hammer.noted(notes)) + draw.randint(1, 30))
            victim = draw.choice(["program", "program", "server", "both"])
            if victim != "server":
                stem.kill()
            if victim != "program":
                kill_server(folder)
                if victim == "both":
                    stem.fork()
            before = hammer.noted(notes)
            facts = facts_of(conninfo, stem)
            gone = hammer.lost(before, facts, hammer.noted(notes))
            assert not gone, f"kill {kill}, {victim}: {gone}"
        assert stem.proofs > 0
    finally:
        stem.close()


async def derived(conninfo: str) -> list[list[tuple]]:
    """Everything derived that does not say when it was made."""
    async with await psycopg.AsyncConnection.connect(conninfo) as db:
        return [
            await (await db.execute(query)).fetchall()
            for query in (
                "select community_id, post_id, views, clicks, long_dwells, likes, comments, shares,"
                " hides, reports from post_counter order by 1, 2",
                "select community_id, member_id, followers, posts, views, likes from member_counter"
                " order by 1, 2",
                "select community_id, post_id, model_version, prompt_hash, vector"
                " from post_embedding order by 1, 2, 3",
                "select community_id, member_id, model_version, prompt_hash, vector"
                " from member_embedding order by 1, 2, 3",
            )
        ]


async def test_killed_fifty_times():
    """The same seed draws the same kills; what was written between is never the same."""
    with fresh_folder() as folder:
        notes = folder / "notes"
        await asyncio.to_thread(killed_often, folder, notes, SEED)
        async with EmbeddedServer(folder, durable=False) as server:
            assert (
                hammer.lost(hammer.noted(notes), hammer.found(server.conninfo), hammer.noted(notes))
                == []
            )
            async with opened(server.conninfo) as router:
                rooms = Rooms(router, SystemClock())
                parts = parts_for(rooms, server.conninfo, config=hammer.CONFIG)
                feed = Feed(parts)
                await feed.start()
                try:
                    await feed.settled(SECONDS_MAX)
                    differing = [
                        one for one in await proved(parts, lambda *_: None) if one.differing
                    ]
                    live = await derived(server.conninfo)
                    vectors = {Key(row[0], row[1]): row[4] for row in live[2]}
                    index = {
                        key: feed.index.vectors([slot])[0]
                        for key in vectors
                        if (slot := feed.index.find(key)) is not None
                    }
                    size = len(feed.index)
                finally:
                    await feed.stop()
                wrong = await Recount(router=router, percentiles=rooms.percentiles).counters()
                # Prompts anew with the percentiles of now would differ by numbers alone: rebuilding
                # twice shows that a rebuild is a fixed point, and `proved` that live equals it.
                await Rebuild(parts).vectors(lambda *_: None)
                rebuilt = await derived(server.conninfo)

    assert differing == []
    assert wrong == 0
    assert live[:2] == rebuilt[:2]
    assert [row[:2] for row in live[2]] == [row[:2] for row in rebuilt[2]]
    assert live[3] == rebuilt[3]
    assert size == len(index) == len(vectors) > 50
    for key, vector in index.items():
        assert np.allclose(vector, unpacked(vectors[key]))
