"""What the pages of flags show in full, and what a refused press gives back: all that was typed."""

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import psycopg
import pytest
import pytest_asyncio
from httpx import AsyncClient, Response
from page_visit import OWN, RATE, enter

from millrace.api.testing import SETTLER, Town, town
from millrace.community.types import MemberDraft
from millrace.release.flags.types import Actor, ChangeRequest, FlagConfig, Terms
from millrace.settings import DoorConfig
from millrace.store.testing import TestServer

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="module")]
OPS = Actor("operator:ops")
FULL = 50  # requests on a page


def flag(**members: object) -> str:
    """Return a definition: half of the members have it, unless it says otherwise."""
    usual = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": {"fractional": [["on", 50], ["off", 50]]},
    }
    return json.dumps(usual | members)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    server: TestServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """A town with a flag, where every flag is old."""
    folder = tmp_path_factory.mktemp("flags")
    door, config = DoorConfig(rates=RATE), FlagConfig(stale_days=0)
    async with town(server.copy(), str(folder), door=door, flags=config) as made:
        flags = made.program.flags
        await flags.put("base", flag(), version=0, actor=OPS, reason="made")
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def manager(place: Town) -> AsyncIterator[AsyncClient]:
    """A release manager's visit."""
    async with place.client() as client:
        await enter(client, {"token": place.tokens["manager"]})
        yield client


async def asked(place: Town, many: int) -> list[ChangeRequest]:
    """Ask for changes of a flag that wait for a day; return them, the newest last."""
    terms = Terms(due_at=place.program.clock.now() + timedelta(days=1))
    content = flag(defaultVariant="on")
    made: list[ChangeRequest] = []
    for number in range(many):
        one = await place.program.flags.put(
            "base", content, version=1, actor=OPS, reason=f"number {number}", terms=terms
        )
        assert isinstance(one, ChangeRequest)
        made.append(one)
    return made


async def send(client: AsyncClient, path: str, **fields: str) -> Response:
    """Send a form, and stay where the answer is."""
    return await client.post(path, data=fields, headers=OWN, follow_redirects=False)


def ids_on(page: str) -> list[int]:
    """Return which requests a page shows, in order."""
    return [int(part.split('"')[0]) for part in page.split('id="request-')[1:] if part[0] != "t"]


async def test_every_request_is_counted_and_can_be_reached(place: Town, manager: AsyncClient):
    """Of more than one page, the newest come first; those that are settled hide none, nor are hidden."""
    settled = await asked(place, 2)
    for one in settled:
        await place.program.flags.cancel(one.id, OPS)
    made = await asked(place, 2 * FULL + 5)
    wanted = [one.id for one in reversed(made)]
    first = (await manager.get("/flag-requests", headers=OWN)).text
    found, text = ids_on(first), first
    while "Older requests" in text:
        text = (await manager.get(f"/flag-requests?before={found[-1]}", headers=OWN)).text
        found += ids_on(text)
    done = (await manager.get("/flag-requests?show=done", headers=OWN)).text
    here = (await manager.get("/flags/base", headers=OWN)).text
    oldest = f"/flag-requests?before={wanted[-1] + 1}"
    refused = await send(
        manager, f"/flag-requests/{wanted[-1]}", do="reject", before=str(wanted[-1] + 1)
    )

    assert f'class="tab-count">{len(made)}<' in first
    assert found == wanted
    assert ids_on(done) == [one.id for one in reversed(settled)]
    assert f"{oldest}#request-{wanted[-1]}" in here
    assert ids_on(refused.text) == [wanted[-1]]
    for one in made:
        await place.program.flags.cancel(one.id, OPS)
    assert len(ids_on((await manager.get("/flag-requests?show=done", headers=OWN)).text)) == FULL


async def test_a_refused_rule_of_a_ring_stays_as_it_was_typed(place: Town, manager: AsyncClient):
    """Its attribute, its values, its percentage and its reason; the rule that stands is said above."""
    page = "/rings/server/beta"
    typed = {"attribute": "platform", "values": "ios, android", "percentage": "101", "reason": "x1"}
    wrong = await send(manager, page, do="rule", version="0", **typed)
    old = await send(manager, page, do="rule", version="7", **(typed | {"percentage": "3"}))
    saved = await send(manager, page, do="rule", version="0", **(typed | {"percentage": "3"}))
    entry = await send(manager, page, do="add", member="nobody-at-all", reason="y1")

    assert (wrong.status_code, old.status_code, saved.status_code) == (422, 422, 303)
    for answer, percentage in ((wrong, "101"), (old, "3")):
        for part in ("platform", "ios, android", percentage, "x1"):
            assert f'value="{part}"' in answer.text
    assert 'value="nobody-at-all"' in entry.text
    assert 'value="ios, android"' in entry.text


async def test_a_refused_press_fills_in_its_own_form_alone(place: Town, manager: AsyncClient):
    """What was typed at a ramp stands there again, a reason where it was given, and that form is open."""
    flags = place.program.flags
    await flags.put("turned", flag(), version=0, actor=OPS, reason="made")
    await flags.ramp("turned", "on", 60, version=1, actor=OPS, reason="more")
    ramp = {"variant": "off", "percentage": "130", "do": "preview", "version": "2"}
    ramped = (await send(manager, "/flags/turned/ramp", **ramp)).text
    late = {"variant": "off", "percentage": "30", "do": "save", "version": "9", "reason": "my ramp"}
    clashed = (await send(manager, "/flags/turned/ramp", **late)).text
    removed = (await send(manager, "/flags/turned/remove", version="9", reason="my word")).text
    reverted = await send(
        manager, "/flags/turned/revert", version="9", to="1", do="save", reason="z1"
    )
    silent = await send(manager, "/flags/turned/revert", version="2", to="1", do="save", reason="")

    for page, percentage in ((ramped, "130"), (clashed, "30")):
        assert '<option value="off" selected>' in page
        assert f'name="percentage" inputmode="decimal" value="{percentage}"' in page
    assert clashed.count('value="my ramp"') == 1
    assert removed.count('value="my word"') == 1
    assert removed.index('value="my word"') > removed.index("danger-zone")
    assert 'danger-zone" open' in removed
    assert reverted.text.count('value="z1"') == 1
    assert "Reason is empty." in silent.text
    assert "Revert turned to version 1" in silent.text


async def test_a_flag_says_on_its_own_page_what_depends_on_it(place: Town, manager: AsyncClient):
    """As the list does: whoever removed it first would break the other."""
    flags = place.program.flags
    everybody = flag(targeting={}, defaultVariant="on")
    await flags.put("needed", everybody, version=0, actor=OPS, reason="made")
    asks = {"if": [{"millrace_flag": ["needed", "on"]}, "on", None]}
    await flags.put("asking", flag(targeting=asks), version=0, actor=OPS, reason="made")
    listed = (await manager.get("/flags?q=needed", headers=OWN)).text
    here = (await manager.get("/flags/needed", headers=OWN)).text

    for page in (listed, here):
        assert "change asking, which depend" in page


async def test_a_ring_names_its_own_members_and_counts_the_rest(place: Town, manager: AsyncClient):
    """However many are in the other rings of its track."""
    harbour, many = place.communities["harbour"], 505
    drafts = [MemberDraft(external_id=f"many-{n}", display_name=f"Many {n}") for n in range(many)]
    made = (await place.program.members.upsert(SETTLER, harbour, drafts)).ids
    last = max(made.values())
    put = (
        "insert into ring_entry (community_id, member_id, track, ring, choice, actor, chosen_at) "
        "select %s, unnest(%s::bigint[]), 'ios', %s, 'listed', 'test', now()"
    )
    async with await psycopg.AsyncConnection.connect(place.program.settings.store.primary) as one:
        await one.execute(put, (harbour, list(made.values()), "employees"))
        await one.execute(put, (harbour, [last], "beta"))
    page = (await manager.get("/rings?track=ios", headers=OWN)).text
    employees, beta = (page.split(f'id="ring-{ring}"')[1] for ring in ("employees", "beta"))

    assert "And 405 more by name." in employees
    assert f"{harbour}-{last}" in beta


async def test_a_page_behind_the_last_flag_is_no_empty_list(manager: AsyncClient):
    """It leads back to the first one."""
    page = (await manager.get("/flags?after=zzzz", headers=OWN)).text

    assert "No flags yet" not in page
    assert "No flags behind that one" in page


async def test_headings_skip_no_level(place: Town, manager: AsyncClient):
    """Who goes from heading to heading misses none."""
    await asked(place, 1)
    for path in ("/flags?count=1", "/flags/base", "/flag-requests", "/rings"):
        page = (await manager.get(path, headers=OWN)).text
        levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]

        assert levels[0] == 1, path
        for before, after in pairwise(levels):
            assert after <= before + 1, (path, levels)
