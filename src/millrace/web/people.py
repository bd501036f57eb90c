"""The members that a demonstration offers to sign in as."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from millrace.community.types import Member
from millrace.web.face import Face, face_of


class Person(Struct, frozen=True, kw_only=True):
    """One choice. `words` is what a search looks through, in lower case."""

    key: str
    name: str
    headline: str
    community: str
    face: Face
    words: str


def people_of(members: Sequence[Member], communities: Mapping[int, str], find: str) -> list[Person]:
    """Return those who have every word of `find` in name, headline, skills, place or community."""
    wanted = find.lower().split()
    people = [_person(member, communities.get(member.community_id, "")) for member in members]
    return [person for person in people if all(word in person.words for word in wanted)]


def _person(member: Member, community: str) -> Person:
    name = member.display_name or member.handle
    parts = [name, member.handle, member.headline, member.place, community, *member.skills]
    return Person(
        key=str(member.key),
        name=name,
        headline=member.headline,
        community=community,
        face=face_of(member),
        words=" ".join(parts).lower(),
    )
