"""SQL lives in .sql files, each query named, described and used."""

import ast
import re
from pathlib import Path

import pytest

from millrace.store.queries import parse

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "millrace"
FILES = sorted(p for p in SOURCE.rglob("*.sql") if p.parent.name == "sql")
MODULES = sorted(SOURCE.rglob("*.py"))
SQL = re.compile(
    r"\b(select\s+.+\s+from|insert\s+into|delete\s+from|update\s+\w+\s+set|create\s+(table|database|"
    r"index)|alter\s+(table|system)|drop\s+(table|database)|copy\s+\w+\s+(from|to))\b",
    re.IGNORECASE | re.DOTALL,
)
# File -> why it may hold SQL.
ALLOWED = {
    "store/testing.py": "makes and copies databases, which no room does",
    "store/primary.py": "tells a person which statement to run",
    "cli/checks.py": "tells a person which statement to run",
}


def relative(path: Path) -> str:
    """Name a file as a person would."""
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_every_query_is_described(file: Path) -> None:
    """One line of reason stands above every query."""
    queries = parse(file.read_text(encoding="utf-8"))

    assert queries, f"{relative(file)} has no named query"
    bare = [name for name, query in queries.items() if len(query.description) < 10]
    assert not bare, f"{relative(file)}: say why {bare} exists, under its name"


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_every_query_is_used(file: Path) -> None:
    """A query that nobody runs is not kept true by any test."""
    room = file.parent.parent
    texts = [p.read_text(encoding="utf-8") for p in room.rglob("*.py")]
    others = [p.read_text(encoding="utf-8") for p in [*MODULES, *(ROOT / "tests").rglob("*.py")]]
    names = parse(file.read_text(encoding="utf-8"))
    unused = [
        name for name in names if not any(_mentions(text, name) for text in [*texts, *others])
    ]

    assert not unused, f"remove {unused} from {relative(file)}, or use them"


def _mentions(text: str, name: str) -> bool:
    return f'"{name}"' in text or f"'{name}'" in text


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_no_sql_in_python(module: Path) -> None:
    """A statement in a .sql file is found, described, and read by whoever knows the database."""
    if relative(module) in ALLOWED:
        return
    tree = ast.parse(module.read_text(encoding="utf-8"))
    documented = {id(text) for text in _docstrings(tree)}
    found = [
        f"{relative(module)}:{node.lineno}: {node.value[:60]!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documented
        and SQL.search(node.value)
    ]

    assert not found, f"move it to the room's sql folder as a named query: {found}"


def _docstrings(tree: ast.Module) -> list[ast.AST]:
    """Return every string that stands as a statement: docstrings, and notes below a constant."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
