"""Goal: every error is a problem that names field, value, limit and next step, and nothing breaks."""

import asyncio
import base64

import pytest
import pytest_asyncio

from millrace.api.errors import MEDIA_TYPE, STATUS
from millrace.api.testing import town
from millrace.community.types import TEXT_MAX
from millrace.settings import RATES, DoorConfig

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town behind its doors."""
    async with town(server.copy(), str(tmp_path_factory.mktemp("town"))) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(place):
    """A client of the town."""
    async with place.client() as made:
        yield made


def b64(text: str) -> str:
    """Return a part of a token."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def problem(answer, status: int, code: str) -> dict:
    """Check the form of a problem and return it."""
    told = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert told["code"] == code
    assert told["type"] == f"urn:millrace:problem:{code}"
    assert told["status"] == status == STATUS[code]
    assert told["title"]
    assert told["detail"]
    assert told["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    return told


async def test_unknown_path(client):
    """A wrong address says where the right ones are."""
    told = problem(await client.get("/v1/nothing"), 404, "not_found")

    assert told["value"] == "/v1/nothing"
    assert "/openapi.json" in told["next_step"]


async def test_wrong_method(client):
    """A wrong method says which are right."""
    answer = await client.put("/v1/posts")
    told = problem(answer, 405, "method_not_allowed")

    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
    assert told["limit"] == answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b'{"text": "a",}', None, "trailing comma"),
        (b'{"text": 5}', "text", "Expected `str`, got `int`"),
        (b'{"text": "a", "topics": ["b", 7]}', "topics[1]", "Expected `str`, got `int`"),
        (b'{"text": "a", "kind": "song"}', "kind", "song"),
        (b'{"text": "a", "txet": "b"}', None, "txet"),
        (b'{"title": "a"}', None, "missing required field `text`"),
        (b"", None, "truncated"),
        (b"\xff\xfe", None, "malformed"),
        (b'"\\ud800"', None, ""),
        (b'{"text": "a\\u0000b"}', "body", "NUL"),
        (b"[]", None, "Expected `object`, got `array`"),
        (b'{"text": ' + b"[" * 100_000, "text", "Expected `str`, got `array`"),
    ],
)
async def test_malformed_body(place, client, body, field, words):
    """What cannot be read is told with its place in the body."""
    headers = place.bearer("ada") | {"content-type": "application/json"}
    answer = await client.post("/v1/posts", content=body, headers=headers)
    told = problem(answer, 400, "malformed")

    assert told.get("field") == field
    assert words in told["detail"]
    assert told["next_step"]


@pytest.mark.parametrize("path", ["/v1/impressions", "/v1/engagements", "/v1/bulk/members"])
async def test_json_nested_without_end(place, client, path):
    """JSON nested deeper than anybody follows is refused, not stumbled over."""
    headers = place.bearer("operator") | {"content-type": "application/json"}
    body = b'{"community": "harbour", "items": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}"

    told = problem(await client.post(path, content=body, headers=headers), 400, "malformed")
    assert told["next_step"]


async def test_a_backslash_is_no_nul(place, client):
    """Text that only speaks of the escape is text."""
    answer = await client.post(
        "/v1/posts", json={"text": "write \\u0000 for NUL"}, headers=place.bearer("ada")
    )

    assert answer.status_code == 201
    assert answer.json()["text"] == "write \\u0000 for NUL"


async def test_over_long_text(place, client):
    """A text over the limit names the limit."""
    body = {"text": "x" * (TEXT_MAX + 1)}
    answer = await client.post("/v1/posts", json=body, headers=place.bearer("ada"))
    told = problem(answer, 422, "too_large")

    assert told["field"] == "text"
    assert told["limit"] == TEXT_MAX


async def test_longest_text_fits(place, client):
    """The body limit is never in the way of a text within its own."""
    content = b'{"text": "' + b"\\ud83c\\udf0a" * TEXT_MAX + b'"}'
    headers = place.bearer("ada") | {"content-type": "application/json"}
    answer = await client.post("/v1/posts", content=content, headers=headers)

    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "", "application/jsonp"])
async def test_unsupported_media_type(place, client, media):
    """Only JSON is read as JSON."""
    headers = place.bearer("ada") | {"content-type": media}
    answer = await client.post("/v1/posts", content=b'{"text": "a"}', headers=headers)
    told = problem(answer, 415, "unsupported_media_type")

    assert told["limit"] == "application/json"


async def test_body_too_large_announced(place, client):
    """A large body is refused, and what it was is said."""
    headers = place.bearer("ada") | {"content-type": "application/json"}
    answer = await client.post("/v1/posts", content=b"x" * 600_000, headers=headers)
    told = problem(answer, 413, "body_too_large")

    assert (told["value"], told["limit"]) == (600_000, 512 * 1024)


async def test_body_where_none_is_read(place, client):
    """A route without a body says so."""
    path = f"/v1/posts/{place.posts['ada']}/reactions/like"
    answer = await client.put(path, content=b"x", headers=place.bearer("ada"))
    told = problem(answer, 413, "body_too_large")

    assert told["next_step"] == "send no body"


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/v1/posts/7", 422, "invalid", "post_id"),
        ("/v1/posts/1-99999999999999999999", 422, "invalid", "post_id"),
        ("/v1/posts/1-2", 404, "not_found", None),
        ("/v1/communities/x", 400, "malformed", "community_id"),
        ("/v1/communities/9", 404, "not_found", None),
        ("/v1/members", 400, "malformed", "community_id"),
        ("/v1/posts?limit=0", 400, "malformed", "limit"),
        ("/v1/posts?limit=101", 400, "malformed", "limit"),
        ("/v1/posts?limit=many", 400, "malformed", "limit"),
        ("/v1/posts?cursor=nonsense", 400, "malformed", "cursor"),
        ("/v1/posts?cursor=%00", 400, "malformed", "url"),
        ("/v1/posts?x=" + "a" * 9000, 414, "url_too_long", "url"),
    ],
)
async def test_wrong_parameters(place, client, path, status, code, field):
    """A wrong id, limit or cursor is named."""
    told = problem(await client.get(path, headers=place.bearer("ada")), status, code)

    if field:
        assert told["field"] == field
        assert told["limit"]
    if "limit=" in path:
        assert told["value"] == path.partition("limit=")[2]


@pytest.mark.parametrize(
    "held",
    [
        "Bearer", "Basic YWRhOmFkYQ==", "Bearer x.y.z", "Bearer " + "x" * 9000,
        "Bearer " + b64('{"alg":"EdDSA","kid":"millrace-\\u0000"}') + ".e30.eA",
        "Bearer " + b64('{"alg":"EdDSA","kid":"millrace-\\ud800"}') + ".e30.eA",
    ],
)  # fmt: skip
async def test_a_token_that_does_not_hold(client, held):
    """Whoever is not known is told how to be."""
    answer = await client.get("/v1/me", headers={"authorization": held})

    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/v1/search/posts", b"\xff=\xfe", 400),
        ("/v1/members", b"\xc3\xbc", 400),
        ("/v1/search/posts", b"q=\xff", 422),
        ("/v1/search/posts", "q=Müll".encode(), 200),
    ],
)
async def test_bytes_that_no_address_has(place, path, query, status):
    """A missing parameter is a missing parameter, whatever bytes stand in the query."""
    answers, host = [], {b"host": b"127.0.0.1"}
    bearer = place.bearer("ada")["authorization"].encode()
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": query, "headers": [*host.items(), (b"authorization", bearer)],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {}, "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        answers.append(message)

    await place.app(scope, receive, send)

    assert answers[0]["status"] == status


async def test_unforeseen(place, client, monkeypatch):
    """What nobody foresaw is a bare problem for the client, and a traceback in the log."""

    async def broken(_viewer):
        raise RuntimeError("secret cause")

    monkeypatch.setattr(place.program.communities, "list", broken)
    answer = await client.get("/v1/communities", headers=place.bearer("ada"))
    told = problem(answer, 500, "internal")
    (logged,) = place.logged("unforeseen")

    assert "secret cause" not in answer.text
    assert logged["request_id"] == told["request_id"]
    assert "secret cause" in str(logged["exception"])


async def test_too_many(conninfo, tmp_path):
    """The rate is told with every answer, and its end with when to return."""
    rates = dict(RATES) | {"read": 2}
    door = DoorConfig(rates=rates)
    async with town(conninfo, str(tmp_path), door=door) as place, place.client() as client:
        answers = [await client.get("/v1/me", headers=place.bearer("ada")) for _ in range(3)]
        other = await client.get("/v1/me", headers=place.bearer("ben"))

    told = problem(answers[2], 429, "too_many")
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"read";r=1;')
    assert answers[2].headers["ratelimit-policy"] == '"read";q=2;w=60'
    assert 1 <= int(answers[2].headers["retry-after"]) <= 31
    assert "try again" in told["next_step"]
    assert told["limit"] == "2 read requests a minute"
    assert other.status_code == 200


async def test_trying_tokens_has_a_price(conninfo, tmp_path):
    """Who sends tokens that do not hold is soon told to wait; who has a good one is not."""
    door = DoorConfig(rates=dict(RATES) | {"sign_in": 2})
    async with town(conninfo, str(tmp_path), door=door) as place, place.client() as client:
        bad = {"authorization": "Bearer a.b.c"}
        answers = [await client.get("/v1/me", headers=bad) for _ in range(3)]
        good = await client.get("/v1/me", headers=place.bearer("ada"))

    assert [one.status_code for one in answers] == [401, 401, 429]
    assert good.status_code == 200


async def test_choosing_a_ring_back_and_forth_has_a_bound(conninfo, tmp_path):
    """Each choice is a line that stays: whoever chooses without end waits, by whatever door."""
    door = DoorConfig(rates=dict(RATES) | {"choose": 2})
    async with town(conninfo, str(tmp_path), door=door) as place, place.client() as client:
        wish, ada = f"/v1/members/{place.members['ada']}/rings/ios/beta", place.bearer("ada")
        answers = [
            await client.put(wish, json={"choice": choice}, headers=ada)
            for choice in ("opted_in", "opted_out", "opted_in")
        ]
        answers.append(await client.delete(wish, headers=ada))
        other = await client.get("/v1/me", headers=ada)

    assert [one.status_code for one in answers] == [200, 200, 429, 429]
    assert answers[2].headers["ratelimit-policy"] == '"choose";q=2;w=60'
    assert other.status_code == 200


async def test_pages_tell_people(place, client):
    """A browser gets a page for an error, and the sign-in for a stranger."""
    html = {"accept": "text/html"}
    wrong = await client.get("/nowhere", headers=html)
    unseen = await client.get("/posts/1-2", headers=html | place.bearer("ada"))
    stranger = await client.get("/posts/1-2?x=1", headers=html, follow_redirects=False)
    fragment = await client.get("/feed/more", headers=html | {"x-fragment": "1"})

    assert wrong.status_code == 404
    assert wrong.headers["content-type"].startswith("text/html")
    assert "x-request-id" in wrong.headers
    assert unseen.status_code == 404
    assert unseen.headers["content-type"].startswith("text/html")
    assert stranger.status_code == 303
    assert stranger.headers["location"] == "/sign-in?next=/posts/1-2"
    problem(fragment, 401, "unauthenticated")


async def test_slow_body_is_given_up(place, monkeypatch):
    """Who does not send what they announced does not hold the door open."""
    monkeypatch.setattr("millrace.api.incoming.BODY_SECONDS_MAX", 0.05)
    sent = []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/posts", "raw_path": b"/v1/posts",
        "query_string": b"", "headers": [
            (b"authorization", place.bearer("ada")["authorization"].encode()),
            (b"content-type", b"application/json"), (b"host", b"127.0.0.1"),
        ], "client": ("127.0.0.1", 1), "state": {}, "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    await place.app(scope, receive, send)

    assert sent[0]["status"] == 408
