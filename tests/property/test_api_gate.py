"""Goal: whatever bytes come, one whole answer goes, with the headers that keep a browser safe."""

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.api.inventory import Inventory
from millrace.api.testing import town

PATHS = sorted({rule.path for rule in Inventory()})
SEGMENT = st.one_of(
    st.text(max_size=8), st.sampled_from(["1-1", "0", "..", "%2f", "me", "feed", "//", "\x00"])
)
NAMES = st.sampled_from(
    [
        b"authorization", b"cookie", b"content-type", b"content-length", b"idempotency-key",
        b"if-match", b"if-none-match", b"millrace-token", b"origin", b"sec-fetch-site", b"host",
        b"x-forwarded-for", b"x-request-id", b"accept", b"x-fragment",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"")),
    st.sampled_from(
        [
            b"Bearer TOKEN", b"millrace_session=TOKEN", b"application/json", b"*", b"text/html",
            b"http://127.0.0.1", b"same-origin", b'"1-0123456789abcdef"', b"99999999999999999999",
            b"-1", b"application/x-www-form-urlencoded",
        ]
    ),
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"{}", b"[]", b'{"items":[{}]}', b'{"text":"a"}', b"null", b"text=a", b"1e999"]
    ),
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town behind its doors."""
    async with town(server.copy(), str(tmp_path_factory.mktemp("town"))) as made:
        yield made


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]),
    path=st.sampled_from(PATHS),
    segments=st.lists(SEGMENT, min_size=3, max_size=3),
    query=st.binary(max_size=30),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    body=BODIES,
)
async def test_any_request_gets_a_whole_answer(place, method, path, segments, query, headers, body):
    """Neither the path nor a header nor a body makes the server stumble."""
    token = place.tokens["ada"].encode()
    names = {part[1:-1] for part in path.split("/") if part.startswith("{")}
    filled = path.format(**dict(zip(sorted(names), segments, strict=False)))
    sent, waiting = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": filled, "query_string": query,
        "headers": [(name, value.replace(b"TOKEN", token)) for name, value in headers],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {}, "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await place.app(scope, receive, send)
    start, *rest = sent
    found = {name.lower() for name, _ in start["headers"]}

    assert start["status"] < 500, place.logged("unforeseen")[-1:]
    assert [message["type"] for message in rest] == ["http.response.body"] * len(rest)
    assert not rest[-1].get("more_body", False)
    assert {b"content-security-policy", b"x-request-id", b"cache-control"} <= found
    assert not place.logged("unforeseen")
