"""Documents that cannot lie: links, commands, words and decisions are checked."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from millrace.api import errors as api_errors
from millrace.cli.main import millrace
from millrace.cli.reference import reference
from millrace.kernel import errors

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "millrace"
SKIPPED = {".venv", ".git", "node_modules", ".hypothesis", ".pytest_cache"}
DOCUMENTS = sorted(p for p in ROOT.rglob("*.md") if not SKIPPED & set(p.relative_to(ROOT).parts))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:src/millrace/|docs/|tests/)[\w./-]+\.\w+)`")
STATUSES = ("proposed", "accepted", "rejected", "superseded")


def relative(path: Path) -> str:
    """Name a file as a person would."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_resolves(document: Path) -> None:
    """A link into the code follows the code when it moves."""
    text = document.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link]
    near = [link for link in links if link and not (document.parent / link).exists()]
    named = [
        name
        for name in NAMED_FILE.findall(text)
        if not (ROOT / name).exists() and "NNNN" not in name
    ]

    assert not near + named, f"{relative(document)} names what is not there: {near + named}"


def test_architecture_names_real_files() -> None:
    """Every file that the two journeys pass exists."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|sql|toml|html))`", text))
    missing = sorted(
        name for name in files if not (SOURCE / name).exists() and not (ROOT / name).exists()
    )

    assert files, "ARCHITECTURE.md names no file"
    assert not missing, f"ARCHITECTURE.md names what is not there: {missing}"


def test_command_reference_is_current() -> None:
    """docs/cli.md is generated; whoever changes a command writes it anew."""
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    assert written == reference(), "run `make docs`"


def test_every_command_has_examples() -> None:
    """Help without an example is read twice."""
    bare = [path for path, epilog in _commands(millrace, "millrace") if "millrace" not in epilog]

    assert not bare, f"give {bare} an epilog with examples"


def _commands(command: object, path: str) -> list[tuple[str, str]]:
    found = [(path, str(getattr(command, "epilog", "") or ""))]
    for name, inner in getattr(command, "commands", {}).items():
        found += _commands(inner, f"{path} {name}")
    return found


def test_every_error_code_is_documented() -> None:
    """A caller that meets a code finds what to do about it."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.MillraceError)}
    missing = sorted(code for code in codes if f"`{code}`" not in text)

    assert api_errors.__doc__
    assert not missing, f"add a row for {missing} to docs/errors.md"


def test_every_decision_has_a_status_and_is_listed() -> None:
    """A decision without a status is an opinion."""
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    found = sorted(folder.glob("[0-9]*.md"))
    numbers = [file.name[:4] for file in found]

    assert len(numbers) == len(set(numbers)), f"a number was used twice: {numbers}"
    for file in found:
        head = "\n".join(file.read_text(encoding="utf-8").splitlines()[:6]).lower()
        assert any(status in head for status in STATUSES), f"{file.name}: add a status line"
        assert file.name in listed, f"list {file.name} in docs/decisions/README.md"


def test_names_use_the_words_of_the_glossary() -> None:
    """One word, one meaning: a second word for the same thing sends the reader looking twice."""
    wrong = _words_not_used()
    found = [
        f"{relative(module)}: {name} (say {wrong[part]})"
        for room in ("community", "feed", "api", "web")
        for module in sorted((SOURCE / room).rglob("*.py"))
        for name in _names(module)
        for part in re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
        if part in wrong
    ]

    assert "user" in wrong, "the table of GLOSSARY.md has another shape"
    assert not found, f"use the words of GLOSSARY.md: {found}"


def _words_not_used() -> dict[str, str]:
    """Return single words of the glossary's last column with the word to say instead."""
    rows = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if "|" in row]
    general = {"event", "item", "view", "read", "level", "phase", "offset", "name", "record",
               "bucket", "payload", "reply", "cookie", "stream", "channel", "person", "module",
               "layer", "interface", "endpoint", "template", "scope", "privacy"}  # fmt: skip
    return {
        word.strip(): row[0]
        for row in cells[2:]
        if len(row) == 3
        for word in row[2].split(",")
        if word.strip() and " " not in word.strip() and word.strip() not in general
    }


def _names(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    fields = {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return defined | fields


def test_no_registry_hosts() -> None:
    """Packages come from wherever the machine's own pip is told to look."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    files = [ROOT / name for name in tracked] or [*DOCUMENTS, *SOURCE.rglob("*.py")]
    host = re.compile(
        r"(pypi\.org|pythonhosted\.org|index-url|find-links|registry\.npmjs|pytorch\.org/whl)"
    )
    found = [
        relative(file)
        for file in files
        if file.is_file() and file != Path(__file__) and file.suffix not in {".png", ".gz", ".zst"}
        if host.search(file.read_text(encoding="utf-8", errors="replace"))
    ]

    assert not found, f"remove the host or the option: {found}"
