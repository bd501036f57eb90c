"""Plain text from the HTML of a post: paragraphs, lists, quotes and code stay readable.

One pass over the text with one regular expression, so the time is linear and no input raises.
A tag that is not known is left out, its text stays; links keep their text and lose their address.
"""

import html
import re

TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})(?=[\s/>])([^<>]*)>")
LONE_MARK = re.compile(r"^(- |> )\s*\n\s*", re.MULTILINE)
SPACES = re.compile(r"\s+")
GAPS = re.compile(r"\n{3,}")
ALT = re.compile(r"""\balt\s*=\s*["']([^"']*)["']""")
SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)", re.DOTALL)

BLOCKS = frozenset(
    {"p", "div", "ul", "ol", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "table"}
)
MARKS = {"code": "`", "strong": "", "em": ""}
HEADLINE_MAX = 160


class _Text:
    """Text so far, and whether we stand in code that keeps its spaces."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.fenced = False
        self.quoted = 0
        self.raise_by = ""

    def add(self, raw: str) -> None:
        """Add text between two tags."""
        text = html.unescape(raw)
        if self.fenced:
            self.parts.append(text)
            return
        text = SPACES.sub(" ", text)
        if text and self.raise_by and text[0] != " ":
            self.parts.append(self.raise_by)
        self.raise_by = ""
        if text == " " and (not self.parts or self.parts[-1].endswith(("\n", " "))):
            return
        if self.parts and self.parts[-1].endswith("\n"):
            text = text.lstrip(" ")
        self.parts.append(text)

    def gap(self, lines: str) -> None:
        """Begin a new line or a new paragraph."""
        self.parts.append(lines)

    def tag(self, name: str, rest: str, *, closes: bool) -> None:
        """Follow one tag."""
        if name == "pre":
            self.gap("\n```\n" if closes else "\n\n```\n")
            self.fenced = not closes
        elif self.fenced:
            return
        elif name in MARKS:
            self.parts.append(MARKS[name])
        elif name in ("sup", "sub"):
            self.raise_by = "" if closes else ("^" if name == "sup" else "_")
        elif name == "img":
            self._picture(rest)
        elif name == "li":
            self.gap("" if closes else "\n- ")
        elif name in ("br", "tr"):
            self.gap("\n")
        elif name in BLOCKS:
            self._block(name, closes=closes)

    def _picture(self, rest: str) -> None:
        found = ALT.search(rest)
        words = html.unescape(found[1]).strip() if found else ""
        self.parts.append(f"[picture: {words}]" if words else "[picture]")

    def _block(self, name: str, *, closes: bool) -> None:
        self.gap("\n\n")
        if name == "blockquote" and not closes:
            self.parts.append("> ")


def plain_text(source: str) -> str:
    """Return the text of HTML: code blocks between ``` lines, inline code between backticks."""
    text = _Text()
    source = _uncommented(source)
    at = 0
    for found in TAG.finditer(source):
        text.add(source[at : found.start()])
        text.tag(found[2].lower(), found[3], closes=found[1] == "/")
        at = found.end()
    text.add(source[at:])
    joined = "".join(text.parts)
    if text.fenced:
        joined += "\n```"
    joined = joined.replace("\r\n", "\n").replace("\r", "\n")
    joined = LONE_MARK.sub(r"\1", joined)
    return GAPS.sub("\n\n", "\n".join(line.rstrip() for line in joined.split("\n"))).strip()


def _uncommented(source: str) -> str:
    """Leave comments out. One that never ends stays: looking for the end of each is quadratic."""
    kept: list[str] = []
    at = 0
    while (begin := source.find("<!--", at)) >= 0 and (end := source.find("-->", begin + 4)) >= 0:
        kept.append(source[at:begin])
        at = end + 3
    return "".join([*kept, source[at:]])


def first_sentence(text: str) -> str:
    """Return the first sentence of a text if it is short enough for a headline, else nothing."""
    opening = text.split("\n", 1)[0].strip()
    found = SENTENCE.match(opening)
    sentence = (found[1] if found else opening).strip()
    return sentence if len(sentence) <= HEADLINE_MAX else ""
