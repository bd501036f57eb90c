"""Goal: an open page hears of what became visible to its member, of nothing else, and not for ever."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from waiting import until

from millrace.api.listeners import EACH_MAX
from millrace.api.serve import SHUTDOWN_SECONDS_MAX, serving
from millrace.api.testing import town
from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.testing import as_member
from millrace.community.types import Audience, Key, NewPost, program

pytestmark = pytest.mark.services
SECONDS_MAX = 20.0


@asynccontextmanager
async def site(conninfo, tmp_path):
    """The town on a real server, with a client."""
    async with (
        town(conninfo, str(tmp_path)) as place,
        serving(place.app, "127.0.0.1", 0) as address,
        httpx.AsyncClient(base_url=address, timeout=SECONDS_MAX) as client,
    ):
        await place.program.feed.settled()
        yield place, client


class Ear:
    """Reads one stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def event(self) -> tuple[str, dict]:
        """Return id and data of the next `newer` event."""
        async with asyncio.timeout(SECONDS_MAX):
            said = {}
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "data":
                    return said["id"], json.loads(value)
                said[name] = value
        raise AssertionError("the stream ended")

    async def rest(self) -> list[str]:
        """Return what comes until the stream ends."""
        async with asyncio.timeout(SECONDS_MAX):
            return [line async for line in self._lines if line]


@asynccontextmanager
async def ear(place, client, name, headers=None, **params):
    """Listen as somebody."""
    address = f"/v1/members/{place.members[name]}/events"
    sent = place.bearer(name) | (headers or {})
    async with client.stream("GET", address, headers=sent, params=params) as answer:
        yield Ear(answer)


async def written(place, name, **fields):
    """Write a post as somebody, and return its id."""
    author = as_member(place.members[name])
    return str((await place.program.posts.write(author, NewPost(text="hear", **fields))).key)


async def test_what_arrives_is_counted_once_it_is_visible(conninfo, tmp_path):
    """Others' posts count, the own and the unseen do not; what is gone again is taken back."""
    async with site(conninfo, tmp_path) as (place, client), ear(place, client, "ada") as ada:
        assert ada.answer.headers["content-type"].startswith("text/event-stream")
        await written(place, "ada")
        await written(place, "cleo")  # for the hill only
        first = await written(place, "ben")
        since, said = await ada.event()
        assert said == {"count": 1, "posts": [first], "more": False}

        second = await written(place, "cleo", audience=Audience.PUBLIC)
        assert await ada.event() == (since, {"count": 2, "posts": [second, first], "more": False})
        await place.program.moderation.decide(
            program(), Thing(ThingKind.POST, place.posts["ben"]), Move.HIDE, "another post"
        )
        await place.program.relations.mute(as_member(place.members["ada"]), place.members["cleo"])
        third = await written(place, "ben")
        assert await ada.event() == (since, {"count": 2, "posts": [third, first], "more": False})

    lines = [one for one in place.logged("request") if one["route"].endswith("/events")]
    assert [(one["status"], one["caller"]) for one in lines] == [
        (200, f"member:{place.members['ada']}")
    ]


async def test_a_reader_who_comes_again_goes_on_counting(conninfo, tmp_path):
    """The id of an event is the moment that it counts from."""
    async with site(conninfo, tmp_path) as (place, client):
        async with ear(place, client, "ada") as ada:
            first = await written(place, "ben")
            since, _ = await ada.event()
        second = await written(place, "mona")

        async with ear(place, client, "ada", {"last-event-id": since}) as ada:
            _, said = await ada.event()
        async with ear(place, client, "ada", since="2026-01-01T00:00:00Z") as ada:
            _, told = await ada.event()

        assert said["posts"] == [second, first]
        assert set(told["posts"]) >= {first, second}


async def test_a_stream_ends_with_its_token(conninfo, tmp_path):
    """A heartbeat asks who listens: whose token was taken back hears nothing more."""
    async with site(conninfo, tmp_path) as (place, client):
        listeners, identity = place.app.state.listeners, place.program.identity
        listeners.heartbeat_seconds = 0.05
        async with ear(place, client, "ben") as ben:
            await until(lambda: len(listeners) == 1)
            token_id = await identity.token_id(place.tokens["ben"])
            await identity.revoke(token_id, "test", "signed out")

            assert set(await ben.rest()) <= {"retry: 2000", ": still here"}
        await until(lambda: not len(listeners))


async def test_who_is_shut_out_hears_nothing_more(conninfo, tmp_path):
    """A ban ends the stream as it arrives, long before the next heartbeat; others hear on."""
    async with site(conninfo, tmp_path) as (place, client):
        listeners = place.app.state.listeners
        listeners.heartbeat_seconds = 10 * SECONDS_MAX
        async with ear(place, client, "mona") as mona, ear(place, client, "ben") as ben:
            await until(lambda: len(listeners) == 2)
            shut_out = Thing(ThingKind.MEMBER, place.members["ben"])
            await place.program.moderation.decide(program(), shut_out, Move.BAN, "for the test")

            assert await ben.rest() == ["retry: 2000"]
            again = await client.get(
                f"/v1/members/{place.members['ben']}/events", headers=place.bearer("ben")
            )
            post = await written(place, "ada")
            assert (await mona.event())[1]["posts"] == [post]
        assert again.status_code == 401
        assert again.json()["code"] == "banned"
        await until(lambda: not len(listeners))


async def test_a_thread_tells_that_somebody_spoke(conninfo, tmp_path):
    """Of the post that is looked at, and only to who may look at it, for as long as they may."""
    async with site(conninfo, tmp_path) as (place, client):
        threads, moderation = place.program.threads, place.program.moderation
        listeners, ben = place.app.state.listeners, as_member(place.members["ben"])
        listeners.heartbeat_seconds = 10 * SECONDS_MAX
        post, other = place.posts["ada"], place.posts["ben"]
        async with ear(place, client, "mona", post_id=str(post)) as mona:
            assert (await mona.event())[1] == {"post_id": str(post)}, "what came before it listened"
            for about in (other, post):
                comment = await threads.comment(ben, about, "I was there")
            await written(place, "ben")
            assert (await mona.event())[1] == {"post_id": str(post)}
            key = Key(comment.community_id, comment.comment_id)
            await moderation.decide(program(), Thing(ThingKind.COMMENT, key), Move.HIDE, "no")
            assert (await mona.event())[1] == {"post_id": str(post)}
        async with ear(place, client, "ben", post_id=str(post)) as gone:
            await gone.event()
            await moderation.decide(program(), Thing(ThingKind.POST, post), Move.HIDE, "no")
            await moderation.decide(program(), Thing(ThingKind.COMMENT, key), Move.RESTORE, "yes")
            assert await gone.rest() == []
        unseen = await client.get(
            f"/v1/members/{place.members['ada']}/events",
            params={"post_id": str(place.posts["cleo"])},
            headers=place.bearer("ada"),
        )

    assert unseen.status_code == 404


async def test_streams_are_few_and_end_with_the_server(conninfo, tmp_path):
    """One more than a member may have is refused; a place that is given back can be taken again."""
    async with site(conninfo, tmp_path) as (place, client):
        listeners = place.app.state.listeners
        address = f"/v1/members/{place.members['ada']}/events"
        async with asyncio.timeout(SECONDS_MAX):
            held = [
                await client.send(
                    client.build_request("GET", address, headers=place.bearer("ada")), stream=True
                )
                for _ in range(EACH_MAX)
            ]
        await until(lambda: len(listeners) == EACH_MAX)
        refused = await client.get(address, headers=place.bearer("ada"))
        metrics = (await client.get("/metrics", headers=place.bearer("operator"))).text
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many")
        assert f"millrace_streams_open {float(EACH_MAX)}" in metrics

        await held.pop().aclose()
        await until(lambda: len(listeners) == EACH_MAX - 1)
        async with ear(place, client, "ada") as ada:
            listeners.close()
            assert "retry: 2000" in await ada.rest()
        closed = await client.get(address, headers=place.bearer("ada"))
        assert closed.status_code == 503
        for one in held:
            await one.aclose()


async def test_a_crowd_at_once_gets_no_more_places(conninfo, tmp_path):
    """Requests that were all let in before the first stream began still share the places."""
    async with site(conninfo, tmp_path) as (place, _):
        listeners, ada = place.app.state.listeners, place.members["ada"]

        async def always() -> bool:
            return True

        streams = [
            listeners.stream(ada, place.program.clock.now(), always) for _ in range(EACH_MAX + 3)
        ]
        opened = [await anext(stream, None) for stream in streams]
        taken = len(listeners)
        for stream in streams:
            await stream.aclose()

        assert taken == EACH_MAX
        assert opened.count(None) == 3
        assert not len(listeners)


async def test_who_does_not_read_is_let_go(conninfo, tmp_path):
    """A client that only connects gives its place back when the stream has lived long enough."""
    async with site(conninfo, tmp_path) as (place, client):
        listeners = place.app.state.listeners
        listeners.life_seconds = 0.3
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        bearer = place.bearer("ada")["authorization"]
        path = f"/v1/members/{place.members['ada']}/events"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n".encode())
        await until(lambda: len(listeners) == 1)
        await written(place, "ben")
        await until(lambda: not len(listeners))
        writer.close()

        assert b"text/event-stream" in await reader.read()


async def test_the_server_does_not_wait_for_streams(conninfo, tmp_path):
    """It ends them and is gone long before it would cut them off."""
    async with town(conninfo, str(tmp_path)) as place, httpx.AsyncClient(timeout=60) as client:
        async with asyncio.timeout(SHUTDOWN_SECONDS_MAX - 5), AsyncExitStack() as stack:
            address = await stack.enter_async_context(serving(place.app, "127.0.0.1", 0))
            path = f"{address}/v1/members/{place.members['ada']}/events"
            request = client.build_request("GET", path, headers=place.bearer("ada"))
            answer = await client.send(request, stream=True)
            await until(lambda: len(place.app.state.listeners) == 1)
            await stack.aclose()
        lines = [line async for line in answer.aiter_lines() if line]

    assert lines == ["retry: 2000"]


async def test_a_head_of_a_stream_ends(conninfo, tmp_path):
    """Only the headers are asked for, so nothing is streamed."""
    async with site(conninfo, tmp_path) as (place, client):
        address = f"/v1/members/{place.members['ada']}/events"
        head = await client.head(address, headers=place.bearer("ada"))

        assert head.status_code == 200
        assert not len(place.app.state.listeners)
