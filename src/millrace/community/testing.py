"""For tests: the whole room on one router, a small world in it, and a fake identity provider."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from millrace.community.activity import Activity
from millrace.community.communities import Communities
from millrace.community.members import Members
from millrace.community.moderation import Moderation
from millrace.community.percentiles import Percentiles
from millrace.community.posts import Posts
from millrace.community.reactions import Reactions
from millrace.community.relations import RelationBook
from millrace.community.search import Search
from millrace.community.threads import Threads
from millrace.community.types import (
    CommunityDraft,
    Key,
    MemberDraft,
    NewPost,
    Post,
    Role,
    Viewer,
    program,
)
from millrace.kernel.clock import Clock, ManualClock
from millrace.kernel.errors import UnavailableError
from millrace.kernel.ids import IdMaker
from millrace.store.router import Router

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPERATOR = program("test")


def as_member(key: Key, role: Role = Role.MEMBER) -> Viewer:
    """Return a member as a viewer."""
    return Viewer(role, key, f"member:{key}")


class Rooms:
    """Every class of the community on one router."""

    def __init__(self, router: Router, clock: Clock | None = None) -> None:
        self.router = router
        self.clock = clock or ManualClock(NOON)
        ids = IdMaker(self.clock, 1)
        self.communities = Communities(router=router, clock=self.clock)
        self.members = Members(router=router, clock=self.clock, ids=ids)
        self.posts = Posts(router=router, clock=self.clock, ids=ids)
        self.threads = Threads(router=router, clock=self.clock, ids=ids)
        self.reactions = Reactions(router=router, clock=self.clock)
        self.relations = RelationBook(router=router, clock=self.clock)
        self.activity = Activity(router=router, clock=self.clock)
        self.moderation = Moderation(router=router, clock=self.clock, ids=ids)
        self.search = Search(router=router, clock=self.clock)
        self.percentiles = Percentiles(router=router, clock=self.clock)

    async def community(self, name: str, nearby: Iterable[str] = ()) -> int:
        """Make a community, and return its id."""
        draft = CommunityDraft(external_id=name, name=name.title(), nearby=[*nearby])
        return (await self.communities.upsert(OPERATOR, [draft])).ids[name]

    async def people(
        self, community_id: int, *names: str, role: Role = Role.MEMBER
    ) -> list[Viewer]:
        """Make members with these names, and return them as viewers."""
        drafts = [
            MemberDraft(external_id=name, handle=name, display_name=name.title(), role=role)
            for name in names
        ]
        ids = (await self.members.upsert(OPERATOR, community_id, drafts)).ids
        return [as_member(Key(community_id, ids[name]), role) for name in names]

    async def post(self, author: Viewer, text: str = "A text.", **fields: object) -> Post:
        """Write a post."""
        return await self.posts.write(author, NewPost(text=text, **fields))  # pyright: ignore[reportArgumentType]


class FakeProvider:
    """An identity provider in memory: signs tokens, and serves its keys as a fetch does."""

    def __init__(self) -> None:
        self.keys: dict[str, Ed25519PrivateKey] = {}
        self.fetches = 0
        self.silent = False

    def rotate(self, key_id: str) -> None:
        """Add a key."""
        self.keys[key_id] = Ed25519PrivateKey.generate()

    def token(self, key_id: str, **claims: object) -> str:
        """Return a token with these claims, signed by that key."""
        return jwt.encode(claims, self.keys[key_id], algorithm="EdDSA", headers={"kid": key_id})

    async def fetch(self, url: str) -> bytes:
        """Return the JWKS document.

        Raises:
            UnavailableError: the provider is silent.
        """
        self.fetches += 1
        if self.silent:
            raise UnavailableError(f"{url} does not answer")
        keys = [
            {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id}
            for key_id, key in self.keys.items()
        ]
        return json.dumps({"keys": keys}).encode()
