"""The process that trains: beside a server, on a leash, and what is told of its trainings."""

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from waiting import until

from millrace.api.metrics_trainings import TrainingGauges
from millrace.api.serve import free_address
from millrace.cli import main
from millrace.cli.ports import Doors
from millrace.feed.encoder_trainings import EncoderTrainings, Known, Stage
from millrace.feed.encoder_versions import EncoderVersions, NewVersion
from millrace.feed.gate import GATE, Answer, Judgement
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.trainer_process import TrainerProcess
from millrace.feed.types import FeedConfig
from millrace.kernel.clock import SystemClock
from millrace.kernel.ids import IdMaker
from millrace.settings import Settings
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services
COMMAND = [sys.executable, "-m", "millrace", "train", "background", "--beside"]
JUDGEMENT = Judgement(
    answer=Answer.PASS, members=221, since=datetime(2026, 3, 1, tzinfo=UTC), candidate=0.1035,
    serving=0.0666, difference=0.0369, interval=(0.011, 0.0638),
)  # fmt: skip


def leads(conninfo: str) -> int:
    """How many processes have the lead, or anything else that is locked by a number."""
    with psycopg.connect(conninfo) as connection:
        query = (
            "select count(*) from pg_locks where locktype = 'advisory' and granted "
            "and database = (select oid from pg_database where datname = current_database())"
        )
        return connection.execute(query).fetchone()[0]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a child that nobody waits for has ended too."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def test_it_waits_at_a_low_priority_is_started_again_and_ends_with_its_server(
    router, conninfo, tmp_path
):
    settings = Settings(
        store=StoreConfig(primary=conninfo, data_dir=str(tmp_path)),
        feed=FeedConfig(training_engagements=1_000_000),
    )
    process = TrainerProcess(COMMAND, msgspec.json.encode(settings), SystemClock())
    process.start()
    try:
        await until(lambda: leads(conninfo) == 1)
        first = process.pid
        nice = os.getpriority(os.PRIO_PROCESS, first) - os.getpriority(os.PRIO_PROCESS, 0)
        mapped = await asyncio.to_thread(Path(f"/proc/{first}/maps").read_text)
        os.kill(first, signal.SIGKILL)
        await until(lambda: process.lives == 2 and leads(conninfo) == 1)
        second = process.pid
    finally:
        await process.stop()

    assert nice == 10
    assert "libtorch" not in mapped, "who waits has no model"
    assert not is_alive(first)
    assert second != first
    assert not is_alive(second)
    await until(lambda: leads(conninfo) == 0)


async def test_what_became_of_trainings_is_told(router, conninfo, tmp_path, capsys, monkeypatch):
    """On the command line, beside the encoder, and in the numbers for Prometheus."""
    clock = SystemClock()
    trainings = EncoderTrainings(router, clock, IdMaker(clock, 3))
    await EncoderVersions(router, clock).add(
        NewVersion(version="v2", name="trained-1", directory="/d", dims=8,
                   metrics={GATE: msgspec.to_builtins(JUDGEMENT), "data": "abc"}),
        "training",
    )  # fmt: skip
    one = await trainings.begin("here", 2_854, "v1")
    one = await trainings.move(one, Stage.TRAINING, Known(recipe=EncoderRecipe(steps=80)))
    await trainings.note(one, 80)
    one = await trainings.move(one, Stage.JUDGING)
    one = await trainings.move(one, Stage.EMBEDDING, Known(gate=JUDGEMENT, candidate="v2"))
    await trainings.move(one, Stage.PROMOTED)
    for name, value in (("PRIMARY", conninfo), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(f"MILLRACE_STORE_{name}", value)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    async def ran(*words: str) -> str:
        status = await asyncio.to_thread(main.run, Doors(free_address, None), list(words))
        assert status == 0
        return capsys.readouterr().out

    waits = json.loads(await ran("train", "status", "--json"))["waits"]
    table = await ran("train", "status")
    newest = await trainings.begin("here", 3_568, "v2")
    told = json.loads(await ran("train", "status", "--json"))["trainings"]
    listed = await ran("models", "list")
    gauges = TrainingGauges()
    gauges.newest = await trainings.newest()
    registry = CollectorRegistry()
    registry.register(gauges)
    numbers = generate_latest(registry).decode()

    assert [one["state"] for one in told] == ["exporting", "promoted"]
    assert told[0]["training_id"] == newest.training_id
    assert told[1]["gate"]["interval"] == [0.011, 0.0638]
    assert "0.1035" in table
    assert waits == {"engagements": 3_568, "at": None}
    assert "the next one waits for 3,568 engagements that are 24 hours old; there are 0" in table
    assert "trained-1: its gate, by training: surely better" in listed
    assert "examples abc" in listed
    assert 'millrace_training_state{state="exporting"} 1.0' in numbers
    assert 'millrace_training_state{state="promoted"} 0.0' in numbers
    assert "millrace_training_gate_difference 0.0369" in numbers
