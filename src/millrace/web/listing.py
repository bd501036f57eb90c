"""Posts one below the other in the order of writing: of a member, of a community, of everybody."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community.types import BIGINT_MAX, Key, PostView, parse_key
from millrace.web.cards import Card, card_of

LIST_SIZE = 20


class CardList(Struct, frozen=True, kw_only=True):
    """A stretch of cards.

    more: the address of the next stretch; empty at the end.
    first: whether nothing stands above these cards.
    """

    cards: list[Card]
    more: str
    first: bool


def before_of(cursor: str) -> int:
    """Return the id below which the next stretch begins.

    Passes on:
        InvalidError: the cursor is none.
    """
    return parse_key(cursor, "cursor").id if cursor else BIGINT_MAX


def card_list(
    found: Sequence[PostView], me: Key | None, now: datetime, path: str, cursor: str = ""
) -> CardList:
    """Arrange a stretch of posts, newest first; the last one says where the next begins."""
    following = f"{path}?cursor={found[-1].post.key}" if len(found) >= LIST_SIZE else ""
    return CardList(
        cards=[card_of(view, me, now) for view in found], more=following, first=not cursor
    )
