"""Goal: a write runs once, never over what its author has not seen, and is told as it was done."""

import asyncio

import psycopg
import pytest
import pytest_asyncio

from millrace.api.idempotency import KEPT_SECONDS, RUNNING_SECONDS_MAX
from millrace.api.testing import town
from millrace.kernel.clock import ManualClock, SystemClock
from millrace.kernel.errors import UnavailableError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clock():
    """A clock that the tests move."""
    return ManualClock(SystemClock().now())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory, clock):
    """A town behind its doors."""
    folder = str(tmp_path_factory.mktemp("town"))
    async with town(server.copy(), folder, clock=clock) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(place):
    """A client of the town."""
    async with place.client() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def ada(place):
    """Ada's headers, renewed: the tests move the clock by days."""
    issued = await place.program.identity.issue(f"member:{place.members['ada']}", 3600)
    return {"authorization": f"Bearer {issued.token}"}


async def written(client, headers, text="a post", **more) -> dict:
    """Write a post."""
    answer = await client.post("/v1/posts", json={"text": text}, headers=headers | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def count(place, text: str) -> int:
    """Return how many posts have a text."""
    with psycopg.connect(place.program.conninfo) as db:
        return db.execute("select count(*) from post where text = %s", [text]).fetchone()[0]


# ------------------------------------------------------------------------------------- versions


async def test_a_written_post_can_be_read(client, ada):
    """The answer to a write is what a read gives, at the place that Location names."""
    body = {"text": " a walk ", "title": "Sunday", "kind": "event", "topics": ["walks"]}
    answer = await client.post("/v1/posts", json=body, headers=ada)
    read = await client.get(answer.headers["location"], headers=ada)

    assert answer.status_code == 201
    assert read.json() == answer.json()
    assert read.headers["etag"] == answer.headers["etag"]
    assert read.json()["kind"] == "event"
    assert read.json()["author"]["display_name"] == "Ada"


async def test_not_modified(client, ada):
    """Who has the current version gets no body; a like makes another representation."""
    path = f"/v1/posts/{(await written(client, ada))['id']}"
    tag = (await client.get(path, headers=ada)).headers["etag"]
    same = await client.get(path, headers=ada | {"if-none-match": tag})
    listed = await client.get(path, headers=ada | {"if-none-match": f'"other", W/{tag}'})
    await client.put(f"{path}/reactions/like", headers=ada)
    changed = await client.get(path, headers=ada | {"if-none-match": tag})

    assert tag.startswith('"1-')
    assert same.status_code == listed.status_code == 304
    assert same.content == b""
    assert same.headers["etag"] == tag
    assert changed.status_code == 200
    assert changed.json()["liked"] is True
    assert changed.json()["counts"]["likes"] == 1


async def test_an_edit_of_an_old_version_is_refused(client, ada):
    """Two editors do not overwrite one another."""
    path = f"/v1/posts/{(await written(client, ada))['id']}"
    tag = (await client.get(path, headers=ada)).headers["etag"]
    await client.put(f"{path}/reactions/like", headers=ada)
    first = await client.patch(path, json={"text": "one"}, headers=ada | {"if-match": tag})
    second = await client.patch(path, json={"text": "two"}, headers=ada | {"if-match": tag})
    star = await client.patch(path, json={"title": "three"}, headers=ada | {"if-match": "*"})
    gone = await client.delete(path, headers=ada | {"if-match": tag})

    assert first.status_code == 200, "a like is no reason to refuse an edit"
    assert first.json()["text"] == "one"
    assert first.json()["edited_at"] is not None
    assert second.status_code == 412
    assert second.json()["code"] == "precondition_failed"
    assert second.json()["field"] == "If-Match"
    assert star.json() | {"title": "three"} == star.json()
    assert star.json()["text"] == "one"
    assert gone.status_code == 412


@pytest.mark.parametrize("tag", ['W/"1-abc"', "1", '"x"', '"1", "2"', '"' + "9" * 30 + '"', '""'])
async def test_a_tag_that_cannot_be_ours_never_matches(client, ada, tag):
    """If-Match is a promise not to change anything else; when in doubt nothing changes."""
    path = f"/v1/posts/{(await written(client, ada))['id']}"
    answer = await client.patch(path, json={"text": "x"}, headers=ada | {"if-match": tag})

    assert answer.status_code == 412


async def test_profiles_have_versions_too(place, client, ada):
    """The same holds for members."""
    path = f"/v1/members/{place.members['ada']}"
    read = await client.get(path, headers=ada)
    tag = read.headers["etag"]
    first = await client.patch(path, json={"headline": "sails"}, headers=ada | {"if-match": tag})
    second = await client.patch(path, json={"headline": "oars"}, headers=ada | {"if-match": tag})
    null = await client.patch(path, json={"headline": None}, headers=ada)

    assert first.json()["headline"] == "sails"
    assert first.json()["about"] == read.json()["about"]
    assert second.status_code == 412
    assert null.status_code == 400
    assert null.json()["field"] == "headline"
    assert read.json()["external_id"] is None, "only operators see how others name somebody"


# ---------------------------------------------------------------------------------- idempotency


async def test_a_repeated_write_runs_once(place, client, ada):
    """The repetition gets the same status, body and headers, and says that it is one."""
    key = {"idempotency-key": "k-1"}
    first = await client.post("/v1/posts", json={"text": "only once"}, headers=ada | key)
    again = await client.post("/v1/posts", json={"text": "only once"}, headers=ada | key)

    assert again.status_code == first.status_code == 201, (first.text, again.text)
    assert again.content == first.content
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replay"] == "true"
    assert again.headers["millrace-token"]
    assert "idempotent-replay" not in first.headers
    assert await count(place, "only once") == 1


async def test_a_key_is_for_one_request(place, client, ada):
    """Another body, path or media type under the same key is refused; other callers have theirs."""
    key = {"idempotency-key": "k-2"}
    post = await written(client, ada, "mine", **key)
    body = await client.post("/v1/posts", json={"text": "other"}, headers=ada | key)
    path = await client.delete(f"/v1/posts/{post['id']}", headers=ada | key)
    ben = await place.program.identity.issue(f"member:{place.members['ben']}", 3600)
    his = {"authorization": f"Bearer {ben.token}"}

    assert body.status_code == path.status_code == 422
    assert body.json()["code"] == "idempotency_key_reused"
    assert (await written(client, his, "mine", **key))["author"]["display_name"] == "Ben"


async def test_a_refused_write_gives_its_key_back(place, client, ada):
    """Nothing was changed, so the client may mend its request under the same key."""
    key = {"idempotency-key": "k-3"}
    refused = await client.post("/v1/posts", json={"text": " "}, headers=ada | key)
    mended = await client.post("/v1/posts", json={"text": "mended"}, headers=ada | key)

    assert refused.status_code == 422
    assert mended.status_code == 201


async def test_many_at_once_run_once(place, client, ada):
    """However many arrive together, one runs; the others wait for their turn or its answer."""
    key = {"idempotency-key": "k-4"}
    answers = await asyncio.gather(
        *(client.post("/v1/posts", json={"text": "crowd"}, headers=ada | key) for _ in range(12))
    )
    statuses = [one.status_code for one in answers]
    busy = next((one for one in answers if one.status_code == 409), None)

    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert len({one.json()["id"] for one in answers if one.status_code == 201}) == 1
    assert await count(place, "crowd") == 1
    if busy is not None:
        assert busy.json()["code"] == "idempotency_key_in_use"
        assert busy.headers["retry-after"] == "1"


@pytest.mark.parametrize("key", ["", "x" * 201, "a b", "é"])
async def test_unusable_keys(client, ada, key):
    """A key that could not be told from another is refused."""
    headers = ada | {"idempotency-key": key.encode()}
    answer = await client.post("/v1/posts", json={"text": "x"}, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["field"] == "Idempotency-Key"


async def test_a_key_is_forgotten_after_a_day(place, client, ada, clock):
    """Then the same key means a new request, and old rows are gone."""
    key = {"idempotency-key": "k-5"}
    await written(client, ada, "monday", **key)
    clock.move(KEPT_SECONDS + 60)
    issued = await place.program.identity.issue(f"member:{place.members['ada']}", 3600)
    headers = {"authorization": f"Bearer {issued.token}"}
    await written(client, headers, "tuesday", **key)
    with psycopg.connect(place.program.conninfo) as db:
        rows = db.execute("select key from idempotency_key").fetchall()

    assert rows == [("k-5",)]


async def test_a_lost_answer_is_never_run_again(place, client, ada, clock, monkeypatch):
    """The write was done, its answer could not be kept: a repetition is told so."""

    async def away(*_):
        raise UnavailableError("away")

    key = {"idempotency-key": "k-6"}
    with monkeypatch.context() as patched:
        patched.setattr("millrace.api.idempotency.Keys.keep", away)
        first = await client.post("/v1/posts", json={"text": "kept?"}, headers=ada | key)
    soon = await client.post("/v1/posts", json={"text": "kept?"}, headers=ada | key)
    clock.move(RUNNING_SECONDS_MAX + 1)
    later = await client.post("/v1/posts", json={"text": "kept?"}, headers=ada | key)

    assert first.status_code == 201
    assert soon.status_code == later.status_code == 409
    assert soon.headers["retry-after"] == "1"
    assert "retry-after" not in later.headers
    assert "new key" in later.json()["next_step"]
    assert await count(place, "kept?") == 1


async def test_a_write_that_failed_may_be_tried_again(place, client, ada, monkeypatch):
    """Nothing was kept of the failed request, so the same key runs it."""

    async def away(*_):
        raise UnavailableError("away")

    key = {"idempotency-key": "k-7"}
    with monkeypatch.context() as patched:
        patched.setattr(place.program.posts, "write", away)
        first = await client.post("/v1/posts", json={"text": "later"}, headers=ada | key)
    second = await client.post("/v1/posts", json={"text": "later"}, headers=ada | key)

    assert first.status_code == 503
    assert first.headers["retry-after"] == "1"
    assert second.status_code == 201
    assert await count(place, "later") == 1


# --------------------------------------------------------------------------- the rest of the path


async def test_a_thread_a_like_a_follow(place, client, ada):
    """The verbs of a member, each there and back."""
    post, ben = place.posts["ben"], place.members["ben"]
    me = place.members["ada"]
    wrote = await client.post(f"/v1/posts/{post}/comments", json={"text": "aye"}, headers=ada)
    answer = await client.post(
        f"/v1/posts/{post}/comments",
        json={"text": "again", "parent_id": wrote.json()["id"]},
        headers=ada,
    )
    thread = (await client.get(f"/v1/posts/{post}/comments", headers=ada)).json()
    removed = await client.delete(f"/v1/comments/{answer.json()['id']}", headers=ada)
    follows = f"/v1/members/{me}/follows"
    followed = await client.put(f"{follows}/{ben}", headers=ada)
    listed = (await client.get(follows, headers=ada)).json()
    await client.delete(f"{follows}/{ben}", headers=ada)
    after = (await client.get(follows, headers=ada)).json()

    assert wrote.status_code == answer.status_code == 201
    assert [one["text"] for one in thread["items"]] == ["well said", "aye", "again"]
    assert thread["items"][2]["parent_id"] == wrote.json()["id"]
    assert thread["items"][1]["author"]["display_name"] == "Ada"
    assert removed.status_code == followed.status_code == 204
    assert [one["id"] for one in listed["items"]] == [str(ben)]
    assert after == {"items": [], "next_cursor": ""}


async def test_an_answer_to_another_community(place, client, ada):
    """Whoever answers lives elsewhere: the answer still names the very comment that it answers."""
    new = {"text": "for everybody", "audience": "public"}
    post = (await client.post("/v1/posts", json=new, headers=ada)).json()["id"]
    comments = f"/v1/posts/{post}/comments"
    first = (await client.post(comments, json={"text": "one"}, headers=ada)).json()
    form = {"text": "two", "parent_id": first["id"]}
    cleo = (await place.program.identity.issue(f"member:{place.members['cleo']}", 600)).token
    elsewhere = {"authorization": f"Bearer {cleo}"}
    second = (await client.post(comments, json=form, headers=elsewhere)).json()
    form = {"text": "three", "parent_id": second["id"]}
    third = (await client.post(comments, json=form, headers=ada)).json()
    thread = (await client.get(comments, headers=ada)).json()["items"]

    assert [one["parent_id"] for one in (first, second, third)] == [None, first["id"], second["id"]]
    assert [one["parent_id"] for one in thread] == [None, first["id"], second["id"]]


async def test_blocks_and_mutes(place, client, ada):
    """A block hides both ways, a mute only from one's own feed."""
    me, mona, ben = (place.members[name] for name in ("ada", "mona", "ben"))
    for kind, target in (("blocks", mona), ("mutes", ben)):
        path = f"/v1/members/{me}/{kind}"
        assert (await client.put(f"{path}/{target}", headers=ada)).status_code == 204
        listed = (await client.get(path, headers=ada)).json()["items"]
        assert [one["id"] for one in listed] == [str(target)]
    hidden = await client.get(f"/v1/posts/{place.posts['mona']}", headers=ada)
    muted = await client.get(f"/v1/posts/{place.posts['ben']}", headers=ada)
    for kind, target in (("blocks", mona), ("mutes", ben)):
        gone = await client.delete(f"/v1/members/{me}/{kind}/{target}", headers=ada)
        assert gone.status_code == 204
    back = await client.get(f"/v1/posts/{place.posts['mona']}", headers=ada)

    assert hidden.status_code == 404
    assert muted.status_code == back.status_code == 200


async def test_pages_neither_repeat_nor_lose(place, client, ada):
    """Walking the cursors gives every post once."""
    texts = [f"page {number}" for number in range(7)]
    for text in texts:
        await written(client, ada, text)
    author = str(place.members["ada"])
    found, cursor = [], ""
    while True:
        params = {"author_id": author, "limit": 3, "cursor": cursor}
        page = (await client.get("/v1/posts", params=params, headers=ada)).json()
        found += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    whole = await client.get("/v1/posts", params={"author_id": author, "limit": 100}, headers=ada)
    other = await client.get("/v1/posts", params={"limit": 3}, headers=ada)
    mixed = {"author_id": author, "cursor": other.json()["next_cursor"]}

    assert found == [one["id"] for one in whole.json()["items"]]
    assert len(found) == len(set(found)) >= 7
    assert (await client.get("/v1/posts", params=mixed, headers=ada)).status_code == 400
