"""What the API answers to a search. What matched is told as ranges, never as markup."""

from msgspec import Struct

from millrace.api import wire
from millrace.community.asked_words import Marked
from millrace.community.search import PostHit as FoundPost


class Marks(Struct, frozen=True, kw_only=True):
    """A text with the stretches that matched: pairs of places in it, counted in Unicode characters.

    A stretch begins at the first place and ends before the second.
    """

    text: str
    ranges: list[tuple[int, int]]


class PostHit(Struct, frozen=True, kw_only=True):
    """A post that was found, with what matched in its title and in a part of its text."""

    post: wire.Post
    title: Marks
    excerpt: Marks


class Found(Struct, frozen=True, kw_only=True):
    """The best of everything, for a search box."""

    posts: list[PostHit]
    members: list[wire.MemberCard]
    communities: list[wire.Community]


def marks(found: Marked) -> Marks:
    """Return a marked text."""
    return Marks(text=found.text, ranges=found.ranges)


def post_hit(found: FoundPost) -> PostHit:
    """Return a post that was found."""
    return PostHit(
        post=wire.post(found.view), title=marks(found.title), excerpt=marks(found.excerpt)
    )
