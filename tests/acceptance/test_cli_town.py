"""`millrace town make` as a person meets it."""

import json
from pathlib import Path

import pytest

from millrace.api.serve import free_address
from millrace.cli import main
from millrace.cli.ports import Doors
from millrace.kernel.errors import InvalidError
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


def test_nobodys_own_files_are_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A folder of an import, or with another description, stays; a town is made over a town."""
    for name in ("members.jsonl.gz", "town.json", "posts.parquet"):
        folder = tmp_path / name[:4]
        folder.mkdir()
        (folder / name).write_text("mine")
        status, _, err = ran(capsys, "town", "make", str(folder), *TINY)
        assert (status, [one.name for one in folder.iterdir()]) == (2, [name])
        assert f"holds {name}" in err
        assert (folder / name).read_text() == "mine"

    town = tmp_path / "made"
    town.mkdir()
    (town / "notes.txt").write_text("mine")
    assert ran(capsys, "town", "make", str(town), *TINY)[0] == 0
    assert ran(capsys, "town", "make", str(town), *TINY)[0] == 0
    (town / files.ABOUT).write_bytes(files.UNFINISHED)  # as an end by Ctrl-C leaves it
    with pytest.raises(InvalidError, match="no readable"):
        files.read(town, silent)
    assert ran(capsys, "town", "make", str(town), *TINY)[0] == 0


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--members", "10", "16 or more, 4 for each of 4 communities"),
        ("--start", "0001-01-01", "1975-01-01 to 2500-01-01"),
        ("--start", "9999-12-31", "1975-01-01 to 2500-01-01"),
    ],
)
def test_what_does_not_fit_names_the_limit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, value: str, said: str
) -> None:
    status, _, err = ran(capsys, "town", "make", str(tmp_path / "a"), option, value)

    assert status == 2
    assert value in err
    assert said in err


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
