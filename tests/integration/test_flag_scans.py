"""Goal: where code was searched for flags and does not name one, everybody is told; else nobody."""

from datetime import timedelta

import psycopg
import pytest
import pytest_asyncio

from millrace.api.testing import town
from millrace.release.flags.scans import REPOSITORIES_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")
SWITCH = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
WHY = "for the test"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town; each test has flags and repositories of its own, and leaves no repository."""
    async with town(server.copy(), str(tmp_path_factory.mktemp("town"))) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(place):
    """A release manager's client."""
    async with place.client() as made:
        made.headers.update(place.bearer("manager"))
        yield made
        for scan in (await made.get("/v1/flag-scans")).json()["items"]:
            await made.delete(f"/v1/flag-scans/{scan['repository']}")


async def make(client, *keys):
    """Write flags."""
    for key in keys:
        made = await client.put(f"/v1/flags/{key}", json={"definition": SWITCH, "reason": WHY})
        assert made.status_code == 200


async def send(place, client, repository, ago=timedelta(), **places):
    """Send a scan that was made some time ago, of flags by their keys with _ for -."""
    at = (place.program.clock.now() - ago).isoformat()
    named = {key.replace("_", "-"): count for key, count in places.items()}
    body = {"scanned_at": at, "files": 12, "places": named}
    return await client.put(f"/v1/flag-scans/{repository}", json=body)


async def unnamed(place, key):
    """Return the sentence that says that no code names a flag; empty for none. Whatever its age."""
    found = await place.program.flags.findings(0)
    said = [one.evidence for one in found if (one.key, one.kind) == (key, "unreferenced")]
    return said[0] if said else ""


async def test_only_what_every_repository_lacks_is_in_no_code(place, client):
    """No scan: nothing is said. One that names it, or one that never looked: nothing either."""
    await make(client, "lonely", "used")
    assert await unnamed(place, "lonely") == ""
    sent = (await send(place, client, "web", lonely=0, used=3, gone=0)).json()
    assert (sent["files"], sent["flags"], sent["unnamed"]) == (12, 2, 1), "unknown keys stay out"
    assert sent["by"] == "operator:rita"
    assert await unnamed(place, "used") == ""
    evidence = await unnamed(place, "lonely")
    assert "no reference in code since the scan of web on" in evidence
    assert "just now" in evidence

    await send(place, client, "app", lonely=1)
    assert await unnamed(place, "lonely") == "", "the app names it"
    await send(place, client, "app", timedelta(seconds=-1), lonely=0, used=0)
    assert "of those of 2 repositories" in await unnamed(place, "lonely")
    await make(client, "young")
    await send(place, client, "web", timedelta(seconds=-2), young=0, lonely=0)
    assert await unnamed(place, "young") == "", "the app was searched before there was the flag"
    assert (await client.delete("/v1/flag-scans/app")).status_code == 204
    assert await unnamed(place, "young") != ""
    assert (await client.delete("/v1/flag-scans/app")).status_code == 404

    headers = {"if-match": '"1"'}
    await send(place, client, "api", lonely=0)
    await send(place, client, "web", timedelta(seconds=-3), lonely=0)
    assert await unnamed(place, "lonely") != ""
    await client.delete("/v1/flags/lonely", params={"reason": WHY}, headers=headers)
    assert await unnamed(place, "lonely") == ""
    await make(client, "lonely")
    assert await unnamed(place, "lonely") == "", "the scans are of another flag of this name"


async def test_the_newest_scan_stays_and_the_same_again_changes_nothing(place, client):
    """Searches may end in another order than they began; a repetition leaves no trace."""
    await make(client, "kept")
    minute = timedelta(minutes=1)
    newest = (await send(place, client, "shop", minute, kept=2)).json()
    late = (await send(place, client, "shop", 2 * minute, kept=0)).json()
    assert late == newest
    at = {"scanned_at": newest["scanned_at"], "files": 12, "places": {"kept": 2}}
    assert (await client.put("/v1/flag-scans/shop", json=at)).json() == newest
    assert (await client.get("/v1/flag-scans")).json()["items"] == [newest]

    await send(place, client, "shop", kept=5)  # it is named as before
    await send(place, client, "shop", -minute, kept=0)
    await client.delete("/v1/flag-scans/shop")
    trail = (await client.get("/v1/flags/$scan:shop/history")).json()["items"]
    assert [(one["move"], one["after"]) for one in trail] == [
        ("remove", None), ("put", {"unnamed": ["kept"]}), ("put", {"unnamed": []}),
    ]  # fmt: skip


async def test_a_scan_is_bounded_and_takes_a_release_manager(place, client):
    """Names, times and counts have bounds; nobody else sends one or reads them."""
    for form in ({"files": -1}, {"places": {"x": -1}}, {"scanned_at": "2026-01-01T00:00:00"}):
        body = {"scanned_at": "2026-01-01T00:00:00Z", "files": 1, "places": {}} | form
        assert (await client.put("/v1/flag-scans/web", json=body)).status_code in {400, 422}
    assert (await send(place, client, "web", timedelta(hours=-1))).status_code == 422
    for name in ("-web", "a b", "x" * 101, "$web"):
        assert (await send(place, client, name)).status_code == 422
    for n in range(REPOSITORIES_MAX):
        assert (await send(place, client, f"r{n}")).status_code == 200
    assert (await send(place, client, "one-more")).status_code == 422
    assert (await send(place, client, "r0", timedelta(seconds=-1))).status_code == 200
    ada = place.bearer("ada")
    assert (await client.get("/v1/flag-scans", headers=ada)).status_code == 403
    assert (await client.get("/v1/flag-findings", headers=ada)).status_code == 403


async def test_pages_and_lists_say_how_old_the_scan_is(place, client):
    """The list of findings goes page by page; the pages of flags say the same, with the age."""
    await make(client, "shown-a", "shown-b", "shown-c")
    with psycopg.connect(place.program.settings.store.primary, autocommit=True) as db:
        # As if time had passed; the database refuses a change that its trail does not name.
        db.execute("set session_replication_role = replica")
        db.execute(
            "update flag set created_at = created_at - interval '60 days' where key ^@ 'shown'"
        )
    silent = await client.get("/flags/shown-a")
    assert "reference in code" not in silent.text
    await send(place, client, "web", timedelta(days=3), shown_a=0, shown_b=2, shown_c=0)

    found, cursor = [], ""
    while True:
        params = {"cursor": cursor, "limit": 2, "days": 45}
        answer = (await client.get("/v1/flag-findings", params=params)).json()
        found += [(one["key"], one["kind"]) for one in answer["items"]]
        cursor = answer["next_cursor"]
        if not cursor:
            break
    kinds = ("not_evaluated", "unreferenced")
    assert found == [
        *(("shown-a", kind) for kind in kinds), ("shown-b", kinds[0]),
        *(("shown-c", kind) for kind in kinds),
    ]  # fmt: skip

    alone = (await client.get("/flags/shown-a")).text
    assert "No reference in code since the scan of web" in alone
    assert "3 days ago" in alone
    assert (
        "In 2 places of the code (scanned 3 days ago)" in (await client.get("/flags/shown-b")).text
    )
    listed = (await client.get("/flags?show=stale")).text
    assert "web, 12 files searched 3 days ago, sent by" in listed
    assert listed.count("not in code") == 2
