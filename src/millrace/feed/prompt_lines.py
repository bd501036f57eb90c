"""What a prompt said, as the log of prompts keeps it. Pure. The formats are frozen.

The first byte says which one: 1 is MessagePack, 2 the same under zstd, where that is shorter. A
prompt follows from what is kept here, exactly: the hash that stands beside it proves it.
"""

from collections.abc import Sequence

import msgspec
import zstandard
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.facts import Profile
from millrace.feed.numbers import PromptRow
from millrace.feed.prompts import v2
from millrace.kernel.errors import MillraceError

PLAIN, PACKED = b"\x01", b"\x02"
PACKED_FROM = 200  # bytes; what is shorter gains nothing
LEVEL = 1
BYTES_MAX = 1 << 20
TEXT_MAX = 2 * v2.TEXT_MAX
"""Characters: as much as a prompt looks at. What is behind that is in no prompt."""

_COMPRESSOR = zstandard.ZstdCompressor(level=LEVEL)


class PostSaid(Struct, frozen=True, array_like=True, kw_only=True):
    """What a post's prompt was made of.

    percentiles: in the order of the prompt's markers.
    numbers: what they are of: hours of age, views, likes, comments, engagements, followers of the
        author.
    """

    kind: str
    author_name: str
    headline: str
    community: str
    topics: list[str]
    title: str
    text: str
    percentiles: list[int]
    numbers: list[int]


class MemberSaid(Struct, frozen=True, array_like=True, kw_only=True):
    """What a member's prompt was made of.

    liked: posts of the history, the newest engagement first. communities: of each; empty where all
        are of the member's own.
    shown: how many of them, that had words, the prompt had room for.
    """

    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]
    liked: list[int]
    communities: list[int]
    shown: int

    def keys(self, home: int) -> list[Key]:
        """Return the posts of the history of a member of that community."""
        communities = self.communities or [home] * len(self.liked)
        return [Key(*key) for key in zip(communities, self.liked, strict=True)]


def post_said(row: PromptRow, percentiles: Sequence[int], age_hours: float) -> PostSaid:
    """Return what a post's prompt is made of."""
    engaged = row.clicks + row.long_dwells + row.likes + row.comments + row.shares
    return PostSaid(
        kind=row.kind,
        author_name=row.author_name,
        headline=row.headline,
        community=row.community_name,
        topics=row.topics,
        title=row.title,
        text=row.text[:TEXT_MAX],
        percentiles=list(percentiles),
        numbers=[int(age_hours), row.views, row.likes, row.comments, engaged, row.followers],
    )


def member_said(home: int, profile: Profile, liked: Sequence[Key], shown: int) -> MemberSaid:
    """Return what the prompt of a member of a community is made of."""
    abroad = any(key.community_id != home for key in liked)
    return MemberSaid(
        display_name=profile.display_name,
        headline=profile.headline,
        about=profile.about[:TEXT_MAX],
        skills=profile.skills,
        place=profile.place,
        languages=profile.languages,
        liked=[key.id for key in liked],
        communities=[key.community_id for key in liked] if abroad else [],
        shown=shown,
    )


def encode(said: PostSaid | MemberSaid) -> bytes:
    """Return the bytes of a line."""
    plain = msgspec.msgpack.encode(said)
    if len(plain) >= PACKED_FROM:
        packed = _COMPRESSOR.compress(plain)
        if len(packed) < len(plain):
            return PACKED + packed
    return PLAIN + plain


def post_of(content: bytes) -> PostSaid:
    """Read a line of a post."""
    return msgspec.msgpack.decode(_plain(content), type=PostSaid)


def member_of(content: bytes) -> MemberSaid:
    """Read a line of a member."""
    return msgspec.msgpack.decode(_plain(content), type=MemberSaid)


def _plain(content: bytes) -> bytes:
    """Return the MessagePack of a line.

    Raises:
        MillraceError: another release wrote a format that this one does not know.
    """
    if content[:1] == PLAIN:
        return content[1:]
    if content[:1] == PACKED:
        return zstandard.ZstdDecompressor().decompress(content[1:], max_output_size=BYTES_MAX)
    raise MillraceError(
        f"a line of the prompt log has the format {content[:1].hex() or 'nothing'}",
        limit="formats 01 and 02",
        next_step="read it with the release that wrote it",
    )
