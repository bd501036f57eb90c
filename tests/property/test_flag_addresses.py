"""Goal: every flag that there can be is reached by its key: whatever is written can be killed."""

from urllib.parse import quote

import pytest
import pytest_asyncio
from httpx import AsyncClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from millrace.api.inventory import Inventory
from millrace.api.serve import serving
from millrace.api.testing import town
from millrace.release.flags import check
from millrace.release.flags.types import KEY_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")
SWITCH = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
WHY = "for the test"
SEGMENTS = sorted({
    segment
    for rule in Inventory()
    if rule.path.startswith(("/v1/flags", "/flags"))
    for segment in rule.path.split("/")[2:]
})  # fmt: skip
WORDS = sorted({"document", "import", "flags", "new", "openapi.json", "..", *SEGMENTS})
ODD = st.text(
    st.sampled_from(" ./%\\?#&;:+=~@!$'\"<>{}[]|^`*,-_éü漢💡\u202e\x7f\n2Fa0"), max_size=12
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
SOUND = st.sampled_from(WORDS) | st.from_regex(check.KEY, fullmatch=True).map(
    lambda key: key[:KEY_MAX]
)
ANY = st.lists(ODD | TEXT | st.sampled_from(WORDS), max_size=6, unique=True)
WIDELY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server, tmp_path_factory):
    """A town."""
    async with town(server.copy(), str(tmp_path_factory.mktemp("town"))) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(place):
    """A release manager's client, behind a real server: the way of an address counts."""
    async with serving(place.app, "127.0.0.1", 0) as address, AsyncClient(base_url=address) as made:
        made.headers.update(place.bearer("manager"))
        yield made


def with_words(test):
    """Try every word of a route in any case."""
    for word in WORDS:
        test = example(key=word)(test)
    return test


async def reached(client, key):
    """Show, kill and remove a flag; nothing else may answer for it."""
    path = f"/v1/flags/{quote(key, safe='')}"
    shown = await client.get(path)
    assert (shown.status_code, shown.json().get("key")) == (200, key), shown.text
    assert shown.json()["definition"] == SWITCH
    killed = await client.post(f"{path}/kill", json={"reason": WHY})
    assert killed.json()["flag"]["state"] == "DISABLED"
    asked = await client.post(
        f"/ofrep/v1/evaluate/flags/{quote(key, safe='')}", json={"context": {}}
    )
    assert (asked.json()["key"], asked.json()["reason"]) == (key, "DISABLED")
    headers = {"if-match": killed.headers["etag"]}
    gone = await client.delete(path, params={"reason": WHY}, headers=headers)
    assert (gone.status_code, gone.json()["flag"]) == (200, None)
    assert (await client.get(path)).json()["code"] == "not_found"


@WIDELY
@with_words
@given(key=SOUND)
async def test_what_a_check_accepts_is_reached(client, key):
    """A key that the check takes can be written, shown, killed and removed, words of routes too."""
    path = f"/v1/flags/{quote(key, safe='')}"
    checked = await client.post(f"{path}/check", json={"definition": SWITCH})
    if checked.status_code != 200 or not checked.json()["sound"]:
        assert check.problems(key, SWITCH, {}), "the key is sound, and its address is not"
        return
    made = await client.put(path, json={"definition": SWITCH, "reason": WHY})
    assert (made.status_code, made.json()["flag"]["key"]) == (200, key), made.text
    await reached(client, key)


@WIDELY
@given(keys=ANY)
async def test_what_an_import_takes_is_reached(client, keys):
    """Another evaluator takes any key; what comes in here can be killed, the rest is left out."""
    body = {"document": {"flags": dict.fromkeys(keys, SWITCH)}, "reason": WHY}
    told = (await client.post("/v1/flag-document", json=body)).json()
    assert sorted([*told["created"], *told["left_out"]]) == sorted(keys)
    for key in told["left_out"]:
        assert not key.strip() or key[0] == "$" or check.problems(key, SWITCH, {})
    for key in told["created"]:
        await reached(client, key)
