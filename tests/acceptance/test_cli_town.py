"""`millrace town make` as a person meets it."""

import json
from pathlib import Path

import pytest

from millrace.api.serve import free_address
from millrace.cli import main
from millrace.cli.ports import Doors
from millrace.world.loader import silent
from millrace.world.simulator import files

TINY = (
    "--members", "40", "--posts", "160", "--impressions", "500", "--communities", "2",
    "--days", "4", "--seed", "9",
)  # fmt: skip


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command and return status, standard output and standard error."""
    capsys.readouterr()
    status = main.run(Doors(free_address, pytest.fail), list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_town_is_made_told_and_comes_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One JSON object says what it is; the folder has it, and its truth."""
    status, out, err = ran(capsys, "town", "make", str(tmp_path / "a"), *TINY, "--json")
    _, told, _ = ran(capsys, "town", "make", str(tmp_path / "b"), *TINY)

    found = json.loads(out)
    assert (status, err) == (0, "")
    assert (found["version"], found["members"], found["posts"]) == ("town v1", 40, 160)
    assert found["config"]["seed"] == 9
    assert found["digest"] in told
    assert files.read(tmp_path / "b", silent).digest() == found["digest"]
    members = [(tmp_path / name / "members.parquet").read_bytes() for name in "ab"]
    assert members[0] == members[1]


def test_what_is_no_town_says_what_would_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, err = ran(capsys, "town", "make", str(tmp_path / "a"), "--noise", "1.5")

    assert status != 0
    assert out == ""
    assert "noise 1.5" in err
    assert "0 to 1" in err
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Here a file stands where the folder should be."""
    (tmp_path / "a").write_text("taken")

    status, _, err = ran(capsys, "town", "make", str(tmp_path / "a"), *TINY)

    assert status != 0
    assert "cannot be written" in err
    assert "Traceback" not in err
