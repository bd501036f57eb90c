"""`millrace evaluate encoder-ablations`: rows over seeds, and a run that was killed goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from millrace.cli.main import millrace
from millrace.feed.testing import save_tiny_llama
from millrace.kernel.errors import ConflictError

WAIT_SECONDS = 120
# The published keys of a row; it may have more.
KEYS = {
    "name", "recall_10", "difference_to_previous", "popularity_correlation",
    "memory_mib_per_sequence", "sequences_per_batch", "iteration_ms",
}  # fmt: skip
ROWS = "percentiles,zero_shot_pooled,dims_64"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


def words(llama: Path, to: Path, *more: str) -> list[str]:
    town = ["--members", "40", "--posts", "120", "--seed", "4", "--quick"]
    asked = ["--model", str(llama), "--to", str(to), "--seeds", "2", "--learning-rate", "0.01"]
    command = ["evaluate", "encoder-ablations", "--data", "town", "--rows", ROWS]
    return [*command, *town, *asked, *more, "--json"]


def found(arguments: list[str]) -> dict[str, Any]:
    done = CliRunner().invoke(millrace, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nobody disturbed."""
    return found(words(llama, tmp_path_factory.mktemp("whole") / "found"))


def test_rows_have_their_keys_and_stand_beside_the_one_before(whole):
    rows = {row["name"]: row for row in whole["rows"]}

    assert list(rows) == [
        "random", "zero_shot", "raw_numbers", "percentiles", "zero_shot_pooled",
        "dims_384", "dims_64",
    ]  # fmt: skip
    assert all(set(row) >= KEYS for row in rows.values())
    assert rows["random"]["difference_to_previous"] is None
    ours, before = rows["percentiles"], rows["raw_numbers"]
    assert ours["previous"] == "raw_numbers"
    assert len(ours["recall_10_by_seed"]) == 2
    gap = ours["recall_10"] - before["recall_10"]
    assert ours["difference_to_previous"]["value"] == pytest.approx(gap, abs=2e-4)
    low, high = ours["popularity_correlation_difference"]["interval"]
    assert low <= ours["popularity_correlation_difference"]["value"] <= high
    assert ours["popularity_correlation"] != before["popularity_correlation"]
    assert rows["zero_shot"]["recall_10"] != rows["zero_shot_pooled"]["recall_10"]
    assert len(set(ours["recall_10_by_seed"])) == 2


def test_what_a_step_costs_is_said_of_trained_rows(whole):
    rows = {row["name"]: row for row in whole["rows"]}

    assert rows["zero_shot"]["iteration_ms"] is None
    ours = rows["percentiles"]
    assert ours["iteration_ms"] > 0
    assert ours["sequences_per_batch"] == int(whole["memory_mib"] / ours["memory_mib_per_sequence"])
    assert 0 < ours["member_tokens"] <= 128
    assert rows["dims_64"]["recall_10"] is None  # the model has 32 numbers


def test_a_run_that_was_killed_goes_on_to_the_same_rows(whole, llama: Path, tmp_path: Path):
    """By SIGKILL after the first training of several; what was read then is not read anew."""
    to = tmp_path / "found"
    first = to / "readings" / "raw_numbers-1.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "millrace", *words(llama, to)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        end = time.monotonic() + WAIT_SECONDS
        while not first.exists() and time.monotonic() < end:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    written = first.stat().st_mtime_ns

    again = found(words(llama, to))

    assert [untimed(row) for row in again["rows"]] == [untimed(row) for row in whole["rows"]]
    assert first.stat().st_mtime_ns == written
    with pytest.raises(ConflictError, match=r"recipe\.steps was 4 and is 3"):
        found(words(llama, to, "--steps", "3"))


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "iteration_ms"}
