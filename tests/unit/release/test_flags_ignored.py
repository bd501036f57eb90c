"""`.gitignore` files are read as git reads them: git itself is the oracle."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.release.flags.ignored import Ignored

PATTERNS = [
    "*.pyc",
    "!keep.pyc",
    "/top",
    "build/",
    "docs/*.html",
    "a/**/z",
    "**/deep",
    "inner/**",
    r"\#hash",
    r"\!bang",
    "# comment",
    "[ab].txt",
    "[!ab].log",
    "[z-a].never",
    "q?ery",
    "under/*/leaf",
    "x[]]y",
    "unclosed[",
    "stars***end",
    "**",
    "**/**/z",
    "!**/",
    "!*.md",
    r"space\ ",
    "trailing   ",
]
PATHS = [
    "x.pyc", "keep.pyc", "top", "sub/top", "build/x", "sub/build/y/z", "docs/i.html",
    "docs/sub/i.html", "a/z", "a/b/c/z", "deep", "x/deep/f", "inner/x", "#hash", "!bang", "space ",
    "space", "trailing", "a.txt", "c.txt", "a.log", "c.log", "query", "qery", "under/x/leaf",
    "under/x/y/leaf", "x]y", "unclosed[", "starsend", "stars-end", "README.md", "# comment",
    "z.never", "y.never", "sub/a.md", "sub/under/x/leaf",
]  # fmt: skip
PIECES = st.sampled_from(
    ["a", "b", "*", "?", ".", "[ab]", "[!a]", "\\a", "ab", " ", "#", "[", "\\"]
)
# Two stars that touch something else are left out: git reads them in more than one way.
PARTS = st.one_of(
    st.lists(PIECES, min_size=1, max_size=3).map("".join).filter(lambda made: "**" not in made),
    st.just("**"),
)
LINES = st.tuples(
    st.sampled_from(["", "!", "/", "!/"]),
    st.lists(PARTS, min_size=1, max_size=4).map("/".join),
    st.sampled_from(["", "/", " "]),
).map("".join)
FOLDERS = st.lists(st.sampled_from(["a", "ab", "b a", "b"]), max_size=3)
FILES = st.sampled_from(["a.b", "#", "!", "aa", "c", ".a", "bb"])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty repository."""
    if shutil.which("git") is None:
        pytest.skip("git is the oracle here, and is not installed")
    made: Path = tmp_path_factory.mktemp("checkout")
    subprocess.run(["git", "init", "-q", made], check=True)
    return made


def paths_of(files: list[str]) -> list[str]:
    """Return the files and every folder on the way, written with a slash."""
    found = dict.fromkeys(files)
    for file in files:
        parts = file.split("/")
        found |= dict.fromkeys("/".join(parts[:n]) + "/" for n in range(1, len(parts)))
    return list(found)


def by_git(checkout: Path, lines: list[str], paths: list[str]) -> list[bool]:
    """Return what git says of paths that exist."""
    for path in paths:
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            (checkout / path).touch()
    (checkout / ".gitignore").write_text("\n".join(lines) + "\n", encoding="utf-8")
    told = subprocess.run(
        ["git", "-C", checkout, "check-ignore", "--no-index", "-z", "-v", "-n", "--stdin"],
        input="\0".join(path.rstrip("/") for path in paths).encode(),
        capture_output=True,
        check=False,
    )
    assert told.returncode in {0, 1}, told.stderr
    return [bool(p) and not p.startswith("!") for p in told.stdout.decode().split("\0")[2::4]]


def by_us(lines: list[str], paths: list[str]) -> list[bool]:
    """Walk to each path as the search does: an ignored folder is not entered."""
    ignored = Ignored(lines)

    def one(path: str) -> bool:
        parts = path.rstrip("/").split("/")
        above = ["/".join(parts[:n]) + "/" for n in range(1, len(parts))]
        return any(ignored.verdict(step) for step in [*above, path])

    return [one(path) for path in paths]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_kind_of_pattern_is_read_as_git_reads_it(checkout: Path, pattern: str) -> None:
    paths = paths_of(PATHS)

    for lines in ([pattern], ["*", pattern], [pattern, "!*.txt"]):
        assert by_us(lines, paths) == by_git(checkout, lines, paths), lines


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, min_size=1, max_size=4),
    files=st.lists(st.tuples(FOLDERS, FILES), min_size=1, max_size=8),
)
def test_any_patterns_are_read_as_git_reads_them(
    checkout: Path, lines: list[str], files: list[tuple[list[str], str]]
) -> None:
    paths = paths_of(["/".join([*folders, file]) for folders, file in files])

    assert by_us(lines, paths) == by_git(checkout, lines, paths)
