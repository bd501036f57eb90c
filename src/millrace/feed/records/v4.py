"""Format 4 of a served feed, frozen: format 3, and what the member's vector was pooled from.

For members whose history is pooled; the others' feeds are still written in format 3. Which posts
they had liked, with the times that weigh them, and how much of the nearness of each ranked post
comes from the profile and from the liked posts that gave most. That is written down, though it
follows from the vectors: those of posts are made anew, and nobody keeps the old ones.

What parts give is told in whole percent of the nearness, so thousandths are enough.
"""

import msgspec
import numpy as np
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.pooled_history import Parts, Pool
from millrace.feed.records import planes
from millrace.feed.records.types import Pooled

FORMAT = 4
THOUSANDTHS = 1_000.0
NEAREST = 3  # columns of places and amounts
KINDS = "<i8", "<i2", "<u1"  # of ids and times, of parts, of places in the pool


class Stored(Struct, frozen=True, array_like=True, kw_only=True):
    """A record as it is stored.

    record: the same feed in format 3. ids: post id and community id of the liked posts. at:
        microseconds since 1970.
    averages_at: likewise; 0 where nothing was taken away.
    profile: what it gives to each ranked post, in thousandths. places: of the liked posts that
        give most, and NO_PLACE. amounts: what these give, in thousandths.
    """

    record: bytes
    ids: bytes
    at: bytes
    averages_at: int
    profile: bytes
    places: bytes
    amounts: bytes


_DECODER = msgspec.msgpack.Decoder(Stored)
_ENCODER = msgspec.msgpack.Encoder()


def encode(record: bytes, pool: Pool, parts: Parts) -> bytes:
    """Return the record of a feed, which format 3 has written already."""
    assert parts.places.shape == parts.amounts.shape == (len(parts.profile), NEAREST)
    whole, part, place = KINDS
    return _ENCODER.encode(
        Stored(
            record=record,
            ids=planes.planes(pool.ids, whole),
            at=planes.planes(pool.at, whole),
            averages_at=pool.averages_at,
            profile=planes.planes(np.rint(parts.profile * THOUSANDTHS), part),
            places=planes.planes(parts.places, place),
            amounts=planes.planes(np.rint(parts.amounts * THOUSANDTHS), part),
        )
    )


def decode(plain: bytes) -> tuple[bytes, Pooled]:
    """Return the record in format 3, and what was pooled; what is none is a DecodeError."""
    found = _DECODER.decode(plain)
    whole, part, place = KINDS
    ids: list[list[int]] = planes.numbers(found.ids, whole, columns=2).tolist()
    return found.record, Pooled(
        posts=[Key(community, post) for post, community in ids],
        at=planes.numbers(found.at, whole).tolist(),
        averages_at=found.averages_at,
        profile=planes.numbers(found.profile, part) / THOUSANDTHS,
        places=planes.numbers(found.places, place, columns=NEAREST),
        amounts=planes.numbers(found.amounts, part, columns=NEAREST) / THOUSANDTHS,
    )
