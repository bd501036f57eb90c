"""Goal: `millrace import` says what became of every row, in words, in JSON and as a status."""

import json
import os

import pytest
from import_state import counts, write_lines

from millrace import wiring
from millrace.api.serve import free_address
from millrace.cli import failures, main
from millrace.cli.ports import Doors
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.testing import FakeEncoder


@pytest.fixture
def millrace(capsys, monkeypatch, tmp_path, conninfo):
    """Run commands on a fresh database, with an encoder that loads at once."""
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLRACE_STORE_PRIMARY", conninfo)
    monkeypatch.setenv("MILLRACE_STORE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(wiring, "_encoder", lambda _config: FakeEncoder(history=PooledHistory()))

    def ran(*arguments):
        capsys.readouterr()
        status = main.run(Doors(free_address, None), list(arguments))
        return (status, *capsys.readouterr())

    return ran


@pytest.fixture
def town(tmp_path):
    folder = tmp_path / "town"
    write_lines(folder, "members", {"external_id": "ada", "display_name": "Ada"})
    write_lines(folder, "posts", {"external_id": "p", "author": "ada", "text": "Hello."})
    return folder


def test_a_clean_import_ends_with_0(millrace, town, conninfo):
    status, out, err = millrace("import", "dir", str(town), "--community", "quay")

    assert (status, counts(conninfo)["post"]) == (0, 1), err
    assert "members" in out
    assert "imported in" in out
    assert "reading posts.jsonl" in err


def test_rejected_rows_end_with_8_and_lie_in_a_file(millrace, town, tmp_path):
    write_lines(town, "posts", {"external_id": "p", "author": "zoe", "text": "Hello."}, b"{")

    status, out, _ = millrace("import", "dir", str(town), "--community", "quay")

    assert status == 8
    assert "2 rows rejected, see town.rejects.jsonl" in out
    assert len((tmp_path / "town.rejects.jsonl").read_text().splitlines()) == 2


def test_json_is_one_object_and_nothing_else(millrace, town):
    status, out, err = millrace("import", "dir", str(town), "--community", "quay", "--json")

    report = json.loads(out)
    assert (status, err) == (0, "")
    assert report["kind"] == "dir"
    assert report["exit_status"] == 0
    assert report["files"]["posts.jsonl"]["taken"] == 1
    assert report["nouns"]["posts"]["created"] == 1
    assert isinstance(report["communities"]["quay"], str)
    assert report["learned"] is True


def test_a_broken_file_ends_with_7(millrace, town):
    (town / "follows.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00 cut")

    status, out, _ = millrace("import", "dir", str(town), "--community", "quay")

    assert status == 7
    assert "follows.jsonl.gz: BROKEN" in out


@pytest.mark.parametrize("kind", ["dir", "stackexchange"])
def test_a_folder_that_cannot_be_imported_ends_with_2(millrace, tmp_path, kind):
    status, out, err = millrace("import", kind, str(tmp_path / "nowhere"))

    assert (status, out) == (2, "")
    assert "cannot be read as a folder" in err
    assert "next:" in err
    assert "Traceback" not in err


def test_help_says_what_the_statuses_mean(millrace):
    _, out, _ = millrace("import", "stackexchange", "--help")

    for part in ("Exit status", "0  every row", "7  a file", "8  some rows", "killed", "Users.xml"):
        assert part in " ".join(out.split()) or part in out


def test_every_status_has_one_meaning():
    """A script that sees a status must know what happened: no two of ours share a number."""
    named = [
        value for name, value in vars(failures).items() if name.isupper() and name != "MEANINGS"
    ]
    numbers = [value for value in named if isinstance(value, int)]

    assert sorted(numbers) == sorted(failures.MEANINGS)
