"""The installation's secret: made once, for its owner only, the same for whoever comes later."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millrace.kernel.errors import SetupError
from millrace.store.secret import BYTES, FILE_NAME, secret_of


def test_made_on_first_use_and_the_same_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"

    first = secret_of(folder)

    assert len(first) == BYTES
    assert secret_of(folder) == first
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert [p.name for p in folder.iterdir()] == [FILE_NAME]


def test_many_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as many:
        found = set(many.map(lambda _: secret_of(tmp_path), range(32)))

    assert len(found) == 1


def test_the_variable_wins_and_needs_no_file(tmp_path: Path) -> None:
    assert secret_of(tmp_path / "none", "ab" * BYTES) == bytes.fromhex("ab" * BYTES)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("given", ["hunter2", "ab" * (BYTES - 1), "zz" * BYTES])
def test_a_weak_variable_is_refused_and_not_repeated(tmp_path: Path, given: str) -> None:
    with pytest.raises(SetupError, match="MILLRACE_SECRET does not hold") as caught:
        secret_of(tmp_path, given)

    assert given not in f"{caught.value.message}{caught.value.next_step}"


@pytest.mark.parametrize("text", ["", "half", "ab" * 4])
def test_a_damaged_file_names_itself(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text, encoding="utf-8")

    with pytest.raises(SetupError, match=FILE_NAME) as caught:
        secret_of(tmp_path)

    assert "remove" in (caught.value.next_step or "")


def test_a_folder_that_is_a_file_names_itself(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")

    with pytest.raises(SetupError, match="cannot be used"):
        secret_of(tmp_path / "taken")
