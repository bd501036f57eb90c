"""What counts of what a member liked: posts that they may still see; and the vector made of those.

Nothing is waited for, so that slots, columns and vectors belong together.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from millrace.community.types import Audience, Key, Relations
from millrace.feed.averages import Known
from millrace.feed.catalogue import Catalogue
from millrace.feed.index import AUDIENCES, Mask, PostIndex, Slots, Vector
from millrace.feed.pooled_history import Pool, counted_from, days_between, terms


def may_see(catalogue: Catalogue, member: Key, relations: Relations, slots: Slots) -> Mask:
    """Return which posts a member may see. Visibility is the one rule's, as the catalogue has it."""
    table = catalogue.table
    communities, audiences, _ = table.classes(slots)
    reached = communities == member.community_id
    reached |= audiences == AUDIENCES.index(Audience.PUBLIC)
    if relations.nearby:
        near = np.isin(communities, list(relations.nearby))
        reached |= near & (audiences == AUDIENCES.index(Audience.NEARBY))
    reached &= table.alive(slots)
    if relations.blocks:
        reached &= ~np.isin(table.authors_of(slots), table.author_numbers(relations.blocks))
    return reached


def counting(
    index: PostIndex, slots: Slots, seen: Mask, against: Collection[Key]
) -> NDArray[np.int64]:
    """Return the places of liked posts that count: of which there are, that the member may see, and
    that they have not hidden or reported since.

    Args:
        index: has the posts.
        slots: of the liked posts, -1 where one is not known.
        seen: which of those that are known the member may see.
        against: posts that the member hid or reported.
    """
    places = np.flatnonzero(slots >= 0)[seen]
    if against:
        places = places[~np.isin(slots[places], index.slots(against))]
    return places


def pooled(
    index: PostIndex,
    known: Known,
    profile: Vector | None,
    liked: tuple[Slots, NDArray[np.int64]],
    now: int,
) -> Pool | None:
    """Return a member's vector as what it is the sum of; None for an encoder that does not pool.

    Args:
        index: has the vectors of posts.
        known: how, and what is taken away.
        profile: the vector of the profile; None while there is none.
        liked: slots of the posts that count, the newest engagement first, and when each was.
        now: of the request, in microseconds since 1970.
    """
    how = known.how
    if how is None:
        return None
    slots, moments = liked[0][: how.posts_max], liked[1][: how.posts_max]
    found = terms(
        np.zeros(index.dims, np.float32) if profile is None else profile,
        index.vectors(slots),
        days_between(moments, counted_from(now, how)),
        known.averages,
        how,
    )
    return Pool(ids=index.ids(slots), at=moments, terms=found, averages_at=known.made_at)
