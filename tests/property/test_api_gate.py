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

QUERIES = (
    b"", b"q=a", b"q=sea&by=members", b"limit=5", b"limit=-1", b"cursor=x", b"\xff=\xfe",
    b"q=a&community_id=99999999999999999999999", b"show=gone&order=reports", b"after=0.1-1",
    b"since=0001-01-01T00:00:00Z&q=a", b"member=1-1", b"posts=1-1,2-2", b"find=a", b"post_id=1-1",
)  # fmt: skip
FILLED = (
    b"", b"text=a", b"reason=spam&detail=x", b"move=warn&reason=x", b"display_name=&skills=,,",
    b"text=a&title=b&kind=note&audience=public&language=zz&topics=a,b&version=1",
    b'{"text":"a","kind":"event","audience":"public","topics":["a"]}', b'{"display_name":"a"}',
    b'{"headline":"x","skills":[],"languages":["x"]}', b'{"items":[{}]}', b"{}", b"[]",
)  # fmt: skip
DOORS = sorted(
    (rule.method, rule.path)
    for rule in Inventory()
    if not rule.stream and rule.path != "/sign-out"  # which would end the visit
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


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    door=st.sampled_from(DOORS),
    names=st.lists(st.integers(0, 11), min_size=3, max_size=3),
    who=st.sampled_from(["ada", "mona", "operator"]),
    query=st.sampled_from(QUERIES),
    body=st.sampled_from(FILLED),
    page=st.booleans(),
)
async def test_who_is_let_in_gets_a_whole_answer(place, door, names, who, query, body, page):
    """Behind the door, among things that exist, nothing makes the server stumble either."""
    method, path = door
    body = b"" if method in {"GET", "DELETE"} else body
    keys = [*place.members.values(), *place.posts.values(), place.comment]
    there = [*map(str, [*keys, *place.communities.values()]), "post"]
    blanks = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    chosen = [there[name % len(there)] for name in names]
    filled, token = path, place.tokens[who].encode()
    for blank, value in zip(blanks, chosen, strict=False):
        filled = filled.replace("{" + blank + "}", "post" if blank == "thing_kind" else value)
    sent, waiting = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    form = b"json" if body[:1] in {b"{", b"["} else b"x-www-form-urlencoded"
    proof = (
        (b"cookie", b"millrace_session=" + token)
        if page
        else (b"authorization", b"Bearer " + token)
    )
    scope = {
        "type": "http", "method": method, "path": filled, "query_string": query,
        "headers": [
            proof, (b"content-type", b"application/" + form), (b"host", b"127.0.0.1"),
            (b"content-length", str(len(body)).encode()), (b"origin", b"http://127.0.0.1"),
            (b"sec-fetch-site", b"same-origin"), (b"accept", b"text/html" if page else b"*/*"),
        ],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {}, "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await place.app(scope, receive, send)

    assert sent[0]["status"] < 500, place.logged("unforeseen")[-1:]
    assert not sent[-1].get("more_body", False)
