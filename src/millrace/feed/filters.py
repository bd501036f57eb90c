"""Who does not get which post: one function per filter, one line in FILTERS.

A filter says which posts are not for this member, all posts at a time, and `reason` says why in
words. What can be a mask is applied inside retrieval too; the filters judge every candidate again,
because other sources have other masks. The same rule of visibility in words and in SQL is in
community/visibility.py; tests prove the three equal.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Audience
from millrace.feed.catalogue import Catalogue
from millrace.feed.index import AUDIENCES, Mask, Slots, microseconds
from millrace.feed.run import FRESH, SEEN, SERVED, Candidates, Known, MemberState, Run


class Judging(Struct, frozen=True, kw_only=True):
    """What filters look at: the member, and the columns of some posts.

    oldest: the oldest moment that may be shown.
    """

    member: MemberState
    known: Known
    catalogue: Catalogue
    oldest: datetime
    slots: Slots
    births: Slots
    communities: Slots
    audiences: Slots
    languages: Slots
    authors: Slots


Filter = Callable[[Judging], Mask]
"""Takes the posts, and says which ones are not for this member."""


def removed_post(posts: Judging) -> Mask:
    """Leave out what was removed or hidden, or whose author was removed or banned."""
    index = posts.catalogue.index
    return ~index.alive(posts.slots) | (index.born(posts.slots) != posts.births)


def audience(posts: Judging) -> Mask:
    """Leave out what is for others."""
    mine = posts.communities == posts.member.key.community_id
    public = posts.audiences == AUDIENCES.index(Audience.PUBLIC)
    near = posts.audiences == AUDIENCES.index(Audience.NEARBY)
    near &= np.isin(posts.communities, list(posts.member.relations.nearby))
    return ~(mine | public | near)


def blocked(posts: Judging) -> Mask:
    """Leave out authors with a block in either direction."""
    blocks = posts.member.relations.blocks
    return np.isin(posts.authors, posts.catalogue.index.author_numbers(blocks))


def own_post(posts: Judging) -> Mask:
    """Leave out what the member wrote."""
    return np.isin(posts.authors, posts.catalogue.index.author_numbers([posts.member.key]))


def muted(posts: Judging) -> Mask:
    """Leave out authors that the member muted."""
    mutes = posts.member.relations.mutes
    return np.isin(posts.authors, posts.catalogue.index.author_numbers(mutes))


def hidden_post(posts: Judging) -> Mask:
    """Leave out what the member hid or reported."""
    return np.isin(posts.slots, posts.known.hidden)


def too_old(posts: Judging) -> Mask:
    """Leave out what is older than the limit."""
    return posts.catalogue.index.created(posts.slots) < microseconds(posts.oldest)


def language(posts: Judging) -> Mask:
    """Leave out languages that the member does not read; a post without one passes."""
    if not posts.member.languages:
        return np.zeros(len(posts.slots), dtype=np.bool_)
    read = posts.catalogue.index.language_numbers(["", *posts.member.languages])
    return ~np.isin(posts.languages, read)


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("removed", removed_post),
    ("audience", audience),
    ("blocked", blocked),
    ("own_post", own_post),
    ("muted", muted),
    ("hidden_post", hidden_post),
    ("age", too_old),
    ("language", language),
)


def judging(run: Run, catalogue: Catalogue, oldest: datetime) -> Judging:
    """Gather what filters look at."""
    posts = run.candidates
    communities, audiences, languages = catalogue.index.classes(posts.slots)
    return Judging(
        member=run.member,
        known=run.known,
        catalogue=catalogue,
        oldest=oldest,
        slots=posts.slots,
        births=posts.births,
        communities=communities,
        audiences=audiences,
        languages=languages,
        authors=posts.authors,
    )


def judged(posts: Judging) -> list[tuple[str, Mask]]:
    """Return, for each filter that takes out something, which posts it is the first to take out."""
    found: list[tuple[str, Mask]] = []
    left = np.ones(len(posts.slots), dtype=np.bool_)
    for name, test in FILTERS:
        gone = test(posts) & left
        if gone.any():
            found.append((name, gone))
            left &= ~gone
    return found


def reason(name: str, posts: Judging, place: int) -> str:
    """Return in words why a filter takes out the post in a place."""
    words = REASONS[name]
    return words if isinstance(words, str) else words(posts, place)


def _removed(posts: Judging, place: int) -> str:
    slot = posts.slots[place : place + 1]
    if posts.catalogue.index.born(slot)[0] != posts.births[place]:
        return "the post was removed"
    if posts.catalogue.author_stands(slot)[0]:
        return "the post was hidden by a moderator"
    return "its author was removed or banned"


def _for_others(posts: Judging, place: int) -> str:
    return f"its audience is {AUDIENCES[int(posts.audiences[place])].value} of another community"


def _old(posts: Judging, _: int) -> str:
    return f"it is older than {posts.oldest:%Y-%m-%d %H:%M}"


def _foreign(posts: Judging, place: int) -> str:
    spoken = posts.catalogue.index.language(int(posts.languages[place]))
    return f"it is in {spoken}, and the member reads {', '.join(sorted(posts.member.languages))}"


REASONS: dict[str, str | Callable[[Judging, int], str]] = {
    "removed": _removed,
    "audience": _for_others,
    "age": _old,
    "language": _foreign,
    "blocked": "a block stands between",
    "own_post": "the member wrote it",
    "muted": "the member muted its author",
    "hidden_post": "the member hid or reported it",
}


def tiers_of(known: Known, posts: Candidates, capacity: int) -> NDArray[np.int8]:
    """Return whether posts are new to the member, were delivered lately, or were seen.

    Args:
        known: what the member knows.
        posts: the candidates.
        capacity: how many slots there are.
    """
    tiers = np.full(capacity, FRESH, dtype=np.int8)
    tiers[known.served] = SERVED
    tiers[known.seen] = SEEN
    return tiers[posts.slots]


def oldest_at(now: datetime, age_days_max: float, epoch: datetime) -> datetime:
    """Return the oldest moment that may be shown; 0 days mean no limit."""
    return max(now - timedelta(days=age_days_max), epoch) if age_days_max > 0 else epoch
