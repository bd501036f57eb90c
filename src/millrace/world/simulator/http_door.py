"""The door of a town over HTTP: its members as clients of the API, like anybody's.

A member is signed in again where a token has ended, and reads never less than they have written.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import httpx
import msgspec
from msgspec import Struct

from millrace.community.types import Action, PostKind
from millrace.kernel.clock import Clock
from millrace.kernel.errors import UnauthenticatedError
from millrace.world.simulator.client import RATE_DEFAULT, Ask, Client
from millrace.world.simulator.ports import Deed, Draft, Met
from millrace.world.simulator.standing import Ground, Standing

TOKEN_HEADER = "Millrace-Token"  # noqa: S105 - the name of a header

SIGNED_IN_SECONDS = 12 * 3600

Issue = Callable[[str], Awaitable[str]]
"""Returns a token for the member of this id."""


class _Author(Struct):
    id: str


class _Post(Struct):
    id: str
    author: _Author
    kind: PostKind
    title: str
    text: str
    topics: list[str]
    created_at: datetime


class _Item(Struct):
    post: _Post
    position: int
    seen: bool = False


class _Page(Struct):
    served_feed_id: str
    items: list[_Item]


class HttpDoor:
    """The members of a town at one server.

    Args:
        url: of the server.
        known: what it has of the town.
        issue: signs members in.
        clock: of the server's world.
        rate: requests a second at most.
    """

    def __init__(
        self, url: str, known: Standing, issue: Issue, *, clock: Clock, rate: float = RATE_DEFAULT
    ) -> None:
        self._client = Client(url, clock=clock, rate=rate)
        self._known = known
        self._people = {identity: place for place, identity in enumerate(known.members)}
        self._issue = issue
        self._clock = clock
        self._tokens: dict[int, str] = {}
        self._reads: dict[int, str] = {}

    async def close(self) -> None:
        """Leave the server."""
        await self._client.close()

    async def feed(self, member: int, count: int) -> list[Met]:
        """Return the first posts of the member's feed."""
        path = f"/v1/members/{self._known.members[member]}/feed"
        answer = await self._ask(member, Ask(method="GET", path=path, params={"limit": count}))
        page = msgspec.json.decode(answer.content, type=_Page)
        return [
            Met(
                id=item.post.id,
                row=self._known.posts.get(item.post.id, -1),
                author=self._people.get(item.post.author.id, -1),
                kind=item.post.kind,
                title=item.post.title,
                text=item.post.text,
                topics=item.post.topics,
                created=item.post.created_at,
                position=item.position,
                seen=item.seen,
                served=page.served_feed_id,
            )
            for item in page.items
        ]

    async def shown(self, member: int, page: list[Met]) -> None:
        """Tell which posts the member has come past."""
        now = self._clock.now()
        items = [
            {
                "post_id": met.id,
                "shown_at": now,
                "position": met.position,
                "served_feed_id": met.served or None,
            }
            for met in page
        ]
        await self._ask(member, Ask(method="POST", path="/v1/impressions", body={"items": items}))

    async def did(self, member: int, deeds: list[Deed]) -> None:
        """Tell what the member did."""
        now = self._clock.now()
        items = [
            {
                "post_id": deed.met.id,
                "kind": deed.action.value,
                # No two of one moment, so that their order is kept.
                "happened_at": now + timedelta(milliseconds=place),
                "position": deed.met.position,
                "dwell_ms": deed.dwell_ms if deed.action is Action.LONG_DWELL else None,
            }
            for place, deed in enumerate(deeds)
        ]
        await self._ask(member, Ask(method="POST", path="/v1/engagements", body={"items": items}))

    async def comment(self, member: int, met: Met, text: str) -> None:
        """Write under a post."""
        path = f"/v1/posts/{met.id}/comments"
        await self._ask(member, Ask(method="POST", path=path, body={"text": text}, once=True))

    async def write(self, member: int, draft: Draft) -> str:
        """Write a post; return its id."""
        answer = await self._ask(
            member, Ask(method="POST", path="/v1/posts", body=draft, once=True)
        )
        return str(answer.json()["id"])

    async def _ask(self, member: int, ask: Ask) -> httpx.Response:
        """Send one request of a member, and remember what they have seen with the answer."""

        async def signed(anew: bool) -> dict[str, str]:
            if anew or member not in self._tokens:
                self._tokens[member] = await self._issue(self._known.members[member])
            found = {"authorization": f"Bearer {self._tokens[member]}"}
            return found | ({TOKEN_HEADER: self._reads[member]} if member in self._reads else {})

        answer = await self._client.send(ask, signed)
        if token := answer.headers.get(TOKEN_HEADER):
            self._reads[member] = str(token)
        return answer


class _Community(Struct):
    id: str
    name: str
    created_at: datetime


class _Communities(Struct):
    items: list[_Community]


class _Issued(Struct):
    token: str


class Desk:
    """What a town asks an operator for: where the communities are, and to sign members in."""

    def __init__(self, url: str, token: str, *, clock: Clock) -> None:
        self._client = Client(url, clock=clock)
        self._headers = {"authorization": f"Bearer {token}"}

    async def close(self) -> None:
        """Leave the server."""
        await self._client.close()

    async def grounds(self) -> Mapping[str, Ground]:
        """Return the communities that are there, by name."""
        answer = await self._client.send(Ask(method="GET", path="/v1/communities"), self._signed)
        found = msgspec.json.decode(answer.content, type=_Communities)
        return {one.name: Ground(int(one.id), one.created_at) for one in found.items}

    async def issue(self, member_id: str) -> str:
        """Return a token for a member."""
        body = {"member_id": member_id, "seconds": SIGNED_IN_SECONDS}
        ask = Ask(method="POST", path="/v1/tokens", body=body)
        answer = await self._client.send(ask, self._signed)
        return msgspec.json.decode(answer.content, type=_Issued).token

    async def _signed(self, anew: bool) -> dict[str, str]:
        if anew:
            raise UnauthenticatedError(
                "the operator's token does not hold",
                field="--token",
                next_step="make another: `millrace operator token NAME`",
            )
        return self._headers
