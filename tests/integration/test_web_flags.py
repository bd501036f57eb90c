"""The pages of flags and rings behind the gate, without a browser: sound, and nothing typed is lost."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from httpx import AsyncClient
from page_visit import OWN, RATE, Balance, enter

from millrace.api.testing import Town, town
from millrace.release.flags.types import Actor, Choice, Ring, RingEntry, Terms, Wait
from millrace.settings import DoorConfig
from millrace.store.testing import TestServer

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="module")]
EVIL = '<b>x</b>"><script>'
OPS = Actor("operator:ops")
PAGES = (
    "/flags", "/flags?count=1", "/flags?q=zzz", "/flags?show=stale&owner=none", "/flag-new", "/flags/shown",
    "/flags/shown?member={ada}", "/flags/shown?member=nobody", "/flags/shown/edit", "/flags/odd", "/flags/odd/edit",
    "/flags/dead", "/flags/gone", "/flag-requests", "/flag-requests?show=done", "/rings", "/rings?track=ios",
    "/rings?member={ada}", "/rings?member=nobody",
)  # fmt: skip


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
async def place(server: TestServer, tmp_path_factory) -> AsyncIterator[Town]:
    """A town with flags of every kind, requests, and somebody in a ring."""
    folder = tmp_path_factory.mktemp("flags")
    async with town(server.copy(), str(folder), door=DoorConfig(rates=RATE)) as made:
        flags, ada = made.program.flags, made.members["ada"]
        evil = flag(metadata={"description": EVIL}, variants={"on": EVIL, "off": "no"})
        await flags.put("shown", evil, version=0, actor=OPS, reason=EVIL, terms=Terms(owner=EVIL))
        odd = flag(targeting={"if": [{"==": [{"var": "zip"}, 7]}, "on", None]})
        await flags.put("odd", odd, version=0, actor=OPS, reason="by hand")
        for key in ("dead", "gone"):
            await flags.put(key, flag(), version=0, actor=OPS, reason="made")
        await flags.kill("dead", actor=OPS, reason=EVIL)
        await flags.remove("gone", version=1, actor=OPS, reason="not needed")
        later = Terms(wait=Wait(track="ios", version="2.0.0", share=0.5, country="DE"))
        other = flag(defaultVariant="on")
        await flags.put("odd", other, version=1, actor=OPS, reason=EVIL, terms=later)
        cancelled = await flags.put("odd", other, version=1, actor=OPS, reason="no", terms=later)
        await flags.cancel(cancelled.id, OPS)
        entry = RingEntry(track="server", ring=Ring.ALPHA, member=ada, choice=Choice.LISTED,
                          actor=OPS.name, at=made.program.clock.now())  # fmt: skip
        await flags.ring_put(entry, reason="for the test")
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def manager(place: Town) -> AsyncIterator[AsyncClient]:
    """A release manager's visit."""
    async with place.client() as client:
        await enter(client, {"token": place.tokens["manager"]})
        yield client


async def send(client: AsyncClient, path: str, **fields: str):
    """Send a form, and stay where the answer is."""
    return await client.post(path, data=fields, headers=OWN, follow_redirects=False)


async def test_pages_are_well_formed_and_text_stays_text(place: Town, manager: AsyncClient):
    """Every element is closed, no id stands twice, and nothing that somebody wrote is markup."""
    for path in PAGES:
        answer = await manager.get(path.format(ada=place.members["ada"]), headers=OWN)
        balance = Balance()
        balance.feed(answer.text)

        assert answer.status_code == (422 if path.startswith("/rings?member=nobody") else 200), path
        assert (balance.faults, balance.open) == ([], []), path
        assert EVIL not in answer.text, path


async def test_a_program_is_shown_no_page(place: Town):
    """A flag reader's token signs nobody in, and as a session that somebody made it opens nothing."""
    token = place.tokens["reader"]
    async with place.client() as client:
        refused = await send(client, "/sign-in", token=token)
        client.cookies.set("millrace_session", token)
        begun = await client.get("/", headers=OWN)

    assert refused.status_code == 422
    assert "flag reader is a program" in refused.text
    assert "set-cookie" not in refused.headers
    assert begun.status_code == 403
    assert "sea" not in begun.text, "no post is shown"


async def test_a_release_manager_is_shown_what_is_theirs(place: Town, manager: AsyncClient):
    """They begin at the flags, and are not offered a feed that they may not open."""
    begun = await manager.get("/", headers=OWN)

    assert begun.url.path == "/flags"
    assert 'href="/communities"' not in begun.text
    assert "Release manager" in begun.text
    async with place.client() as client:
        await enter(client, {"token": place.tokens["ada"]})
        refused = await client.get("/flags", headers=OWN)
    assert refused.status_code == 403
    assert "A member may not do this" in refused.text
    assert "an operator or a release manager" in refused.text


async def test_what_is_wrong_is_said_with_its_place(manager: AsyncClient):
    """An unknown operator, weights that do not add up: with pointers, and the text as it was typed."""
    typed = flag(targeting={"if": [{"inn": [1]}, {"fractional": [["on", 40], ["off", 50]]}]})
    answer = await send(manager, "/flags/odd/edit", do="preview", mode="json", version="1",
                        content=typed, reason="kept")  # fmt: skip

    assert answer.status_code == 422
    assert "<code>/targeting/if/0/inn</code> there is no operator" in answer.text
    assert "/targeting/if/1/fractional</code> the weights add up to 90" in answer.text
    assert "&#34;inn&#34;" in answer.text
    assert 'name="reason" value="kept"' in answer.text


@pytest.mark.parametrize("verb", ["kill", "remove", "revert"])
async def test_nothing_is_done_without_a_reason(place: Town, manager: AsyncClient, verb: str):
    """The page says so, and the flag is as it was."""
    answer = await send(manager, f"/flags/shown/{verb}", version="1", to="1", do="save")

    assert answer.status_code == 422
    assert "Reason is empty." in answer.text
    assert (await place.program.flags.get("shown")).version == 1


async def test_a_press_on_an_old_page_is_refused_with_what_is_now(
    place: Town, manager: AsyncClient
):
    """Removing, and saving past the preview, name both versions; a kill works from any page."""
    flags = place.program.flags
    await flags.put("moved", flag(), version=0, actor=OPS, reason="made")
    await flags.ramp("moved", "on", 60, version=1, actor=OPS, reason="meanwhile")
    removed = await send(manager, "/flags/moved/remove", version="1", reason="typed by me")
    saved = await send(manager, "/flags/moved/edit", do="save", mode="json", version="1",
                       content=flag(defaultVariant="on"), reason="typed too")  # fmt: skip
    killed = await send(manager, "/flags/moved/kill", version="1", reason="now")

    assert (removed.status_code, saved.status_code, killed.status_code) == (409, 409, 303)
    assert "made from version 1" in removed.text
    assert 'value="typed by me"' in removed.text
    assert "You began from version 1. It is at version 2 now." in saved.text
    assert 'value="typed too"' in saved.text
    assert (await flags.get("moved")).version == 3


async def test_a_removed_flag_comes_back_by_a_revert(place: Town, manager: AsyncClient):
    """Its page stays, shows why it went, and takes one press."""
    shown = await manager.get("/flags/gone", headers=OWN)
    back = await send(manager, "/flags/gone/revert", to="1", version="0", do="save", reason="again")

    assert "This flag was removed." in shown.text
    assert back.headers["location"] == "/flags/gone?done=reverted"
    assert (await place.program.flags.get("gone")).content == flag()
    assert (await manager.get("/flags/never", headers=OWN)).status_code == 404


async def test_a_change_for_later_waits_and_says_for_what(place: Town, manager: AsyncClient):
    """A day and a version: the flag is as it was, and the request names both."""
    flags = place.program.flags
    await flags.put("patient", flag(), version=0, actor=OPS, reason="made")
    asked = await send(
        manager, "/flags/patient/edit", do="save", mode="json", version="1", reason="soon",
        content=flag(defaultVariant="on"), due="2099-01-02T03:04", wait_track="android",
        wait_version="9.2.0", wait_share="80",
    )  # fmt: skip
    shown = await manager.get("/flag-requests", headers=OWN)

    assert asked.headers["location"].startswith("/flag-requests?done=asked#request-")
    assert "Not before 2 January 2099, 03:04 UTC." in shown.text
    assert "Not before 80 % of those active on android use version 9.2.0 or later." in shown.text
    assert (await flags.get("patient")).version == 1
    wrong = await send(manager, "/flags/patient/edit", do="save", mode="json", version="1",
                       content=flag(), reason="soon", due="tomorrow")  # fmt: skip
    assert wrong.status_code == 422
    assert "&#39;tomorrow&#39; is not a time" in wrong.text
    assert 'value="tomorrow"' in wrong.text


async def test_what_flags_share_is_changed_as_json_and_has_no_switch(
    place: Town, manager: AsyncClient
):
    """Its page, its preview and its history are there; a kill would only spoil it."""
    path, content = "/flags/%24evaluators", '{"near": {"==": [{"var": "ring"}, "beta"]}}'
    fields = {"mode": "json", "version": "0", "content": content, "reason": "to refer to"}
    empty = await manager.get(path, headers=OWN)
    previewed = await send(manager, f"{path}/edit", do="preview", **fields)
    saved = await send(manager, f"{path}/edit", do="save", **fields)
    killed = await send(manager, f"{path}/kill", reason="by mistake")
    shown = await manager.get(path, headers=OWN)

    assert "There is nothing yet." in empty.text
    assert (previewed.status_code, saved.status_code, killed.status_code) == (200, 303, 422)
    assert "has no switch" in killed.text
    assert "to refer to" in shown.text
    assert (await place.program.flags.shared())["$evaluators"].content == content


async def test_a_rule_of_a_ring_is_written_over_nobody_elses(place: Town, manager: AsyncClient):
    """Two pages with one rule: the second is told, and what it typed stays."""
    fields = {"do": "rule", "version": "0", "percentage": "5", "reason": "five of a hundred"}
    first = await send(manager, "/rings/android/beta", **fields)
    second = await send(manager, "/rings/android/beta", **fields)
    shown = await manager.get("/rings?track=android", headers=OWN)

    assert (first.status_code, second.status_code) == (303, 422)
    assert "it has version 1" in second.text
    assert 'value="five of a hundred"' in second.text
    assert "5 % of all members." in shown.text


async def test_members_wish_for_themselves_and_only_what_is_offered(place: Town):
    """Beta is open, alpha is not; a wish is taken back; a listing is nobody's wish to take."""
    flags, ada = place.program.flags, place.members["ada"]
    async with place.client() as client:
        await enter(client, {"token": place.tokens["ada"]})
        listed = await client.get("/profile/early", headers=OWN)
        wish = {"track": "ios", "ring": "beta"}
        statuses = [
            (await send(client, "/profile/early", do="enter", **wish)).status_code,
            (await send(client, "/profile/early", do="forget", **wish)).status_code,
            (await send(client, "/profile/early", do="enter", track="ios", ring="alpha")).status_code,
            (await send(client, "/profile/early", do="leave", track="server", ring="alpha")).status_code,
            (await send(client, "/profile/early", do="dance", **wish)).status_code,
        ]  # fmt: skip

    assert "A release manager put you in" in listed.text
    assert statuses == [303, 303, 422, 422, 422]
    assert [(one.track, one.choice) for one in await flags.ring_entries_of(ada)] == [
        ("server", Choice.LISTED)
    ]
