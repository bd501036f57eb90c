"""`millrace train encoder`: from a folder of examples to a directory that serves, killed or not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from examples_folder import tables, write

from millrace.cli.main import millrace
from millrace.cli.train_encoder import HELP, encoder
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import save_tiny_llama
from millrace.kernel.errors import InvalidError, MillraceError

WAIT_SECONDS = 120
OPTIONS = {
    "--steps": 30, "--batch": 8, "--evaluate-every": 10, "--learning-rate": 0.005, "--patience": 0,
    "--held-back": 0.3, "--random": 3, "--matryoshka": "32,8", "--seed": 5, "--precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("examples"), tables())


def arguments(data: Path, llama: Path, to: Path, **changes: object) -> list[str]:
    options = {**OPTIONS, **{f"--{name}": value for name, value in changes.items()}}
    pairs = [str(part) for pair in options.items() for part in pair]
    return [str(data), "--to", str(to), "--model", str(llama), *pairs, "--json"]


def trained(words: list[str]) -> dict[str, Any]:
    # From the root: click keeps a command's help option as whoever asks first would have it.
    done = CliRunner().invoke(millrace, ["train", "encoder", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(data: Path, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training that nobody disturbed."""
    return trained(arguments(data, llama, tmp_path_factory.mktemp("whole") / "run"))


def test_a_model_is_left_that_says_what_it_is(whole, data: Path):
    folder = Path(whole["folder"])
    looks = [look["step"] for look in whole["looks"]]
    lineage = json.loads((folder / "data.json").read_text())
    manifest = json.loads((data / "manifest.json").read_text())

    assert looks == [0, 10, 20, 30]
    assert whole["best_step"] in looks
    assert set(whole["metrics"]) == {
        f"recall_{depth}{at}" for depth in (10, 100) for at in ("", "_at_8", "_profile")
    }
    kept = json.loads((folder / "recipe.json").read_text())
    assert kept["history_in"] == "pooled"
    assert kept["profile_weight"] != whole["recipe"]["profile_weight"] or not whole["best_step"]
    assert whole["recipe"]["matryoshka"] == [32, 8]
    assert lineage["data"] == manifest["fingerprint"]
    assert lineage["cut_at"].startswith(manifest["cut_at"][:19])


def test_a_process_that_was_killed_is_gone_on_with(whole, data: Path, llama: Path, tmp_path: Path):
    """By SIGKILL, wherever it was; then without its options: the recipe is that of the training."""
    to = tmp_path / "run"
    words = arguments(data, llama, to)
    program = "from millrace.cli.train_encoder import encoder; encoder()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        end = time.monotonic() + WAIT_SECONDS
        while not (to / "last" / "state.json").exists() and time.monotonic() < end:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

    again = trained([str(data), "--to", str(to), "--model", str(llama), "--resume", "--json"])

    assert again["recipe"] == whole["recipe"]
    assert again["looks"] == whole["looks"]
    one, other = (Path(run["folder"]) / "model.safetensors" for run in (again, whole))
    assert one.read_bytes() == other.read_bytes()


def test_examples_that_leak_are_not_learned_from(llama: Path, tmp_path: Path):
    """A state that was known only after its moment is the future."""
    made = tables()
    made["moments"]["positives"][40] = [made["moments"]["shown"][40][0]]
    folder = write(tmp_path / "examples", made)

    with pytest.raises(MillraceError, match="future"):
        trained(arguments(folder, llama, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("hard", 9), ("batch", 1), ("temperature", 0), ("held-back", 1)]
)
def test_a_recipe_outside_its_limits_is_refused(
    data: Path, llama: Path, tmp_path: Path, option: str, value: float
):
    with pytest.raises(InvalidError, match=option.replace("-", "_")):
        trained(arguments(data, llama, tmp_path / "run", **{option: value}))


def test_every_switch_of_the_recipe_has_an_option():
    """And nothing else has: whoever adds a field says here what it is."""
    fields = {field.name for field in msgspec.structs.fields(EncoderRecipe)}

    assert set(HELP) == fields
    assert fields <= {parameter.name for parameter in encoder.params}
