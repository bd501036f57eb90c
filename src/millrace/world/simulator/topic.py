"""What the town talks about: topics with two registers, read from `topics/*.toml`.

A topic has words for how people describe themselves (its *profile* register: callings, training,
habits) and words for how posts talk about the matter (its *post* register: things, events,
problems). The two share next to no content words; a third, small vocabulary may be used by both.
Decision 0100 says why.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from millrace.world.simulator.grammar import Template, compiled

FOLDER = Path(__file__).parent / "topics"

PROFILE_PARTS = ("role", "past", "love", "skill")
POST_PARTS = (
    "item", "thing", "did", "happened", "holds", "wonder", "advice", "event", "offer", "alert",
    "link",
)  # fmt: skip
SHARED_PARTS = ("item", "thing", "doing")

Phrases = dict[str, tuple[Template, ...]]


class Topic(Struct, frozen=True):
    """A subject that members are interested in and posts are about.

    name: the slug, which is also the tag.
    field: the broad area of life.
    near: indexes of the topics that an interest in this one drifts to.
    profile: how people describe themselves; phrases by part of speech.
    post: how posts talk about the matter; lists of a topic's own stand beside the usual parts.
    shared: what both may say.
    """

    index: int
    name: str
    field: str
    near: tuple[int, ...]
    profile: Phrases
    post: Phrases
    shared: Phrases


@cache
def topics() -> tuple[Topic, ...]:
    """Return every topic in order of index. Read once, and only when asked for."""
    raw: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(FOLDER.glob("*.toml")):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        raw.extend((path.stem, entry) for entry in content["topic"])
    index = {entry["name"]: position for position, (_, entry) in enumerate(raw)}
    assert len(index) == len(raw), "two topics have one name"
    return tuple(
        Topic(
            index=index[entry["name"]],
            name=entry["name"],
            field=field,
            near=tuple(index[name] for name in entry["near"]),
            profile=_phrases(entry["profile"], PROFILE_PARTS),
            post=_phrases(entry["post"], POST_PARTS),
            shared=_phrases(entry["shared"], SHARED_PARTS),
        )
        for field, entry in raw
    )


@cache
def topic_named(name: str) -> Topic:
    """Return a topic by its slug.

    Raises:
        KeyError: there is none of that name.
    """
    for topic in topics():
        if topic.name == name:
            return topic
    raise KeyError(name)


def listed(text: str) -> tuple[str, ...]:
    """Return the phrases of a block: one a line, or several on a line between ` / `."""
    lines = (piece.strip() for line in text.splitlines() for piece in line.split(" / "))
    return tuple(line for line in lines if line)


def _phrases(table: dict[str, str], parts: tuple[str, ...]) -> Phrases:
    """Return the compiled lists of a register.

    Raises:
        KeyError: a part that every topic needs is missing.
    """
    missing = [part for part in parts if part not in table]
    if missing:
        raise KeyError(f"a topic lacks {missing}")
    return {
        part: tuple(compiled(phrase) for phrase in listed(text)) for part, text in table.items()
    }
