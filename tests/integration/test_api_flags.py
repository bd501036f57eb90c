"""Goal: flags and rings are changed over REST by those who may, one version after the other."""

from datetime import timedelta

import pytest
import pytest_asyncio

from millrace.api.testing import town
from millrace.release.flags.types import Approval, FlagConfig, Ring

pytestmark = pytest.mark.asyncio(loop_scope="module")
SWITCH = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
SPLIT = SWITCH | {"targeting": {"fractional": [["on", 10], ["off", 90]]}}
WHY = "for the test"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town; each test has keys of its own."""
    async with town(server.copy(), str(tmp_path_factory.mktemp("town"))) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(place):
    """A release manager's client."""
    async with place.client() as made:
        made.headers.update(place.bearer("manager"))
        yield made


def at(version: int) -> dict[str, str]:
    """Return the header that names the version that a change is made from."""
    return {"if-match": f'"{version}"'}


async def write(client, key, definition, version=0, **more):
    """Write a flag."""
    body = {"definition": definition, "reason": WHY} | more
    return await client.put(f"/v1/flags/{key}", json=body, headers=at(version) if version else {})


async def act(client, key, verb, version=None, **body):
    """Do something with a flag."""
    headers = {} if version is None else at(version)
    return await client.post(
        f"/v1/flags/{key}/{verb}", json={"reason": WHY} | body, headers=headers
    )


async def test_a_flag_lives_by_its_versions(place, client):
    """Written, ramped, killed, revived, reverted, removed: each a version, each in the trail."""
    made = await write(client, "life", SWITCH, owner="feed")
    assert (made.status_code, made.headers["etag"]) == (200, '"1"')
    assert made.json()["flag"]["definition"] == SWITCH
    assert list(made.json()["flag"]["definition"]) == list(SWITCH), "the order was lost"
    assert (await write(client, "life", SPLIT, 1)).json()["flag"]["version"] == 2
    ramped = await act(client, "life", "ramp", 2, variant="on", percentage=25)
    assert ramped.json()["flag"]["definition"]["targeting"] == {
        "fractional": [["on", 25], ["off", 75]]
    }
    assert (await act(client, "life", "kill")).json()["flag"]["state"] == "DISABLED"
    assert (await act(client, "life", "revive", 4)).json()["flag"]["state"] == "ENABLED"
    back = await act(client, "life", "revert", 5, to_version=1)
    assert back.json()["flag"]["definition"] == SWITCH
    gone = await client.delete("/v1/flags/life", params={"reason": WHY}, headers=at(6))
    assert (gone.status_code, gone.json()["flag"]) == (200, None)
    assert (await client.get("/v1/flags/life")).status_code == 404

    first = (await client.get("/v1/flags/life/history", params={"limit": 4})).json()
    rest = (
        await client.get("/v1/flags/life/history", params={"cursor": first["next_cursor"]})
    ).json()
    lines = first["items"] + rest["items"]
    moves = ["remove", "revert", "revive", "kill", "ramp", "put", "put"]
    assert [one["move"] for one in lines] == moves
    assert {one["by"] for one in lines} == {"operator:rita"}
    assert {one["reason"] for one in lines} == {WHY}
    assert (lines[-1]["before"], lines[-1]["after"], lines[0]["after"]) == (None, SWITCH, None)


async def test_nobodys_change_is_lost_silently(place, client):
    """A change from an old version is refused with both, and a new flag does not replace one."""
    await write(client, "versions", SWITCH)
    await write(client, "versions", SPLIT, 1)

    late = await write(client, "versions", SWITCH, 1)
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert "1" in late.json()["detail"]
    assert "2" in late.json()["detail"]
    assert (await write(client, "versions", SWITCH)).status_code == 412
    assert (await act(client, "versions", "ramp", variant="on", percentage=1)).status_code == 412
    deleted = await client.delete("/v1/flags/versions", params={"reason": WHY})
    assert deleted.status_code == 412
    found = await client.get("/v1/flags/versions")
    assert found.json()["definition"] == SPLIT
    same = await client.get("/v1/flags/versions", headers={"if-none-match": found.headers["etag"]})
    assert same.status_code == 304
    changed = await client.put(
        "/v1/flags/versions",
        json={"definition": SWITCH, "reason": WHY},
        headers={"if-match": found.headers["etag"]},
    )
    assert changed.status_code == 200


async def test_what_is_wrong_is_told_by_its_place(place, client):
    """Every fault has a JSON pointer, in the problem and in the check."""
    wrong = SWITCH | {
        "defaultVariant": "missing",
        "targeting": {"if": [{"no_such": [1]}, "on", "off"]},
    }
    refused = await write(client, "wrong", wrong)
    checked = await client.post("/v1/flags/wrong/check", json={"definition": wrong})

    assert (refused.status_code, refused.json()["code"]) == (422, "wrong_definition")
    places = {one["place"] for one in refused.json()["problems"] if one["grave"]}
    assert "/defaultVariant" in places
    assert any(place.startswith("/targeting/if/0") for place in places)
    assert checked.json() == {"sound": False, "problems": refused.json()["problems"]}
    assert (await client.get("/v1/flags/wrong")).status_code == 404
    sound = await client.post("/v1/flags/wrong/check", json={"definition": SWITCH})
    assert sound.json() == {"sound": True, "problems": []}


async def test_a_change_that_moves_members_without_need_is_told(place, client):
    """Check, preview and the change itself warn alike; a share that only grows is no news."""
    turned = SWITCH | {"targeting": {"fractional": [["off", 90], ["on", 10]]}}
    grown = SWITCH | {"targeting": {"fractional": [["on", 20], ["off", 80]]}}
    other = turned | {"metadata": {"bucketing": "v3"}}
    assert (await write(client, "moved", SPLIT)).json()["warnings"] == []
    quiet = await client.post("/v1/flags/moved/check", json={"definition": grown})
    assert quiet.json() == {"sound": True, "problems": []}

    for definition, where in ((turned, "/targeting/fractional"), (other, "/metadata/bucketing")):
        body = {"definition": definition}
        checked = (await client.post("/v1/flags/moved/check", json=body)).json()
        (warning,) = checked["problems"]
        assert (checked["sound"], warning["place"], warning["grave"]) == (True, where, False)
        seen = (await client.post("/v1/flags/moved/preview", json=body)).json()
        assert seen["problems"] == [warning]
        version = (await client.get("/v1/flags/moved")).json()["version"]
        made = (await write(client, "moved", definition, version)).json()
        assert (made["flag"]["version"], made["warnings"]) == (version + 1, [warning])
        again = await client.post("/v1/flags/moved/check", json=body)
        assert again.json()["problems"] == [], "it stands by now"


async def test_what_flags_share_is_written_like_a_flag(place, client):
    """`$evaluators` has versions and faults of its own; a definition of any depth is no 500."""
    shared = {"inner": {"in": ["alpha", {"var": "rings"}]}}
    made = await write(client, "$evaluators", shared)
    assert (made.status_code, made.json()["flag"]["definition"]) == (200, shared)
    wrong = await write(client, "$evaluators", {"inner": {"no_such": []}}, 1)
    assert wrong.json()["problems"][0]["place"].startswith("/inner")
    for depth in (60, 5_000):
        deep = f'{{"reason": "x", "definition": {"[" * depth}{"]" * depth}}}'
        headers = {"content-type": "application/json"}
        refused = await client.put("/v1/flags/deep", content=deep, headers=headers)
        assert refused.status_code in {400, 422}
    bare = await write(client, "bare", 5)
    assert (bare.status_code, bare.json()["code"]) == (422, "wrong_definition")
    gone = await client.delete("/v1/flags/$evaluators", params={"reason": WHY}, headers=at(1))
    assert gone.status_code == 200


async def test_flags_are_listed_by_prefix_owner_and_state(place, client):
    """A page continues the same list, whatever filters it has."""
    for n in range(5):
        await write(client, f"list.{n}", SWITCH, owner="ada" if n % 2 else "ben")
    await act(client, "list.4", "kill")

    async def keys(**params):
        found: list[str] = []
        cursor = ""
        while True:
            answer = await client.get("/v1/flags", params={"cursor": cursor, "limit": 2} | params)
            assert answer.status_code == 200, answer.text
            found += [one["key"] for one in answer.json()["items"]]
            cursor = answer.json()["next_cursor"]
            if not cursor:
                return found

    assert await keys(prefix="list.") == [f"list.{n}" for n in range(5)]
    assert await keys(prefix="list.", owner="ben") == ["list.0", "list.2", "list.4"]
    assert await keys(prefix="list.", owner="ben", state="ENABLED") == ["list.0", "list.2"]
    assert await keys(prefix="list.", state="DISABLED") == ["list.4"]


async def test_who_gets_what_is_counted(place, client):
    """A preview names whom a change moves, and afterwards the audience is as it said."""
    ada = str(place.members["ada"])
    await write(client, "counted", SWITCH)
    only = SWITCH | {"targeting": {"if": [{"==": [{"var": "targetingKey"}, ada]}, "on", "off"]}}
    told = (await client.post("/v1/flags/counted/preview", json={"definition": only})).json()
    turn = next(one for one in told["turns"] if one["variant"] == "on")
    assert (told["members"], told["changed"]) == (4, 1)
    assert (turn["added"], turn["added_ids"], turn["dropped"]) == (1, [ada], 0)

    await write(client, "counted", only, 1)
    found = (await client.get("/v1/flags/counted/audience")).json()
    assert (found["members"], found["variants"]) == (4, {"on": 1, "off": 3})
    assert sum(sum(counts.values()) for counts in found["rings"].values()) == 4
    harbour = found["communities"][str(place.communities["harbour"])]
    assert harbour == {"on": 1, "off": 2}
    assert (await client.get("/v1/flags/no-such/audience")).status_code == 404


async def test_use_is_counted(place, client):
    """How often a variant was given is told by day."""
    await write(client, "used", SWITCH)
    for _ in range(3):
        await client.post("/ofrep/v1/evaluate/flags/used", json={"context": {}})
    await place.program.flags.flush()

    (line,) = (await client.get("/v1/flags/used/usage")).json()["items"]
    assert (line["variant"], line["evaluations"], line["errors"]) == ("off", 3, 0)


async def test_a_document_goes_out_and_comes_in(place, client):
    """What is read as a whole is brought in as a whole, and the second time changes nothing."""
    shared = {"beta": {"in": ["beta", {"var": "rings"}]}}
    rule = {"if": [{"$ref": "beta"}, "on", "off"]}
    document = {"flags": {"doc": SWITCH | {"targeting": rule}}, "$evaluators": shared}
    body = {"document": document, "reason": WHY}
    first = (await client.post("/v1/flag-document", json=body)).json()
    again = (await client.post("/v1/flag-document", json=body)).json()
    whole = await client.get("/v1/flag-document")
    same = await client.get("/v1/flag-document", headers={"if-none-match": whole.headers["etag"]})

    assert "doc" in first["created"]
    assert (again["created"], again["changed"]) == ([], [])
    assert whole.json()["flags"]["doc"] == document["flags"]["doc"]
    assert whole.json()["$evaluators"] == shared
    assert (same.status_code, same.content) == (304, b"")
    unreadable = await client.post("/v1/flag-document", json={"document": 5, "reason": WHY})
    assert unreadable.status_code == 422


async def test_rings_are_made_of_names_rules_and_wishes(place, client):
    """Listed, ruled and opted in: each is in the ring, and each is told why."""
    ada, ben, mona = (str(place.members[name]) for name in ("ada", "ben", "mona"))
    rings = "/v1/rings/ios"
    listed = await client.put(f"{rings}/employees/entries/{ben}", json={"reason": WHY})
    assert (listed.json()["choice"], listed.json()["by"]) == ("listed", "operator:rita")
    rule = {"percentage": 100, "reason": WHY}
    assert (await client.put(f"{rings}/beta/rule", json=rule)).json()["version"] == 1
    assert (await client.put(f"{rings}/beta/rule", json=rule)).status_code == 412
    half = await client.put(f"{rings}/beta/rule", json=rule | {"percentage": 0.0001}, headers=at(1))
    assert half.json()["version"] == 2

    own = f"/v1/members/{ada}/rings"
    bearer = place.bearer("ada")
    chosen = await client.put(f"{own}/ios/beta", json={"choice": "opted_in"}, headers=bearer)
    assert chosen.json()["choice"] == "opted_in"
    closed = await client.put(f"{own}/ios/employees", json={"choice": "opted_in"}, headers=bearer)
    assert closed.status_code in {403, 422}
    await client.put(f"{rings}/beta/entries/{mona}", json={"reason": WHY})
    wish = f"/v1/members/{mona}/rings/ios/beta"
    away = await client.put(wish, json={"choice": "opted_out"}, headers=place.bearer("mona"))
    assert (away.status_code, away.json()["code"]) == (409, "conflict")
    await client.delete(wish, headers=place.bearer("mona"))

    async def inside(ring):
        return [
            one["member_id"]
            for one in (await client.get(f"{rings}/{ring}/members")).json()["items"]
        ]

    assert await inside("employees") == [ben]
    assert set(await inside("beta")) == {ada, ben, mona}
    circles = (await client.get(rings)).json()["rings"]
    assert [one["ring"] for one in circles] == [str(ring) for ring in Ring]
    assert (circles[0]["members"], circles[2]["members"], circles[4]["members"]) == (1, 3, 4)
    why = (await client.get(f"{rings}/explain", params={"member_id": ben})).json()
    assert why["ring"] == "employees"
    assert "operator:rita" in why["sentence"]
    mine = (await client.get(own, params={"track": "ios"}, headers=bearer)).json()
    assert mine["explanation"]["ring"] == "beta"
    assert mine["open_rings"] == ["beta"]
    for _ in range(2):
        assert (await client.delete(f"{own}/ios/beta", headers=bearer)).status_code == 204
        entry = f"{rings}/employees/entries/{ben}"
        assert (await client.delete(entry, params={"reason": WHY})).status_code == 204
    assert await inside("beta") == [mona]
    gone = (await client.get(f"{rings}/explain", params={"member_id": mona[:-1] + "0"})).status_code
    assert gone == 404
    assert (await client.get("/v1/rings/No Track")).status_code == 422


async def test_four_eyes_hold_up_everything_but_a_kill(conninfo, tmp_path):
    """A change waits for somebody else; nobody approves their own; a kill waits for nobody."""
    config = FlagConfig(approval=Approval.REQUIRED)
    async with town(conninfo, str(tmp_path), flags=config) as place, place.client() as client:
        client.headers.update(place.bearer("manager"))
        other = place.bearer("operator")
        asked = await write(client, "reviewed", SWITCH)
        number = asked.json()["request"]["id"]
        own = await client.post(f"/v1/flag-requests/{number}/approve", json={})
        assert (asked.status_code, asked.json()["flag"], own.status_code) == (202, None, 403)
        assert (await client.get("/v1/flags/reviewed")).status_code == 404
        done = await client.post(f"/v1/flag-requests/{number}/approve", json={}, headers=other)
        assert done.json()["state"] == "applied"
        assert (await client.get("/v1/flags/reviewed")).json()["version"] == 1

        ramped = await write(client, "reviewed", SPLIT, 1)
        killed = await act(client, "reviewed", "kill")
        assert (ramped.status_code, killed.status_code) == (202, 200)
        late = ramped.json()["request"]["id"]
        done = await client.post(f"/v1/flag-requests/{late}/approve", json={}, headers=other)
        assert done.json()["state"] == "failed", "the flag had moved on"
        third = (await act(client, "reviewed", "revive", 2)).json()["request"]["id"]
        said = {"note": "not yet"}
        done = await client.post(f"/v1/flag-requests/{third}/reject", json=said, headers=other)
        assert (done.json()["state"], done.json()["note"]) == ("rejected", "not yet")
        failed = await client.get("/v1/flag-requests", params={"state": "failed"})
        assert [one["id"] for one in failed.json()["items"]] == [late]
        all_of_them = await client.get("/v1/flag-requests", params={"key": "reviewed", "limit": 2})
        assert len(all_of_them.json()["items"]) == 2
        assert all_of_them.json()["next_cursor"]


async def test_a_change_waits_for_its_time(place, client):
    """A change with a time is a request until then, and can be taken back."""
    due = (place.program.clock.now() + timedelta(hours=1)).isoformat()
    wait = {"track": "ios", "version": "9.0.0", "share": 0.5, "country": "SE"}
    asked = await write(client, "later", SWITCH, due_at=due, wait=wait)
    found = asked.json()["request"]

    assert (asked.status_code, found["state"]) == (202, "approved")
    assert found["wait"] == wait | {"community_id": None}
    assert found["definition"] == SWITCH
    taken = await client.post(f"/v1/flag-requests/{found['id']}/cancel", json={})
    assert taken.json()["state"] == "cancelled"
    again = await client.post(f"/v1/flag-requests/{found['id']}/cancel", json={})
    assert again.status_code == 409
    assert (await client.get("/v1/flag-requests/1")).status_code == 404
