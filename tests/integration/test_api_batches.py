"""Goal: a bad item never refuses the good ones, and the same batch twice changes nothing."""

from datetime import timedelta

import pytest
import pytest_asyncio

from millrace.api.bodies import BATCH_ITEMS_MAX, BULK_ITEMS_MAX
from millrace.api.testing import EARLIER, town

pytestmark = pytest.mark.asyncio(loop_scope="module")
WHEN = EARLIER.isoformat()


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


async def bulk(place, client, kind: str, items: list, community: str | None = "harbour") -> dict:
    """Send a bulk request as the operator."""
    body = {"items": items} | ({} if community is None else {"community": community})
    answer = await client.post(f"/v1/bulk/{kind}", json=body, headers=place.bearer("operator"))
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted(result: dict) -> tuple[int, int, int, int]:
    """Return created, updated, unchanged and the number of rejects."""
    return result["created"], result["updated"], result["unchanged"], len(result["rejected"])


async def test_a_whole_community_by_bulk(place, client):
    """Everything that an importer brings can come by the API, twice, with the same ids."""
    batches = {
        "communities": [{"external_id": "island", "name": "Island", "nearby": ["harbour"]}],
        "members": [
            {"external_id": "eve", "display_name": "Eve", "languages": ["en"]},
            {"external_id": "finn", "display_name": "Finn", "joined_at": WHEN},
        ],
        "posts": [
            {"external_id": "p1", "author": "eve", "text": "a storm", "topics": ["weather"]},
            {"external_id": "p2", "author": "finn", "text": "calm", "created_at": WHEN, "views": 9},
        ],
        "comments": [
            {"external_id": "c1", "author": "finn", "post": "p1", "text": "indeed"},
            {"external_id": "c2", "author": "eve", "post": "p1", "text": "yes", "parent": "c1"},
        ],
        "follows": [{"member": "eve", "target": "finn"}],
        "impressions": [{"member": "eve", "post": "p2", "shown_at": WHEN, "position": 3}],
        "engagements": [{"member": "eve", "post": "p2", "kind": "like", "happened_at": WHEN}],
    }
    first, second = {}, {}
    for results in (first, second):
        for kind, items in batches.items():
            where = None if kind == "communities" else "island"
            results[kind] = await bulk(place, client, kind, items, where)

    for kind, items in batches.items():
        assert counted(first[kind]) == (len(items), 0, 0, 0), kind
        assert counted(second[kind]) == (0, 0, len(items), 0), kind
        assert first[kind]["ids"] == second[kind]["ids"], kind
    read = await client.get(
        f"/v1/posts/{first['posts']['ids']['p2']}", headers=place.bearer("operator")
    )
    assert read.json()["text"] == "calm"
    assert read.json()["counts"]["views"] >= 9


async def test_bad_items_are_told_by_their_place(place, client):
    """Wrong forms and wrong values both name index, field and reason; the rest is taken."""
    result = await bulk(
        place,
        client,
        "members",
        [
            {"external_id": "gus", "display_name": "Gus"},
            {"external_id": "hal"},
            {"external_id": "ida", "display_name": 7},
            "a text",
            {"external_id": "", "display_name": "Nobody"},
            {"external_id": "jon", "display_name": "Jon", "shoe_size": 44},
            {"external_id": "kit", "display_name": "Kit"},
        ],
    )
    rejected = {one["index"]: one for one in result["rejected"]}

    assert result["created"] == 2
    assert set(result["ids"]) == {"gus", "kit"}
    assert list(rejected) == [1, 2, 3, 4, 5]
    assert "display_name" in rejected[1]["reason"]
    assert rejected[2]["field"] == "display_name"
    assert "Expected `str`, got `int`" in rejected[2]["reason"]
    assert rejected[4]["field"] == "external_id"
    assert "shoe_size" in rejected[5]["reason"]
    assert all(one["reason"] for one in rejected.values())


async def test_a_batch_for_an_unknown_community(place, client):
    """The whole batch is refused where its place is unknown or missing."""
    headers = place.bearer("operator")
    unknown = {"community": "atlantis", "items": []}
    answer = await client.post("/v1/bulk/members", json=unknown, headers=headers)
    missing = await client.post("/v1/bulk/members", json={"items": []}, headers=headers)

    assert answer.status_code == 404
    assert missing.status_code == 422
    assert missing.json()["field"] == "community"


@pytest.mark.parametrize(
    ("path", "limit", "who"),
    [
        ("/v1/bulk/communities", BULK_ITEMS_MAX, "operator"),
        ("/v1/impressions", BATCH_ITEMS_MAX, "ada"),
        ("/v1/engagements", BATCH_ITEMS_MAX, "ada"),
    ],
)
async def test_too_many_items(place, client, path, limit, who):
    """A batch over the limit is refused as a whole, and nothing of it is taken."""
    body = {"items": [0] * (limit + 1)}
    answer = await client.post(path, json=body, headers=place.bearer(who))

    assert answer.status_code == 422
    assert answer.json()["code"] == "too_large"
    assert answer.json()["limit"] == limit


async def test_a_member_records_for_themself_only(place, client):
    """A batch with another member's activity is refused as a whole; operators record anybody's."""
    ben, post = str(place.members["ben"]), str(place.posts["ben"])
    mine = {"post_id": post, "shown_at": WHEN, "position": 0}
    both = {"items": [mine, mine | {"member_id": ben}]}
    refused = await client.post("/v1/impressions", json=both, headers=place.bearer("ada"))
    alone = await client.post(
        "/v1/impressions", json={"items": [mine]}, headers=place.bearer("ada")
    )
    again = await client.post(
        "/v1/impressions", json={"items": [mine]}, headers=place.bearer("ada")
    )
    operator = await client.post("/v1/impressions", json=both, headers=place.bearer("operator"))

    assert refused.status_code == 403
    assert counted(alone.json()) == (1, 0, 0, 0), "nothing of the refused batch was kept"
    assert again.json()["created"] == 0
    assert operator.json()["created"] == 1, "Ben's; who is not a member must say whose it is"
    assert [one["index"] for one in operator.json()["rejected"]] == [0]
    assert operator.json()["rejected"][0]["field"] == "member_id"


async def test_engagement_takes_effect(place, client):
    """A like counts once, however often the batch is sent; a bad moment is told."""
    post = str(place.posts["mona"])
    like = {"post_id": post, "kind": "like", "happened_at": WHEN, "dwell_ms": 1200}
    naive = {"post_id": post, "kind": "click", "happened_at": "2026-01-01T00:00:00"}
    ahead = (place.program.clock.now() + timedelta(days=2)).isoformat()
    future = {"post_id": post, "kind": "click", "happened_at": ahead}
    body = {"items": [like, naive, future, like | {"position": -1}]}
    headers = place.bearer("ada")
    first = (await client.post("/v1/engagements", json=body, headers=headers)).json()
    second = (await client.post("/v1/engagements", json=body, headers=headers)).json()
    read = (await client.get(f"/v1/posts/{post}", headers=headers)).json()

    assert counted(first) == (1, 0, 0, 3)
    assert second["created"] == 0
    assert [one["field"] for one in first["rejected"]] == ["happened_at", "happened_at", "position"]
    assert read["counts"]["likes"] == 1


async def test_tokens_keys_and_operators(place, client):
    """The life of a token: issued, used, revoked; and keys that change under it."""
    operator, ben = place.bearer("operator"), str(place.members["ben"])
    issued = await client.post("/v1/tokens", json={"member_id": ben}, headers=operator)
    his = {"authorization": f"Bearer {issued.json()['token']}"}
    rotated = await client.post("/v1/keys/rotate", headers=operator)
    keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
    me = await client.get("/v1/me", headers=his)
    other = await client.delete("/v1/tokens/somebody-elses", headers=his)
    own = await client.delete(f"/v1/tokens/{issued.json()['token_id']}", headers=his)
    after = await client.get("/v1/me", headers=his)
    manager = await client.post(
        "/v1/operators", json={"name": "sam", "role": "release_manager"}, headers=operator
    )
    sams = {"authorization": f"Bearer {manager.json()['token']}"}
    twice = await client.post("/v1/operators", json={"name": "sam"}, headers=operator)

    assert issued.status_code == 201
    assert rotated.json()["key_id"] in {key["kid"] for key in keys}
    assert len(keys) >= 2
    assert me.json() == {"name": f"member:{ben}", "role": "member", "member_id": ben}
    assert other.status_code == 403
    assert own.status_code == 204
    assert after.status_code == 401
    assert "revoked" in after.json()["detail"]
    assert (await client.get("/v1/me", headers=sams)).json()["role"] == "release_manager"
    assert twice.status_code == 409
