"""`millrace models`: encoders are added, promoted, rolled back, compared and refused with a reason."""

import asyncio
import json
import os
import signal
import sys

import msgspec
import psycopg
import pytest
from examples_folder import tables, write
from msgspec.structs import replace
from waiting import until

from millrace.api.serve import free_address
from millrace.cli import failures, main
from millrace.cli.ports import Doors
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import PostDraft
from millrace.feed.encoder_versions import EncoderVersions, State
from millrace.feed.process import EmbeddingProcess, FarEncoder
from millrace.feed.room import Feed
from millrace.feed.testing import parts_for, save_tiny_llama
from millrace.feed.types import FeedConfig
from millrace.kernel.clock import SystemClock
from millrace.settings import Settings
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services
COMMAND = [sys.executable, "-m", "millrace", "embed", "--beside"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two small models, of 32 and of 16 dimensions, with what their trainings measured."""
    made = []
    for name, dims, recall in (("first", 32, 0.2), ("second", 16, 0.3)):
        folder = save_tiny_llama(tmp_path_factory.mktemp("models") / name, dims)
        measured = {"metrics": {"recall_10": recall}, "step": 7}
        (folder / "data.json").write_text(json.dumps({"data": "abc", "start": "def"}))
        (folder / "metrics.json").write_text(json.dumps(measured))
        made.append(folder)
    return made


@pytest.fixture
def millrace(capsys, monkeypatch, tmp_path, conninfo, folders):
    """Run commands on a fresh database, beside the first model."""
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLRACE_STORE_PRIMARY", conninfo)
    monkeypatch.setenv("MILLRACE_STORE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MILLRACE_FEED_MODEL_DIR", str(folders[0]))

    def ran(*arguments):
        capsys.readouterr()
        status = main.run(Doors(free_address, None), list(arguments))
        return (status, *capsys.readouterr())

    return ran


async def run(millrace, *arguments):
    """Run a command that has an event loop of its own."""
    return await asyncio.to_thread(millrace, *arguments)


async def test_a_model_is_added_killed_in_the_middle_promoted_and_rolled_back(
    router, conninfo, folders, tmp_path, millrace
):
    """With a process that embeds, two real models, and a kill while the second one is embedded."""
    rooms, versions = Rooms(router, SystemClock()), EncoderVersions(router, SystemClock())
    home = await rooms.community("village")
    rita, _ = await rooms.people(home, "rita", "gus")
    drafts = [
        PostDraft(external_id=f"p{n}", author="gus", text=f"the tide of day {n}")
        for n in range(120)
    ]
    await rooms.posts.upsert(OPERATOR, home, drafts)
    config = FeedConfig(model_dir=str(folders[0]), coalesce_seconds=0.0, fit_minutes=0.0)
    store = StoreConfig(primary=conninfo, data_dir=str(tmp_path))
    brief = msgspec.json.encode(Settings(store=store, feed=config))
    process = EmbeddingProcess(COMMAND, brief, SystemClock())
    told = FarEncoder(await process.start())
    feed = Feed(replace(parts_for(rooms, conninfo, told), process=process))
    await feed.start()
    try:
        await feed.settled()
        added = await run(millrace, "models", "add", str(folders[1]), "--json")
        second = json.loads(added[1])["version"]
        await until(lambda: stored(conninfo, second))
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: process.silent())
        before = made(conninfo, second)
        page = await feed.page(rita.member)
        await until(lambda: feed.holding.of("second"))
        kept = before & made(conninfo, second)

        promoted = await run(millrace, "models", "promote", "second")
        await until(lambda: feed.catalogue.version == second)
        after = await feed.page(rita.member)
        rolled = await run(millrace, "models", "rollback")
        await until(lambda: feed.catalogue.version == told.version)
        listed = json.loads((await run(millrace, "models", "list", "--json"))[1])["models"]
    finally:
        await feed.stop()
        await process.stop()

    assert added[0] == failures.DONE, added[2]
    assert stored(conninfo, second) == stored(conninfo, told.version) == 120
    assert 0 < len(before) < 120, "it was killed in the middle"
    assert kept == before, "what was made before the kill is not made again"
    assert [(one["encoder"]["name"], one["encoder"]["state"]) for one in listed] == [
        ("second", "ready"),
        ("first", "serving"),
    ]
    assert [(one["posts"], one["posts_in_all"], one["memory"]) for one in listed] == [
        (120, 120, 120 * 16 * 5),
        (120, 120, 120 * 32 * 5),
    ]
    assert listed[0]["encoder"]["added_by"].startswith("cli:")
    assert (promoted[0], promoted[1]) == (failures.DONE, "second serves\n")
    assert (rolled[0], rolled[1]) == (failures.DONE, "first serves\n")
    assert after.degraded == []
    assert page.degraded == [] or "encoder does not answer" in page.degraded[0]
    assert (await versions.serving()).state is State.SERVING


def stored(conninfo: str, version: str) -> int:
    """How many posts have a vector of a version."""
    with psycopg.connect(conninfo) as connection:
        query = "select count(*) from post_embedding where model_version = %s"
        return connection.execute(query, [version]).fetchone()[0]


def made(conninfo: str, version: str) -> set[tuple]:
    """Which vectors of a version there are, and when each was made."""
    with psycopg.connect(conninfo) as connection:
        query = "select post_id, made_at from post_embedding where model_version = %s"
        return set(connection.execute(query, [version]).fetchall())


def test_what_is_broken_or_of_a_wrong_shape_is_refused_with_the_reason(millrace, folders, tmp_path):
    """And nothing is kept of it."""
    empty = tmp_path / "empty"
    empty.mkdir()
    cut = tmp_path / "cut"
    cut.mkdir()
    for file in folders[1].iterdir():
        content = file.read_bytes()
        (cut / file.name).write_bytes(
            content[: len(content) // 2] if file.suffix == ".safetensors" else content
        )
    shaped = tmp_path / "shaped"
    shaped.mkdir()
    for file in folders[1].iterdir():
        (shaped / file.name).write_bytes(file.read_bytes())
    settings = json.loads((shaped / "config.json").read_text())
    (shaped / "config.json").write_text(json.dumps(settings | {"hidden_size": 32}))

    answers = {one: millrace("models", "add", str(tmp_path / one)) for one in ("no", "empty")}
    answers |= {one.name: millrace("models", "add", str(one)) for one in (cut, shaped)}
    status, listed, _ = millrace("models", "list", "--json")

    assert {one: answer[0] for one, answer in answers.items()} == dict.fromkeys(
        answers, failures.WRONG_SETUP
    )
    assert "is not a directory" in answers["no"][2]
    assert "no config.json" in answers["empty"][2]
    assert all("cannot be used" in answer[2] for answer in answers.values())
    assert (status, json.loads(listed)) == (failures.DONE, {"models": []})


def test_two_are_compared_by_what_was_measured(millrace, folders):
    """Figures side by side, and whether they are of the same questions."""
    for folder in folders:
        assert millrace("models", "add", str(folder))[0] == failures.DONE
    status, out, err = millrace("models", "compare", "first", "second")
    told = json.loads(millrace("models", "compare", "first", "second", "--json")[1])
    again = millrace("models", "add", str(folders[0]))
    unknown = millrace("models", "compare", "first", "third")
    word = millrace("models", "add", str(folders[0]), "--name", "newest")

    assert status == failures.DONE, err
    assert "+0.1000" in out
    assert told["figures"]["metrics.recall_10"] == [0.2, 0.3]
    assert told["same_questions"] is True
    assert (again[0], "is here already" in again[2]) == (failures.CONFLICT, True)
    assert "there is no encoder 'third'" in unknown[2]
    assert "cannot name an encoder" in word[2]


def test_two_are_asked_the_same_questions_where_there_are_examples(millrace, folders, tmp_path):
    """Of a folder of examples, by whole vectors and by the first numbers of one."""
    data = write(tmp_path / "examples", tables())
    assert millrace("models", "add", str(folders[0]))[0] == failures.DONE
    short = millrace("models", "add", str(folders[0]), "--dims", "8", "--name", "short", "--json")
    long = millrace("models", "add", str(folders[0]), "--dims", "32", "--name", "long")
    status, out, err = millrace(
        "models", "compare", "first", "short", "--data", str(data), "--json"
    )
    figures = json.loads(out)["figures"]

    assert json.loads(short[1])["dims"] == 8
    assert "vectors of 32 numbers cannot be cut to 32" in long[2]
    assert status == failures.DONE, err
    assert figures.keys() == {"recall_10", "recall_100"}
    assert all(0 <= value <= 1 for values in figures.values() for value in values)
