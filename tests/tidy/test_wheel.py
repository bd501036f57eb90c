"""An installed wheel carries everything that the program reads."""

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "millrace"
IGNORED = {".pyc"}


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel that was built just now."""
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    target = tmp_path_factory.mktemp("wheel")

    (made,) = builder.WheelBuilder(str(ROOT)).build(directory=str(target), versions=["standard"])

    with zipfile.ZipFile(made) as wheel:
        return set(wheel.namelist())


def test_the_wheel_has_every_file_of_the_package(inside: set[str]) -> None:
    wanted = {
        f"millrace/{file.relative_to(SOURCE)}"
        for file in SOURCE.rglob("*")
        if file.is_file() and file.suffix not in IGNORED
    }

    assert sorted(wanted - inside) == []


@pytest.mark.parametrize(
    "kind", [".sql", ".html", ".css", ".js", ".toml"], ids=lambda kind: kind[1:]
)
def test_the_wheel_has_files_of_each_kind_that_is_read_at_run_time(
    inside: set[str], kind: str
) -> None:
    assert [name for name in inside if name.endswith(kind)], f"no {kind} file is packaged"


def test_the_wheel_starts_the_command(inside: set[str]) -> None:
    assert "millrace/__main__.py" in inside
    assert any(name.endswith(".dist-info/entry_points.txt") for name in inside)
    assert not [name for name in inside if name.startswith("tests/")]
