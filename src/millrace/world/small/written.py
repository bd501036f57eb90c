"""Reads the posts that were written by hand: `written/*.txt`.

A post begins with a line `@ COMMUNITY kind topic,topic audience [link] [:: title]`, its text
follows, and then its thread: `> ` is a comment, `>= ` one by the post's author. Each comment
answers the post.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from millrace.community.types import Audience, PostKind

HEAD = re.compile(r"@ (\w\w) (\w+) ([\w,]+) (\w+)(?: (https://\S+))?(?: :: (.+))?")


class Remark(Struct, frozen=True):
    """A comment, and whether the post's author wrote it."""

    text: str
    by_author: bool


class Written(Struct):
    """A post without its author and its time."""

    community: str
    kind: PostKind
    topics: list[str]
    audience: Audience
    link: str
    title: str
    text: str
    thread: list[Remark]


def written_posts(folder: Path) -> Iterator[Written]:
    """Yield every post of a folder, file by file.

    Raises:
        ValueError: a head has another form; names the file and the line.
    """
    for path in sorted(folder.glob("*.txt")):
        post: Written | None = None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("@"):
                if post is not None:
                    yield post
                head = HEAD.fullmatch(line)
                if head is None:
                    raise ValueError(f"{path.name}:{number}: {line!r} is no head of a post")
                post = _begun(head)
            elif post is None or not line:
                continue
            elif line.startswith(">= "):
                post.thread.append(Remark(line[3:], by_author=True))
            elif line.startswith("> "):
                post.thread.append(Remark(line[2:], by_author=False))
            else:
                post.text = f"{post.text}\n\n{line}" if post.text else line
        if post is not None:
            yield post


def _begun(head: re.Match[str]) -> Written:
    community, kind, topics, audience, link, title = head.groups()
    return Written(
        community,
        PostKind(kind),
        topics.split(","),
        Audience(audience),
        link or "",
        title or "",
        "",
        [],
    )
