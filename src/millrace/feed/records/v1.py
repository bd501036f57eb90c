"""Format 1 of a served feed, frozen: one Struct per post, as MessagePack, under zstd.

Nothing writes it any more. It goes when no served feed of it is left, which is `retention_days`
after the last one.
"""

import msgspec

from millrace.feed.records.types import Record


def decode(plain: bytes) -> Record:
    """Read a record; what is none is a DecodeError."""
    return msgspec.msgpack.decode(plain, type=Record)
