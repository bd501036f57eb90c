"""What a tree says is not its own: `.gitignore` files, read as git reads them."""

import re
from collections.abc import Iterable, Iterator

NAME = ".gitignore"
PATTERN_CHARACTERS_MAX = 1_000
PATTERNS_MAX = 10_000


class Ignored:
    """The patterns of one file, which speak about the folder that it lies in.

    A path is asked for as the file would write it: relative, with `/`, and with one at the end of
    a folder. What no pattern matches is left to the files further up. git's rule that nothing
    comes back from within an ignored folder is the walker's: it does not go in.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._groups = list(_groups(lines))

    def verdict(self, path: str) -> bool | None:
        """Return whether the path is ignored, or None where this file says nothing about it."""
        for pattern, ignored in self._groups:
            if pattern.fullmatch(path):
                return ignored
        return None


def _groups(lines: Iterable[str]) -> Iterator[tuple[re.Pattern[str], bool]]:
    """Yield patterns, the last line first because it decides; equals that touch become one."""
    group: list[str] = []
    ignored = True
    for number, line in enumerate(reversed(list(lines))):
        if number >= PATTERNS_MAX:
            break
        read = _read(line)
        if read is None:
            continue
        if group and read[1] is not ignored:
            yield re.compile("|".join(group)), ignored
            group = []
        ignored = read[1]
        group.append(read[0])
    if group:
        yield re.compile("|".join(group)), ignored


def _read(line: str) -> tuple[str, bool] | None:
    """Return the line as a regular expression over paths, and whether it ignores; None for none."""
    text = _trimmed(line.rstrip("\r\n"))
    if not text or text.startswith("#") or len(text) > PATTERN_CHARACTERS_MAX:
        return None
    ignored = not text.startswith("!")
    text = text if ignored else text[1:]
    folder = text.endswith("/")
    text = text.rstrip("/") if folder else text
    if not text:
        return None
    anchored = "/" in text
    body = _translated(text.removeprefix("/"))
    if body is None:
        return None
    # A star matches no name at all in a regular expression: `a/*` must not match `a/`.
    return f"{'' if anchored else '(?:.*/)?'}{body}(?<!/){'/' if folder else '/?'}", ignored


def _trimmed(text: str) -> str:
    """Return the text without spaces at the end; one behind a backslash stays."""
    bare = text.rstrip(" ")
    escapes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if len(bare) < len(text) and escapes % 2 else bare


def _translated(text: str) -> str | None:
    """Return the pattern as a regular expression; None where git would never match it."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        made = _piece(text, at)
        if made is None:
            return None
        piece, at = made
        parts.append(piece)
    return "".join(parts)


def _piece(text: str, at: int) -> tuple[str, int] | None:
    """Return the expression of what begins here, and where the next piece begins."""
    if text[at] == "*":
        return _stars(text, at)
    if text[at] == "?":
        return "[^/]", at + 1
    if text[at] == "[":
        return _set(text, at)
    if text[at] == "\\":
        return (re.escape(text[at + 1]), at + 2) if at + 1 < len(text) else None
    return re.escape(text[at]), at + 1


def _stars(text: str, at: int) -> tuple[str, int]:
    """Read `*`, or `**` where it stands for folders: alone between slashes or at an end."""
    end = at
    while end < len(text) and text[end] == "*":
        end += 1
    alone = (at == 0 or text[at - 1] == "/") and (end == len(text) or text[end] == "/")
    if end - at != 2 or not alone:
        return "[^/]*", end
    if end == len(text):
        return ("[^/].*" if at else ".*"), end  # `a/**` is what is in it, not the folder
    while text.startswith("**/", end + 1):  # the same again: said once, it is matched quicker
        end += 3
    return "(?:.*/)?", end + 1


def _set(text: str, at: int) -> tuple[str, int] | None:
    """Read `[...]`; a `]` that comes first is one of its characters, and none of it is a slash.

    Named classes, such as `[:alpha:]`, are not read: a line with one matches nothing.
    """
    start = at + 2 if text[at + 1 : at + 2] in {"!", "^"} else at + 1
    end = start + 1
    while end < len(text) and text[end] != "]":
        end += 2 if text[end] == "\\" else 1
    if end >= len(text) or "[:" in text[start:end]:
        return None
    inner = re.sub(r"\\(.)", r"\1", text[start:end])
    forward = re.sub(r"(.)-(.)", lambda m: m[0] if m[1] <= m[2] else m[1], inner)
    escaped = re.sub(r"([\\\]\[^&~|])", r"\\\1", forward)
    return f"(?!/)[{'^' if start == at + 2 else ''}{escaped}]", end + 1
