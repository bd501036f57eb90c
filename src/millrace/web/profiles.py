"""A member as their page shows them. Pure: no reads, no markup."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from millrace.community.languages import NAMED, primary
from millrace.community.types import Community, Key, Member, MemberCounts, Relations, Role
from millrace.web.face import Face, face_of
from millrace.web.text import Body, body_of


class Profile(Struct, frozen=True, kw_only=True):
    """A member's page.

    own: the viewer looks at themself. follows, muted: what the viewer did about them.
    """

    key: str
    name: str
    handle: str
    headline: str
    about: Body
    face: Face
    community: str
    community_id: int
    place: str
    skills: list[str]
    languages: list[str]
    joined: str
    moderator: bool
    gone: bool
    banned: bool
    posts: int
    followers: int
    likes: int
    own: bool
    follows: bool
    muted: bool


class Neighbour(Struct, frozen=True, kw_only=True):
    """A member in a list of people."""

    key: str
    name: str
    headline: str
    face: Face
    place: str
    moderator: bool


def profile_of(
    member: Member,
    counts: MemberCounts,
    community: Community,
    me: Key | None,
    relations: Relations | None,
) -> Profile:
    """Make a member's page, as `me` sees it."""
    return Profile(
        key=str(member.key),
        name=member.display_name or member.handle,
        handle=member.handle,
        headline=member.headline,
        about=body_of(member.about),
        face=face_of(member),
        community=community.name,
        community_id=community.community_id,
        place=member.place,
        skills=member.skills,
        languages=[language_name(one) for one in member.languages],
        joined=month_of(member.joined_at),
        moderator=member.role is Role.MODERATOR,
        gone=member.removed_at is not None,
        banned=member.banned_at is not None,
        posts=counts.posts,
        followers=counts.followers,
        likes=counts.likes,
        own=me == member.key,
        follows=relations is not None and member.key in relations.follows,
        muted=relations is not None and member.key in relations.mutes,
    )


def neighbours_of(members: Sequence[Member]) -> list[Neighbour]:
    """Make a list of people."""
    return [
        Neighbour(
            key=str(one.key),
            name=one.display_name or one.handle,
            headline=one.headline,
            face=face_of(one),
            place=one.place,
            moderator=one.role is Role.MODERATOR,
        )
        for one in members
    ]


def language_name(tag: str, named: Mapping[str, str] = NAMED) -> str:
    """Return the English name of a language, or its tag where it has none here."""
    name = named.get(primary(tag), "")
    return name if name and "-" not in tag else f"{name} ({tag})" if name else tag


def month_of(moment: datetime) -> str:
    """Return the month of a moment: `May 2026`."""
    return f"{moment.astimezone(UTC):%B %Y}"
