"""Goal: reporting, judging, searching and looking at people, as a program sees it through the doors."""

import pytest

from millrace.api.testing import town
from millrace.community.testing import as_member
from millrace.community.types import MemberDraft, NewPost, program

pytestmark = pytest.mark.services


@pytest.fixture
async def place(conninfo, tmp_path):
    async with town(conninfo, str(tmp_path)) as made:
        yield made


async def pages(client, address, headers, **params):
    """Walk a list to its end, two by two."""
    items, cursor = [], ""
    while True:
        got = await client.get(
            address, headers=headers, params=params | {"limit": 2, "cursor": cursor}
        )
        assert got.status_code == 200, got.text
        items += got.json()["items"]
        cursor = got.json()["next_cursor"]
        if not cursor:
            return items


async def test_from_a_report_to_a_notice(place):
    """Ben reports, Mona hides, Ada reads why, Ben finds nothing, Mona restores."""
    post = str(place.posts["ada"])
    ada, ben, mona = (place.bearer(name) for name in ("ada", "ben", "mona"))
    async with place.client() as client:

        async def decides(move, headers=mona, **more):
            form = {"thing_kind": "post", "thing_id": post, "move": move, "reason": "see the rules"}
            return await client.post(
                "/v1/moderation/actions", json=form | more, headers=headers | {"origin": "x"}
            )

        form = {"thing_kind": "post", "thing_id": post, "reason": "spam"}
        said = [await client.post("/v1/reports", json=form, headers=ben) for _ in range(2)]
        (case,) = (await client.get("/v1/moderation/cases", headers=mona)).json()["items"]
        address = f"/v1/moderation/cases/{case['id']}"
        read = await client.get(address, headers=mona)
        same = await client.get(address, headers=mona | {"if-none-match": read.headers["etag"]})
        reports = await pages(client, f"{address}/reports", mona)
        key = {"idempotency-key": "hide-it-once"}
        hidden = [await decides("hide", mona | key) for _ in range(2)]
        twice = await decides("hide")
        own = (await client.get(f"/v1/posts/{post}", headers=ada)).json()
        gone = await client.get(f"/v1/posts/{post}", headers=ben)
        notices = await pages(client, f"/v1/members/{place.members['ada']}/notices", ada)
        things = await client.get(f"/v1/moderation/things/post/{post}", headers=mona)
        settled = await pages(client, "/v1/moderation/cases", mona, settled=True)
        back = await decides("restore")
        trail = await pages(
            client, "/v1/moderation/actions", mona, thing_kind="post", thing_id=post
        )
        by_mona = await pages(client, "/v1/moderation/actions", mona, by="member:7-7")
        half = await client.get("/v1/moderation/actions", headers=mona, params={"thing_id": post})

    assert [(one.status_code, one.json()["new"]) for one in said] == [(201, True), (201, False)]
    assert (case["thing_id"], case["reports"], case["reasons"]) == (post, 1, {"spam": 1})
    assert (read.status_code, same.status_code) == (200, 304)
    assert [one["reporter_id"] for one in reports] == [str(place.members["ben"])]
    assert [one.status_code for one in hidden] == [201, 201]
    assert hidden[1].headers["idempotent-replay"] == "true"
    assert hidden[0].json()["case_id"] == case["id"]
    assert (twice.status_code, twice.json()["code"], twice.json()["field"]) == (
        409,
        "conflict",
        "move",
    )
    assert own["hidden"]["reason"] == "see the rules"
    assert gone.status_code == 404
    assert [(one["move"], one["reason"]) for one in notices] == [("hide", "see the rules")]
    assert "by" not in notices[0]
    assert things.json()["moves"] == ["remove", "restore", "warn"]
    assert [one["outcome"] for one in settled] == ["hide"]
    assert back.status_code == 201
    assert [one["move"] for one in trail] == ["restore", "hide"]
    assert {one["by"] for one in trail} == {f"member:{place.members['mona']}"}
    assert by_mona == []
    assert (half.status_code, half.json()["field"]) == (400, "thing_kind")


async def test_search_through_the_doors(place):
    """Pages follow one another, what matched comes as ranges, and no text is a server error."""
    for number in range(5):
        await place.program.posts.write(
            as_member(place.members["ben"]), NewPost(text=f"A rope of length {number}.")
        )
    ada = place.bearer("ada")
    async with place.client() as client:
        found = await pages(client, "/v1/search/posts", ada, q="rope leng")
        box = (await client.get("/v1/search", headers=ada, params={"q": "ben"})).json()
        members = await pages(client, "/v1/search/members", ada, q="nets")
        places = (
            await client.get("/v1/search/communities", headers=ada, params={"q": "harb"})
        ).json()
        refused = [
            await client.get("/v1/search/posts", headers=ada, params=params)
            for params in ({"q": "!!"}, {"q": "x" * 201}, {}, {"q": "a", "since": "2026-01-01"})
        ]
        first = await client.get("/v1/search/posts", headers=ada, params={"q": "rope", "limit": 2})
        stolen = await client.get(
            "/v1/search/posts",
            headers=ada,
            params={"q": "other", "cursor": first.json()["next_cursor"]},
        )

    assert len({one["post"]["id"] for one in found}) == 5
    text, ranges = found[0]["excerpt"]["text"], found[0]["excerpt"]["ranges"]
    assert [text[start:end] for start, end in ranges] == ["rope", "length"]
    assert [one["handle"] for one in box["members"]] == ["ben"]
    assert len(box["posts"]) == 1
    assert [one["id"] for one in members] == [str(place.members["ben"])]
    assert [one["name"] for one in places["items"]] == ["Harbour"]
    assert [one.status_code for one in refused] == [422, 400, 400, 400]
    assert (stolen.status_code, stolen.json()["field"]) == (400, "cursor")


async def test_people_and_places(place):
    """Followers of anybody one may meet, page by page; what stands between two; who is where."""
    harbour, ben = place.communities["harbour"], place.members["ben"]
    names = [f"f{number}" for number in range(5)]
    drafts = [MemberDraft(external_id=name, display_name=name) for name in names]
    await place.program.members.upsert(program(), harbour, drafts)
    relations = place.program.relations
    fans = await place.program.members.list(program(), harbour)
    for fan in fans:
        if fan.key != ben:
            await relations.follow(as_member(fan.key), ben)
    await relations.mute(as_member(place.members["ada"]), ben)
    ada, cleo = place.bearer("ada"), place.bearer("cleo")
    async with place.client() as client:
        followers = await pages(client, f"/v1/members/{ben}/followers", cleo)
        follows = await pages(client, f"/v1/members/{place.members['ada']}/follows", cleo)
        profile = (await client.get(f"/v1/members/{ben}", headers=ada)).json()
        own = (await client.get(f"/v1/members/{ben}", headers=place.bearer("ben"))).json()
        here = (await client.get(f"/v1/communities/{harbour}/page", headers=ada)).json()
        there = (await client.get(f"/v1/communities/{harbour}/page", headers=cleo)).json()
        listed = (await client.get("/v1/communities", headers=cleo)).json()["items"]
        await relations.block(as_member(ben), place.members["cleo"])
        blocked = await client.get(f"/v1/members/{ben}/followers", headers=cleo)

    assert len(followers) == len({one["id"] for one in followers}) == len(fans) - 1
    assert [one["id"] for one in follows] == [str(ben)]
    assert profile["counts"] | {"views": 0} == {
        "followers": len(fans) - 1, "posts": 1, "views": 0, "likes": 0, "following": 0,
    }  # fmt: skip
    assert profile["between_us"] == {
        "followed": True, "follows_me": False, "blocked": False, "muted": True,
    }  # fmt: skip
    assert (profile["community_name"], own["between_us"]) == ("Harbour", None)
    assert [one["handle"] for one in here["moderators"]] == ["mona"]
    assert len(here["newest_members"]) == len(fans)
    assert there["newest_members"] == []
    assert {one["name"]: one["counts"] for one in listed}["Harbour"] == {
        "members": len(fans), "posts": 3,
    }  # fmt: skip
    assert blocked.status_code == 404


async def test_a_removal_holds_to_what_was_seen(place):
    """If-Match on DELETE compares and removes in one: the edited post stays."""
    post, ada = f"/v1/posts/{place.posts['ada']}", place.bearer("ada")
    async with place.client() as client:
        seen = (await client.get(post, headers=ada)).headers["etag"]
        await client.patch(post, headers=ada, json={"text": "another text"})
        refused = await client.delete(post, headers=ada | {"if-match": seen})
        now = (await client.get(post, headers=ada)).headers["etag"]
        removed = await client.delete(post, headers=ada | {"if-match": now})

    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert removed.status_code == 204
