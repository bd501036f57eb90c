"""Goal: what every answer has, and what no page of another origin can do."""

import pytest
import pytest_asyncio

from millrace.api.auth import SESSION_COOKIE, TOKEN_COOKIE, TOKEN_HEADER
from millrace.api.testing import town
from millrace.settings import RATES, DoorConfig

pytestmark = pytest.mark.asyncio(loop_scope="module")
FRIEND = "https://friend.example"
HOME = "http://127.0.0.1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town that lets the pages of one other origin call."""
    door = DoorConfig(
        rates=dict.fromkeys(RATES, 1_000_000),
        cors_origins=[FRIEND],
        public_url="https://feed.example",
    )
    async with town(server.copy(), str(tmp_path_factory.mktemp("town")), door=door) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(place):
    """A client of the town, with its own cookies."""
    async with place.client() as made:
        yield made


@pytest.mark.parametrize("path", ["/health/live", "/v1/nothing", "/sign-in", "/v1/me"])
async def test_every_answer_is_safe(client, path):
    """Whatever the answer, a browser is told to be careful with it."""
    headers = (await client.get(path)).headers

    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "max-age" in headers["strict-transport-security"]
    assert headers["cache-control"] in {"no-store", "private, no-cache"}
    assert headers["x-request-id"]


async def test_no_hsts_without_https(conninfo, tmp_path):
    """A laptop without https must not be locked out of its own page."""
    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        answer = await client.get("/health/live")

    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("trace-0123456789", True), ("short", False), ("x" * 65, False), ('a"b<c>d e', False)],
)
async def test_request_ids(place, client, sent, kept):
    """A sane id of the caller is kept, so that a request can be followed; others are replaced."""
    answer = await client.get("/health/live", headers={"x-request-id": sent})
    found = answer.headers["x-request-id"]

    assert (found == sent) is kept
    assert place.logged("request")[-1]["request_id"] == found


async def test_logs_hold_no_secrets(place, client):
    """A log line has what is needed to find a request, and no token, body or query."""
    query = {"cursor": "c-secret-c"}
    bearer = place.bearer("ada") | {"cookie": "millrace_session=k-secret-k"}
    await client.get("/v1/posts", params=query, headers=bearer)
    await client.post("/v1/posts", json={"text": "t-secret-t"}, headers=bearer)
    text = place.log.getvalue()
    line = place.logged("request")[-1]

    assert line["method"] == "POST"
    assert line["route"] == "/v1/posts"
    assert line["status"] == 201
    assert line["caller"] == f"member:{place.members['ada']}"
    assert line["milliseconds"] >= 0
    for secret in ("c-secret-c", "k-secret-k", "t-secret-t", place.tokens["ada"]):
        assert secret not in text


async def test_head_is_get_without_the_body(client):
    """HEAD answers like GET."""
    answer = await client.head("/health/live")

    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 0
    assert (await client.head("/sign-out")).status_code == 405


async def test_cross_origin(place, client):
    """Only pages of the origins in the settings may read answers, and never with our cookie."""
    friend = await client.get("/v1/me", headers=place.bearer("ada") | {"origin": FRIEND})
    stranger = await client.get(
        "/v1/me", headers=place.bearer("ada") | {"origin": "https://stranger.example"}
    )

    assert friend.headers["access-control-allow-origin"] == FRIEND
    assert "Millrace-Token" in friend.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in friend.headers
    assert "access-control-allow-origin" not in stranger.headers
    assert "Origin" in stranger.headers["vary"]


async def test_preflight(client):
    """A browser may ask before it calls; who asks for an unknown path learns nothing."""
    ask = {"origin": FRIEND, "access-control-request-method": "POST"}
    answer = await client.options("/v1/posts", headers=ask)
    stranger = await client.options("/v1/posts", headers=ask | {"origin": "https://x.example"})
    missing = await client.options("/v1/nothing", headers=ask)

    assert answer.status_code == 204
    assert answer.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    assert answer.headers["access-control-allow-methods"] == answer.headers["allow"]
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-methods" not in stranger.headers
    assert missing.status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": HOME}, 201),
        ({"origin": "https://feed.example"}, 201),
        ({"sec-fetch-site": "same-origin"}, 201),
        ({"origin": HOME, "sec-fetch-site": "same-origin"}, 201),
        ({"origin": FRIEND}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
        ({"origin": HOME, "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({}, 403),
    ],
)
async def test_a_cookie_needs_our_own_page(place, client, headers, status):
    """A cookie is sent by any page, so an unsafe request with it must come from ours."""
    cookie = {"cookie": f"{SESSION_COOKIE}={place.tokens['ada']}"}
    answer = await client.post("/v1/posts", json={"text": "by cookie"}, headers=cookie | headers)

    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "foreign_origin"


@pytest.mark.parametrize("public_url", ["", "feed.example", "http://[feed"])
@pytest.mark.parametrize("origin", ["null", "", "file://", "http://["])
async def test_a_page_of_no_origin_is_never_ours(origin, public_url):
    """No name is not our name, even where the settings or the request name no host."""
    from millrace.api.auth import require_own_origin
    from millrace.api.errors import OriginError

    with pytest.raises(OriginError):
        require_own_origin({"origin": origin}, public_url)


async def test_a_form_needs_our_own_page_even_before_sign_in(client):
    """Nobody is signed in to somebody else's account by a foreign page."""
    answer = await client.post("/sign-in", data={"token": "x"}, headers={"origin": FRIEND})

    assert answer.status_code == 403


async def test_a_cookie_may_read_from_anywhere(place, client):
    """A safe method changes nothing, and another origin cannot read the answer."""
    cookie = {"cookie": f"{SESSION_COOKIE}={place.tokens['ada']}", "sec-fetch-site": "cross-site"}

    assert (await client.get("/v1/me", headers=cookie)).status_code == 200


async def test_the_header_wins_over_the_cookie(place, client):
    """Two proofs do not mix."""
    both = place.bearer("ben") | {"cookie": f"{SESSION_COOKIE}={place.tokens['ada']}"}
    answer = await client.get("/v1/me", headers=both)

    assert answer.json()["member_id"] == str(place.members["ben"])


async def test_writes_answer_the_consistency_token(place, client):
    """After a write the caller can ask for reads that are not older."""
    answer = await client.post("/v1/posts", json={"text": "new"}, headers=place.bearer("ada"))
    token = answer.headers[TOKEN_HEADER]
    cookie = answer.headers["set-cookie"]
    read = await client.get("/v1/posts", headers=place.bearer("ada") | {TOKEN_HEADER: token})
    odd = await client.get("/v1/posts", headers=place.bearer("ada") | {TOKEN_HEADER: "1.x.1.f.0"})
    refused = await client.post("/v1/posts", json={"text": ""}, headers=place.bearer("ada"))

    assert await place.program.router.position_of(token) is not None
    assert cookie.startswith(f"{TOKEN_COOKIE}={token};")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" in cookie
    assert read.status_code == odd.status_code == 200
    assert TOKEN_HEADER not in read.headers
    assert refused.status_code == 422
    assert TOKEN_HEADER not in refused.headers


async def test_metrics_are_not_for_the_public(place, client):
    """Numbers go to operators; the matrix covers everybody else."""
    await client.get("/v1/me", headers=place.bearer("ada"))
    place.program.flags.evaluate("no-such-flag", {})
    text = (await client.get("/metrics", headers=place.bearer("operator"))).text

    assert 'millrace_requests_total{method="GET",route="/v1/me",status="200"}' in text
    assert 'millrace_request_seconds_bucket{le="0.005",method="GET",route="/v1/me"}' in text
    assert "millrace_requests_running 1.0" in text
    assert 'millrace_stream_lag_bytes{stream="memory"}' in text
    assert 'millrace_stream_changes_total{stream="memory"}' in text
    assert 'millrace_stream_connected{stream="flags"} 1.0' in text
    assert 'millrace_flag_failures_total{flag=""} 1.0' in text
    assert 'millrace_cache_hits_total{cache="histories"}' in text
    assert 'millrace_cache_entries{cache="relations"}' in text
    assert place.tokens["ada"] not in text


@pytest.mark.parametrize(
    ("host", "public_url", "good"),
    [
        ("127.0.0.1:8321", "", True),
        ("[::1]:8321", "", True),
        ("192.168.1.5", "", True),
        ("localhost:8321", "", True),
        ("demo.example", "https://demo.example", True),
        ("evil.example:8321", "", False),
        ("evil.example", "https://demo.example", False),
        ("127.0.0.1.evil.example", "", False),
    ],
)
async def test_a_demonstration_answers_to_its_own_name(host, public_url, good):
    """A stranger's name that points at this machine does not make the stranger's page ours."""
    from millrace.api.auth import require_own_name
    from millrace.api.errors import OriginError

    if good:
        require_own_name({"host": host}, public_url)
    else:
        with pytest.raises(OriginError):
            require_own_name({"host": host}, public_url)


async def test_the_demonstration_asks_for_the_name(conninfo, tmp_path):
    """The rule holds at the door of a demonstration."""
    door = DoorConfig(demo=True)
    async with town(conninfo, str(tmp_path), door=door) as place, place.client() as client:
        own = await client.get("/sign-in")
        strange = await client.get("/sign-in", headers={"host": "evil.example"})

    assert own.status_code == 200
    assert strange.status_code == 403


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("unknown" * 1000, ("unknown" * 1000)[:64]),
    ],
)
async def test_one_subscriber_has_one_rate(address, network):
    """Who has one IPv6 address has a whole network of them."""
    from millrace.api.auth import Caller

    caller = Caller(viewer=None, by_cookie=False, address=address, direct=False)
    assert caller.name == f"address:{network}"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "6.6.6.6", "peer"),
        (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (2, "6.6.6.6, 1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (2, "2.2.2.2", "peer"),
        (1, "", "peer"),
    ],
)
async def test_addresses_behind_proxies(proxies, forwarded, address):
    """Only what a trusted proxy wrote counts; what the caller claims further left does not."""
    from millrace.api.auth import address_of

    found, direct = address_of("peer", {"x-forwarded-for": forwarded}, proxies)

    assert found == address
    assert not direct


@pytest.mark.parametrize(
    ("peer", "headers", "direct"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:8321"}, True),
        ("::1", {"host": "[::1]:8321"}, True),
        ("127.0.0.1", {"host": "localhost"}, True),
        ("127.0.0.1", {"host": "evil.example"}, False),
        ("127.0.0.1", {"host": "127.0.0.1", "x-forwarded-for": "127.0.0.1"}, False),
        ("127.0.0.1", {"host": "127.0.0.1", "forwarded": "for=x"}, False),
        ("127.0.0.1", {"host": "[::1"}, False),
        ("10.0.0.1", {"host": "127.0.0.1"}, False),
    ],
)
async def test_who_is_on_this_machine(peer, headers, direct):
    """Neither a proxy on this machine nor a renamed host makes somebody local."""
    from millrace.api.auth import address_of

    assert address_of(peer, headers, 0) == (peer, direct)
