"""Nouns of the prompts. A prompt is a list of parts: reserved markers, and plain text between."""

import json
from datetime import datetime
from typing import TypeAlias

from msgspec import Struct

from millrace.kernel.hashing import fingerprint

PERCENTILE_MAX = 100


class Marker(Struct, frozen=True):
    """A reserved token. It is a part of its own, so that no text can ever be one."""

    name: str

    @property
    def token(self) -> str:
        """Return how the token is written in the vocabulary."""
        return f"<{self.name}>"


Prompt: TypeAlias = tuple[Marker | str, ...]


class PostFacts(Struct, frozen=True, kw_only=True):
    """What a prompt says of a post. Numbers are percentiles, whole numbers from 0 to 100.

    age_percentile: 100 is the newest. An unknown number is None and is left out.
    created_at: orders a history; it is not written into any prompt.
    """

    kind: str
    author_name: str
    headline: str
    community: str
    topics: list[str]
    title: str
    text: str
    created_at: datetime
    age_percentile: int | None = None
    view_percentile: int | None = None
    like_percentile: int | None = None
    comment_percentile: int | None = None
    engagement_percentile: int | None = None
    author_reach_percentile: int | None = None


class MemberFacts(Struct, frozen=True, kw_only=True):
    """What a prompt says of a member.

    history: posts with a positive engagement, in the order of the engagements, newest last.
    """

    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]
    history: list[PostFacts]


def render(prompt: Prompt) -> str:
    """Return the prompt as one text, for people and tables; an encoder never reads this form."""
    pieces = [part.token if isinstance(part, Marker) else part for part in prompt]
    return "".join(pieces)


def prompt_hash(prompt: Prompt) -> str:
    """Return a short name for a prompt: equal prompts, and only they, share one.

    It hashes the parts and not the rendered text, so that a text that looks like a marker
    does not collide with the marker.
    """
    parts = [[part.name] if isinstance(part, Marker) else part for part in prompt]
    return fingerprint(json.dumps(parts).encode())
