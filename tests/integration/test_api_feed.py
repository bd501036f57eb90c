"""Goal: a member gets the feed and a sentence, an operator the whole trace, nobody anybody else's."""

import pytest
import pytest_asyncio

from millrace.api.testing import town
from millrace.community.types import PostDraft, program

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOPICS = ("boats", "nets", "tides", "ropes", "gulls", "knots", "fish", "sails")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town with something to read."""
    async with town(server.copy(), str(tmp_path_factory.mktemp("town"))) as made:
        drafts = [
            PostDraft(external_id=f"{topic}-{author}", author=author, text=f"about {topic}")
            for topic in TOPICS
            for author in ("ben", "mona")
        ]
        await made.program.posts.upsert(program(), made.communities["harbour"], drafts)
        await made.program.feed.settled()
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(place):
    """A client of the town."""
    async with place.client() as made:
        yield made


async def test_pages_follow_one_served_feed(place, client):
    """The cursor walks one feed: no post twice, positions in order, none of one's own."""
    path, headers = f"/v1/members/{place.members['ada']}/feed", place.bearer("ada")
    pages, cursor = [], ""
    while True:
        params = {"limit": 5, "cursor": cursor}
        answer = await client.get(path, params=params, headers=headers)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        cursor = pages[-1]["next_cursor"]
        if not cursor:
            break
    items = [item for page in pages for item in page["items"]]
    ids = [item["post"]["id"] for item in items]

    assert len(pages) >= 3
    assert len(ids) == len(set(ids)) >= len(TOPICS) * 2
    assert [item["position"] for item in items] == list(range(len(items)))
    assert len({page["served_feed_id"] for page in pages}) == 1
    assert str(place.posts["ada"]) not in ids
    assert str(place.posts["cleo"]) not in ids, "the hill's posts are for the hill"
    assert all(item["reason"] for item in items)


async def test_wrong_pages(place, client):
    """A cursor of somebody else's feed, or of nobody's, is refused; so is an endless page."""
    mine = f"/v1/members/{place.members['ada']}/feed"
    bens = f"/v1/members/{place.members['ben']}/feed"
    cursor = (await client.get(bens, params={"limit": 2}, headers=place.bearer("ben"))).json()[
        "next_cursor"
    ]
    headers = place.bearer("ada")
    stolen = await client.get(mine, params={"cursor": cursor}, headers=headers)
    forged = await client.get(mine, params={"cursor": "x" * 40}, headers=headers)
    endless = await client.get(mine, params={"limit": 101}, headers=headers)
    unknown = await client.get("/v1/members/1-2/feed", headers=place.bearer("operator"))

    assert stolen.status_code == forged.status_code == 422
    assert stolen.json()["field"] == forged.json()["field"] == "cursor"
    assert endless.status_code == 400
    assert unknown.status_code == 404


async def test_why_tells_members_a_sentence_and_operators_all(place, client):
    """The trace names weights and features, which a member does not get."""
    path = f"/v1/members/{place.members['ada']}/why"
    params = {"post_id": str(place.posts["ben"])}
    member = (await client.get(path, params=params, headers=place.bearer("ada"))).json()
    operator = (await client.get(path, params=params, headers=place.bearer("operator"))).json()
    unseen = {"post_id": str(place.posts["cleo"])}
    hidden = await client.get(path, params=unseen, headers=place.bearer("ada"))
    shown = await client.get(path, params=unseen, headers=place.bearer("operator"))

    assert member["sentence"] == operator["sentence"]
    assert member["trace"] is None
    assert operator["trace"]["sources"]
    assert operator["trace"]["features"]
    assert {one["action"] for one in operator["trace"]["actions"]} >= {"like", "comment"}
    assert hidden.status_code == 404, "a member does not learn that the post exists"
    assert shown.status_code == 200
    assert shown.json()["trace"]["removed"]["reason"]


async def test_hiding_takes_effect_at_once(place, client):
    """What a member hides is gone from the next page that they ask for."""
    path, headers = f"/v1/members/{place.members['ben']}/feed", place.bearer("ben")
    first = (await client.get(path, headers=headers)).json()["items"][0]["post"]["id"]
    now = place.program.clock.now().isoformat()
    body = {"items": [{"post_id": first, "kind": "hide", "happened_at": now}]}
    taken = await client.post("/v1/engagements", json=body, headers=headers)
    after = (await client.get(path, params={"limit": 100}, headers=headers)).json()["items"]

    assert taken.json()["created"] == 1
    assert first not in [item["post"]["id"] for item in after]
