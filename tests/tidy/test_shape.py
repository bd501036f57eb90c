"""Tests about the code itself. Each failure says what to do instead."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "millrace"
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_PER_FUNCTION = 60
LINES_PER_FILE = 500
ARGUMENTS_PER_FUNCTION = 6
DOORS = ["millrace.__main__", "millrace.cli.main", "millrace.api.app", "millrace.web.pages"]
HEAVY = ("torch", "transformers", "sklearn")
ROOMS = ["kernel", "store", "community", "feed", "release", "world", "lab", "web", "api", "cli"]
BANNED_NAMES = {"utils", "util", "common", "misc", "services", "managers", "helpers"}


def relative(path: Path) -> str:
    """Name a file as a person would."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", [*MODULES, *TESTS], ids=relative)
def test_fits_on_a_screen(module: Path) -> None:
    """A function fits on a screen and a file is one subject."""
    text = module.read_text(encoding="utf-8")

    assert text.count("\n") <= LINES_PER_FILE, f"{relative(module)}: split by noun, not by size"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            where = f"{relative(module)}:{node.lineno} {node.name}"
            assert length <= LINES_PER_FUNCTION, f"{where} is {length} lines: split it"


def test_no_function_takes_more_than_six_arguments() -> None:
    """Seven things that belong together are a Struct. Options of a command are a list of options."""
    found = [
        f"{relative(module)}:{node.lineno} {node.name}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if len([a for a in node.args.args + node.args.kwonlyargs if a.arg not in {"self", "cls"}])
        > ARGUMENTS_PER_FUNCTION
        and not any("option" in ast.unparse(mark) for mark in node.decorator_list)
        and "field" not in node.name
        and node.name != "__init__"
    ]

    assert not found, f"group the arguments in a Struct: {found}"


@pytest.mark.parametrize("door", DOORS)
def test_door_opens_without_torch(door: str) -> None:
    """Starting the command line or the API never pays for torch: it takes seconds."""
    code = f"import {door}, sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", f"{door} loads {done.stdout.strip()}: import it in a function"


def test_heavy_libraries_are_not_imported_by_modules() -> None:
    """Only the encoder and the torch index may import torch at the top of a file."""
    allowed = ("src/millrace/feed/encoder/", "src/millrace/feed/torch_look.py")
    found = [
        f"{relative(module)}:{node.lineno}"
        for module in MODULES
        if not relative(module).startswith(allowed)
        for node in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _roots(node)
        if name in HEAVY
    ]

    assert not found, f"import it inside the function that needs it: {found}"


def _roots(node: ast.Import | ast.ImportFrom) -> list[str]:
    names = (
        [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    )
    return [name.partition(".")[0] for name in names]


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_map(room: str) -> None:
    """A newcomer finds one README in each room: what it promises, when it may be wrong."""
    readme = SOURCE / room / "README.md"

    assert readme.exists(), f"write {relative(readme)}"
    text = readme.read_text(encoding="utf-8")
    assert len(text.split()) >= 80, f"{relative(readme)} is too short to be a map"
    assert "wrong" in text or "stale" in text, f"{relative(readme)}: say when it may be wrong"


def test_rooms_are_all_listed() -> None:
    """A new folder is a room of its own and gets a map too."""
    folders = {p.parent.name for p in SOURCE.glob("*/__init__.py")} - {"schema"}

    assert folders == set(ROOMS), "name the room in tests/tidy/test_shape.py"


def test_modules_are_named_after_what_they_hold() -> None:
    """A file called `utils` holds everything, so nobody finds anything in it."""
    found = [relative(p) for p in [*MODULES, *TESTS] if BANNED_NAMES & set(p.with_suffix("").parts)]

    assert not found, f"name the noun instead: {found}"


def test_nothing_is_left_for_later() -> None:
    """What is not done is an issue, not a remark in the code."""
    mark = re.compile(r"\b(FIXME|TODO|XXX|HACK)\b")  # tidy: the marks themselves
    found = [
        f"{relative(path)}:{number}"
        for path in [*MODULES, *TESTS, *SOURCE.rglob("*.sql"), *SOURCE.rglob("*.js")]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if mark.search(line) and "# tidy:" not in line
    ]

    assert not found, f"do it now, or open an issue: {found}"


def test_no_mocks() -> None:
    """A mock agrees with whatever the test believes; a fake lives beside the real thing."""
    name = "unittest" + ".mock"
    found = [relative(p) for p in [*MODULES, *TESTS] if name in p.read_text(encoding="utf-8")]
    allowed = {"pyproject.toml", relative(Path(__file__))}

    assert not set(found) - allowed, "write a fake in the room's testing.py"


def test_every_test_folder_has_tests() -> None:
    """A folder with helpers and data but without tests promises what is not there."""
    folders = {p.relative_to(ROOT / "tests").parts[0] for p in TESTS if p.parent != ROOT / "tests"}
    empty = sorted(name for name in folders if not list((ROOT / "tests" / name).rglob("test_*.py")))

    assert {"unit", "contract", "integration", "property", "acceptance", "tidy"} <= folders
    assert not empty, f"write the tests or remove the folder: {empty}"
