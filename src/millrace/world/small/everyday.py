"""Makes everyday posts from the parts in `parts.toml`."""

import re
from collections import Counter
from typing import Any

from millrace.community.types import Audience, PostKind
from millrace.kernel.rng import Rng
from millrace.world.small.written import Remark, Written

WORD = re.compile(r"\{(\w+)\}")
NEARBY_SHARE = 0.25
PUBLIC_SHARE = 0.05
REPLY_SHARE = 0.22


class Everyday:
    """Draws posts; an option that was used less is taken first, so that little repeats."""

    def __init__(self, parts: dict[str, Any], rng: Rng) -> None:
        self._parts = parts
        self._rng = rng
        self._used: Counter[str] = Counter()

    def posts(self) -> list[Written]:
        """Return all posts that the genres ask for."""
        made: dict[str, Written] = {}  # by text: what came out before is drawn again
        wanted = 0
        for genre in self._parts["genre"]:
            wanted += genre["count"]
            while len(made) < wanted:
                post = self._post(
                    genre, genre["communities"][len(made) % len(genre["communities"])]
                )
                made.setdefault(post.text, post)
        return list(made.values())

    def _post(self, genre: dict[str, Any], community: str) -> Written:
        words = {name: self._least(options) for name, options in self._parts["words"].items()}
        title = self._filled(self._least(genre["titles"]), words)
        lines = [self._filled(self._least(options), words) for options in genre["lines"]]
        topics = list(genre["topics"])
        self._rng.shuffle(topics)
        draw = self._rng.random()
        audience = (
            Audience.PUBLIC
            if draw < PUBLIC_SHARE
            else Audience.NEARBY
            if draw < PUBLIC_SHARE + NEARBY_SHARE
            else Audience.COMMUNITY
        )
        kind = PostKind(genre["kind"])
        return Written(
            community,
            kind,
            topics[:2],
            audience,
            "",
            title,
            " ".join(line for line in lines if line),
            self._thread(kind, words),
        )

    def _thread(self, kind: PostKind, words: dict[str, str]) -> list[Remark]:
        if self._rng.random() > REPLY_SHARE:
            return []
        remark = self._filled(self._least(self._parts["replies"][kind.value]), words)
        return [Remark(remark, by_author=False)]

    def _least(self, options: list[str]) -> str:
        """Return one of the options that were used least."""
        fewest = min(self._used[one] for one in options)
        picked = self._rng.choice([one for one in options if self._used[one] == fewest])
        if picked:
            self._used[picked] += 1
        return picked

    def _filled(self, text: str, words: dict[str, str]) -> str:
        found = WORD.sub(lambda slot: words[slot[1]], text)
        return found[:1].upper() + found[1:]
