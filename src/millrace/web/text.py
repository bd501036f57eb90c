"""Plain text as a page may show it: paragraphs, lines, links. No markup is ever made here.

The templates escape every piece, so a post can hold any text and stays text.
"""

import re
from urllib.parse import urlsplit

from msgspec import Struct

FOLD_CHARACTERS = 480
FOLD_LINES = 7
# A link ends before white space, quotes and angle brackets. Two schemes only: no script, no data.
LINK = re.compile(r"https?://[^\s<>\"'`]+", re.IGNORECASE)
TRAILING = ".,;:!?*_"


class Piece(Struct, frozen=True):
    """A run of text; `href` is set when it is a link."""

    text: str
    href: str = ""


class Body(Struct, frozen=True):
    """The text of a post: paragraphs of lines of pieces. `folds`: long enough to be folded."""

    paragraphs: list[list[list[Piece]]]
    folds: bool


def body_of(text: str) -> Body:
    """Cut text into paragraphs, lines and links."""
    clean = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    blocks = [block for block in re.split(r"\n[ \t]*\n+", clean) if block.strip()]
    paragraphs = [[pieces_of(line) for line in block.split("\n")] for block in blocks]
    lines = sum(len(paragraph) for paragraph in paragraphs)
    return Body(paragraphs, len(clean) > FOLD_CHARACTERS or lines > FOLD_LINES)


def pieces_of(line: str) -> list[Piece]:
    """Cut one line at its links."""
    pieces: list[Piece] = []
    rest = 0
    for found in LINK.finditer(line):
        address = _without_tail(found.group())
        if not link_of(address):
            continue
        if found.start() > rest:
            pieces.append(Piece(line[rest : found.start()]))
        pieces.append(Piece(address, address))
        rest = found.start() + len(address)
    if rest < len(line) or not pieces:
        pieces.append(Piece(line[rest:]))
    return pieces


def _without_tail(address: str) -> str:
    """Give punctuation after a link, and a bracket that it did not open, back to the sentence."""
    while address:
        closes_nothing = address[-1] in ")]" and address.count("(["[address[-1] == "]"]) < (
            address.count(address[-1])
        )
        if address[-1] not in TRAILING and not closes_nothing:
            break
        address = address[:-1]
    return address


def link_of(address: str) -> str:
    """Return the address if a page may link to it: http or https with a host; else nothing."""
    try:
        parts = urlsplit(address)
    except ValueError:  # for example an unfinished IPv6 host
        return ""
    if parts.scheme.lower() not in {"http", "https"} or not parts.netloc:
        return ""
    if re.search(r"[\s\x00-\x1f]", address):  # urlsplit drops what a browser may read otherwise
        return ""
    return address


def host_of(address: str) -> str:
    """Return the host of a link without its `www.`, for a short label."""
    try:
        return (urlsplit(address).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def excerpt(text: str, characters: int) -> str:
    """Return the beginning of a text on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= characters:
        return line
    return line[:characters].rsplit(" ", 1)[0].rstrip(".,;: ") + "…"
