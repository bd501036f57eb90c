"""`millrace train export`: from a database to a folder that training accepts."""

from pathlib import Path

import pytest
from command_line import Millrace

from millrace.feed.examples import leaks

pytestmark = pytest.mark.services


@pytest.mark.parametrize("encoding", ["arrow", "parquet"])
def test_of_nothing_an_empty_folder_is_made(
    beside: Millrace, tmp_path: Path, encoding: str
) -> None:
    """Goal: a new installation exports no moment, and what it writes is whole."""
    folder = tmp_path / "examples"
    ran = beside("train", "export", str(folder), "--format", encoding, "--json")

    assert ran.status == 0, ran.err
    assert ran.json["counts"]["moments"] == 0
    assert ran.json["changed"] is True
    assert leaks.check(folder).fingerprint == ran.json["fingerprint"]
    assert {path.suffix for path in folder.iterdir()} == {f".{encoding}", ".json"}


def test_people_are_told_what_was_left_out(beside: Millrace, tmp_path: Path) -> None:
    """Goal: an export that is repeated says that nothing changed."""
    arguments = ("train", "export", str(tmp_path / "made"), "--until", "2026-11-01")
    first, again = beside(*arguments), beside(*arguments)

    assert "written, fingerprint" in first.out
    assert "left out: 0 moments without all their answers" in first.out
    assert "unchanged, fingerprint" in again.out


def test_a_time_that_is_none_is_refused(beside: Millrace, tmp_path: Path) -> None:
    ran = beside("train", "export", str(tmp_path / "made"), "--until", "yesterday")

    assert ran.status == 2
    assert "yesterday" in ran.err
