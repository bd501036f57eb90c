"""Where a town stands in an installation: the ids that its people and posts have there.

An imported thing's id follows from its time and its external id, so nothing is asked but when the
communities began.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import Key
from millrace.kernel.errors import NotFoundError
from millrace.kernel.ids import id_at
from millrace.world.simulator.filling import end_of
from millrace.world.simulator.town import Town


class Ground(Struct, frozen=True):
    """A community of the town as it is there."""

    community_id: int
    created_at: datetime


class Standing(Struct, frozen=True):
    """A town where it stands.

    town: with its own time: `config.start` is when day 0 is, there.
    members: the id of each person.
    posts: the ids of its posts, with their places.
    """

    town: Town
    members: list[str]
    posts: dict[str, int]


def stand(town: Town, found: Mapping[str, Ground]) -> Standing:
    """Return the town where it stands.

    Args:
        town: to be found.
        found: the communities that are there, by name.

    Raises:
        NotFoundError: a community of the town is not there.
    """
    grounds: list[Ground] = []
    for place in town.places:
        ground = found.get(place.name)
        if ground is None:
            raise NotFoundError(
                f"there is no community {place.name!r} of the town with seed {town.config.seed}",
                value=place.name,
                next_step="bring it in first: `millrace town make DIR`, `millrace import dir DIR`",
            )
        grounds.append(ground)
    start = end_of(grounds[0].created_at, town.config) - timedelta(days=town.config.days)

    def key(community: int, seconds: int, external_id: str) -> str:
        moment = start + timedelta(seconds=seconds)
        return str(Key(grounds[community].community_id, id_at(moment, external_id)))

    return Standing(
        town=replace(town, config=replace(town.config, start=start)),
        members=[key(one.community, one.joined, one.external_id) for one in town.people],
        posts={
            key(one.community, one.created, one.external_id): place
            for place, one in enumerate(town.posts)
        },
    )
