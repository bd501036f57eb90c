"""Goal: the doors speak OFREP 0.3.0, by the lane and by the gate alike, in its errors too."""

import asyncio
import json
import socket
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from flag_town import FLAGS, TESTER, with_flags

from millrace.api.evaluations import ATTRIBUTES_MAX, BODY_BYTES_MAX, CONTEXT_DEPTH_MAX, VALUES_MAX
from millrace.api.remembered import SECONDS
from millrace.api.serve import serving
from millrace.api.testing import town
from millrace.kernel.clock import ManualClock, SystemClock
from millrace.release.flags.types import Ring, RingRule, Wait
from millrace.settings import RATES, DoorConfig

pytestmark = pytest.mark.asyncio(loop_scope="module")
ONE = "/ofrep/v1/evaluate/flags/"
ALL = "/ofrep/v1/evaluate/flags"
EVENTS = "/ofrep/v1/events"
FRIEND = "https://app.example"
RATE = 1_000_000
SELDOM = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town with flags of every type, whose pages of one other origin may call."""
    door = DoorConfig(rates=dict.fromkeys(RATES, RATE), cors_origins=[FRIEND])
    async with town(server.copy(), str(tmp_path_factory.mktemp("town")), door=door) as made:
        await with_flags(made)
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(place):
    """A client of the town."""
    async with place.client() as made:
        yield made


async def ask(client, path, headers, context=None, **more):
    """Send a context; none at all for None."""
    body = {} if context is None else {"context": context}
    return await client.post(path, headers=headers, json=body, **more)


@pytest.mark.parametrize(
    ("key", "context", "expected"),
    [
        ("shown", {}, {"value": True, "variant": "on", "reason": "STATIC", "metadata": {}}),
        ("greeting", {}, {"value": "hi", "variant": "short", "reason": "STATIC"}),
        ("page-size", {}, {"value": 5, "variant": "few", "reason": "STATIC"}),
        ("speed", {}, {"value": 1.0, "variant": "slow", "reason": "STATIC"}),
        ("layout", {}, {"value": {"columns": 2, "names": ["x", "y"]}, "variant": "a"}),
        ("killed", {}, {"reason": "DISABLED", "variant": ""}),
        ("undecided", {"country": "SE"}, {"value": True, "reason": "TARGETING_MATCH"}),
        ("undecided", {"country": "NO"}, {"reason": "DEFAULT", "variant": ""}),
        ("told", {"colour": "red"}, {"metadata": {"team": "feed", "size": 2, "live": True}}),
    ],
)
async def test_a_flag_is_told_in_its_own_type(place, client, key, context, expected):
    """Value, variant, reason and metadata are what OFREP says; without a value none is sent."""
    answer = await ask(client, ONE + key, place.bearer("manager"), context)
    found = answer.json()

    assert answer.status_code == 200
    assert found["key"] == key
    assert {name: found[name] for name in expected} == expected
    assert ("value" in found) == ("value" in expected or key == "told")


@pytest.mark.parametrize("key", ["speed", "mixed"])
async def test_a_whole_number_of_a_flag_with_fractions_keeps_its_point(place, client, key):
    """The Python client refuses `1` for a float."""
    answer = await ask(client, ONE + key, place.bearer("manager"), {})

    assert '"value":1.0' in answer.text


REFUSED = {
    "no flag": ("nothing", b'{"context":{}}', 404, "FLAG_NOT_FOUND"),
    "no json": ("shown", b"{", 400, "PARSE_ERROR"),
    "no body": ("shown", b"", 400, "PARSE_ERROR"),
    "no object": ("shown", b'{"context":5}', 400, "INVALID_CONTEXT"),
    "null": ("shown", b'{"context":null}', 400, "INVALID_CONTEXT"),
    "no text": ("shown", b'{"context":{"targetingKey":5}}', 400, "INVALID_CONTEXT"),
    "nul": ("shown", b'{"context":{"x":"\\u0000"}}', 400, "PARSE_ERROR"),
    "deep": ("shown", b'{"context":{"x":' + b"[" * 20 + b"]" * 20 + b"}}", 400, "INVALID_CONTEXT"),
    "very deep": ("shown", b'{"context":' + b'{"x":' * 9000 + b"1" + b"}" * 9001, 400, "INVALID_CONTEXT"),
    "wide": (
        "shown",
        json.dumps({"context": {f"a{n}": n for n in range(ATTRIBUTES_MAX + 1)}}).encode(),
        400,
        "INVALID_CONTEXT",
    ),
    "long": ("shown", b'{"context":{"x":"' + b"x" * 40_000 + b'"}}', 400, "INVALID_CONTEXT"),
    "large": ("shown", b'{"context":{"x":"' + b"x" * BODY_BYTES_MAX + b'"}}', 413, "GENERAL"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("way", ["lane", "gate"])
async def test_a_refusal_has_the_form_of_ofrep(place, client, name, way):
    """Key, code and details stand in every refusal, whichever way the request came."""
    key, body, status, code = REFUSED[name]
    headers = place.bearer("manager") | {"content-type": "application/json"}
    await ask(client, ONE + "shown", headers)  # the lane takes who was seen a moment ago
    answer = await client.post(
        ONE + key, headers=headers, content=body, params={"x": "1"} if way == "gate" else {}
    )
    found = answer.json()

    assert (answer.status_code, found["key"], found["errorCode"]) == (status, key, code)
    assert found["errorDetails"]
    assert answer.headers["content-type"] == "application/json"


async def test_too_many_values_are_refused(place, client):
    """Also within one attribute: each flag may look at every one of them."""
    context = {"platform": [1.5] * 999, "targetingKey": "7-42"}
    fits = await ask(client, ONE + "shown", place.bearer("manager"), {"platform": [1.5] * 990})
    found = await ask(client, ONE + "shown", place.bearer("manager"), context)

    assert fits.status_code == 200
    assert found.status_code == 400
    assert found.json()["errorCode"] == "INVALID_CONTEXT"
    assert f"at most {VALUES_MAX} values" in found.json()["errorDetails"]


async def test_a_bound_is_named(place, client):
    """Who sends too much is told how much is taken."""
    found = (
        await ask(
            client,
            ONE + "shown",
            place.bearer("manager"),
            {"x": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]},
        )
    ).json()

    assert f"at most {CONTEXT_DEPTH_MAX} levels" in found["errorDetails"]


@pytest.mark.parametrize("path", [ONE + "shown", ALL])
async def test_who_may_not_ask_is_told_so_by_ofrep(place, client, path):
    """401, 403, 405 and 415 have the form of OFREP too, and tell a client what they must."""
    ada, other = place.bearer("ada"), {"targetingKey": str(place.members["ben"])}
    unknown = await ask(client, path, {}, {})
    forged = await ask(client, path, {"authorization": "Bearer forged"}, {})
    for_other = await ask(client, path, ada, other)
    form = await client.post(path, headers=ada, data={"context": "x"})
    get = await client.get(path, headers=ada)

    statuses = [one.status_code for one in (unknown, forged, for_other, form, get)]
    assert statuses == [401, 401, 403, 415, 405]
    for one in (unknown, forged, for_other, form, get):
        assert one.json()["errorCode"] in {"GENERAL", "PARSE_ERROR"}
        assert one.json()["errorDetails"]
    assert "www-authenticate" in unknown.headers


async def test_the_lane_answers_what_the_gate_does(place, client):
    """Whatever is asked, both ways give the same status, body and entity tag."""
    for who in ("manager", "operator", "ada"):
        await ask(client, ALL, place.bearer(who), {})  # the lane takes who was seen a moment ago
    before = len(place.logged("request"))
    people = [("manager", None), ("operator", str(place.members["ben"])), ("ada", None)]
    for who, target in people:
        headers = place.bearer(who)
        for context in ({}, {"country": "SE", "colour": "red"}, {"ring": "employees"}):
            sent = context if target is None else context | {"targetingKey": target}
            for path in [ALL, *(ONE + key for key in [*FLAGS, "nothing"])]:
                by_gate = await ask(client, path, headers, sent, params={"x": "1"})
                by_lane = await ask(client, path, headers, sent)

                assert by_lane.status_code == by_gate.status_code
                assert by_lane.content == by_gate.content
                assert by_lane.headers.get("etag") == by_gate.headers.get("etag")
    told = [one for one in place.logged("request")[before:] if one["route"] == ALL]
    assert len(told) == 3 * 3, (
        "only the gate writes a line for an answer, so the lane was not taken"
    )


async def test_a_member_asks_for_themself_and_claims_nothing(place, client):
    """Without a key a member's own holds; what only the server knows is not believed."""
    ada = place.bearer("ada")
    own = await ask(client, ONE + "inner", ada, {"targetingKey": str(place.members["ada"])})
    silent = await ask(client, ONE + "inner", ada, None)
    lying = {"ring": "employees", "rings": ["employees"], "community": "1"}
    claimed = await ask(client, ONE + "inner", ada, lying)

    assert own.json() == silent.json() == claimed.json()
    assert claimed.json()["value"] is False


async def test_the_app_of_a_member_is_noted(place, client):
    """A version with a platform counts for adoption; a guest's, and nonsense, do not."""
    app = {"appVersion": "8.9.2", "platform": "ios"}
    await ask(client, ONE + "shown", place.bearer("ada"), app)
    of_ben = app | {"targetingKey": str(place.members["ben"])}
    await ask(client, ALL, place.bearer("manager"), of_ben)
    for odd in (
        {"targetingKey": "a guest"},
        {"targetingKey": "1-1"},
        {"platform": "toaster"},
        {"platform": ["ios"]},
        {"appVersion": 7},
        {"appVersion": "x" * 500},
    ):
        assert (
            await ask(client, ONE + "shown", place.bearer("manager"), of_ben | odd)
        ).status_code == 200
    await place.program.flags.flush()

    found = await place.program.flags.adoption(Wait(track="ios", version="8.9.0", share=0.5))
    assert (found.members, found.active) == (2, 2)


async def test_only_a_server_may_say_what_opens_a_ring(place, client):
    """A ring by attribute believes an operator's application, and not what a member sends."""
    rule = RingRule(track="server", ring=Ring.EMPLOYEES, attribute="works", values=("here",))
    flags = place.program.flags
    before = flags.etag()
    await flags.ring_rule_put(rule, actor=TESTER, reason="for the test")
    if flags.etag() == before:
        await flags.changed(before, 20.0)
    claim = {"works": "here", "targetingKey": str(place.members["ada"])}
    by_member = (await ask(client, ONE + "inner", place.bearer("ada"), claim)).json()
    by_server = (await ask(client, ONE + "inner", place.bearer("manager"), claim)).json()

    assert (by_member["value"], by_server["value"]) == (False, True)


async def test_an_api_key_is_a_token_in_another_header(place, client):
    """X-API-Key carries the same tokens, on these routes and on no other."""
    key = {"x-api-key": place.tokens["ada"]}
    for way in ({"x": "1"}, {}, {}):
        assert (await ask(client, ONE + "shown", key, {}, params=way)).status_code == 200
    assert (await ask(client, ONE + "shown", {"x-api-key": "forged"}, {})).status_code == 401
    assert (await client.get("/v1/me", headers=key)).status_code == 401


async def test_all_flags_come_with_a_tag_and_an_address(place, client):
    """The same answers are not sent twice; other answers have another tag."""
    headers = place.bearer("manager")
    first = await ask(client, ALL, headers, {"targetingKey": "x"})
    tag = first.headers["etag"]
    again = await ask(
        client, ALL, headers | {"if-none-match": f'"other", W/{tag}'}, {"targetingKey": "x"}
    )
    red = await ask(
        client, ALL, headers | {"if-none-match": tag}, {"targetingKey": "x", "colour": "red"}
    )

    assert {one["key"] for one in first.json()["flags"]} >= set(FLAGS)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert red.status_code == 200
    assert red.headers["etag"] != tag
    (stream,) = first.json()["eventStreams"]
    assert (stream["type"], stream["inactivityDelaySec"]) == ("sse", 120)
    assert stream["endpoint"]["requestUri"].startswith(EVENTS)
    for one in first.json()["flags"]:
        assert {"key", "reason", "variant", "metadata"} <= set(one)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clocked(server, tmp_path_factory):
    """A town whose clock the test moves, and where nobody may ask often."""
    door = DoorConfig(rates=dict.fromkeys(RATES, RATE) | {"evaluate": SELDOM})
    clock = ManualClock(SystemClock().now())
    folder = str(tmp_path_factory.mktemp("clocked"))
    async with town(server.copy(), folder, door=door, clock=clock) as made:
        yield made, clock


async def test_a_ramp_in_time_has_another_tag_without_another_definition(clocked):
    """A tag stands for the answers: definitions stay, and the clock moves them."""
    place, clock = clocked
    later = clock.now().timestamp() + 60
    rule = {"if": [{">": [{"var": "$flagd.timestamp"}, later]}, "on", "off"]}
    await with_flags(place, {"timed": FLAGS["shown"] | {"targeting": rule}})
    headers = place.bearer("manager")
    async with place.client() as client:
        before = await ask(client, ALL, headers, {})
        clock.move(61)
        after = await ask(client, ALL, headers | {"if-none-match": before.headers["etag"]}, {})

    assert after.status_code == 200
    assert after.json()["flags"][0]["value"] is True


async def test_a_token_that_ended_is_refused_within_seconds(clocked):
    """The lane remembers who held for a moment, and no longer."""
    place, clock = clocked
    issued = await place.program.identity.issue(f"member:{place.members['ada']}", 3600)
    headers = {"authorization": f"Bearer {issued.token}"}
    async with place.client() as client:
        assert (await ask(client, ALL, headers, {})).status_code == 200
        await place.program.identity.revoke(issued.token_id, "program:test", "for the test")
        clock.move(SECONDS)

        assert (await ask(client, ONE + "timed", headers, {})).status_code == 401
        assert (await ask(client, ALL, headers, {})).status_code == 401


async def test_whoever_asks_too_often_is_told_when_to_come_back(clocked):
    """429 has Retry-After in seconds, by the lane and by the gate."""
    place, clock = clocked
    async with place.client() as client:
        answers = [await ask(client, ALL, place.bearer("ben"), {}) for _ in range(SELDOM + 1)]
        clock.move(int(answers[-1].headers["retry-after"]))
        after = await ask(client, ALL, place.bearer("ben"), {})

    assert [one.status_code for one in answers] == [200] * SELDOM + [429]
    assert answers[-2].headers["ratelimit"].startswith('"evaluate";r=0')
    assert answers[-1].json()["errorDetails"]
    assert after.status_code == 200


async def test_pages_of_a_friend_may_ask(place, client):
    """A browser is told beforehand what it may send, and afterwards what it may read."""
    asked = {"origin": FRIEND, "access-control-request-method": "POST"}
    allowed = await client.options(ALL, headers=asked)
    answers = [await ask(client, ALL, place.bearer("ada") | {"origin": FRIEND}, {}) for _ in "ab"]
    stranger = await ask(client, ALL, place.bearer("ada") | {"origin": "https://x.example"}, {})

    assert allowed.status_code == 204
    told = allowed.headers["access-control-allow-headers"].lower()
    for name in ("authorization", "x-api-key", "content-type", "if-none-match"):
        assert name in told
    for one in answers:
        assert one.headers["access-control-allow-origin"] == FRIEND
        assert "ETag" in one.headers["access-control-expose-headers"]
        assert one.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in stranger.headers


async def test_head_and_body_are_one_write(place):
    """With two writes a client waits 40 ms for the second."""
    async with serving(place.app, "127.0.0.1", 0) as address:
        where, body = urlsplit(address), b'{"context":{}}'
        head = f"POST {ONE}shown HTTP/1.1\r\nhost: x\r\nauthorization: {place.bearer('ada')['authorization']}\r\n"
        sent = (
            f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )

        def pieces() -> list[bytes]:
            with socket.create_connection((where.hostname, where.port), timeout=10) as line:
                found = []
                for _ in range(5):
                    line.sendall(sent)
                    found.append(line.recv(65536))
            return found

        for piece in await asyncio.to_thread(pieces):
            assert piece.endswith(b"}")
            assert b'"key":"shown"' in piece
