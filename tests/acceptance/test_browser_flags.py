"""A release manager at work: making, ramping, killing and reverting a flag, and not alone at it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from browser_site import NO_CHROMIUM, Site, Visit, running_site, visiting
from playwright.async_api import Browser, Error, Locator, Page, Route, expect

from millrace.community.types import Role
from millrace.release.flags.types import Actor, Approval, Choice, FlagConfig, Ring, Terms

pytestmark = [
    pytest.mark.browser,
    pytest.mark.services,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM)),
]
OLGA = Actor("operator:olga")
HALF = (
    '{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", '
    '"targeting": {"fractional": [["on", 50], ["off", 50]]}}'
)
WIDER = "() => document.documentElement.scrollWidth - innerWidth"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def careful(server, tmp_path_factory) -> AsyncIterator[Site]:
    """A product where nobody changes a flag alone."""
    config = FlagConfig(approval=Approval.REQUIRED)
    async with running_site(server.copy(), tmp_path_factory.mktemp("careful"), config) as made:
        yield made


async def given(site: Site, key: str) -> dict[str, int]:
    """Return how many members of the site are given each variant."""
    flags = site.program.flags
    found = [flags.evaluate(key, flags.context_of(key_)).variant for key_ in site.members.values()]
    return {variant: found.count(variant) for variant in set(found)}


async def row(page: Page, variant: str) -> list[str]:
    """Return a line of the preview: now, added, dropped, then."""
    line = page.locator(".difference tr", has=page.get_by_role("rowheader", name=variant))
    return [text.strip() for text in await line.locator("td").all_inner_texts()]


async def sent_by_two_presses(page: Page, button: Locator) -> int:
    """Press a button, and again before the server has heard of it; return how often it was told."""
    sent, again = 0, asyncio.Event()

    async def held(route: Route) -> None:
        nonlocal sent
        if route.request.method == "POST":
            sent += 1
            await again.wait()
        with suppress(Error):  # a second press takes the place of the first
            await route.continue_()

    await button.scroll_into_view_if_needed()
    box = await button.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await page.route("**/*", held)
    await page.mouse.click(*middle)
    async with asyncio.timeout(20):
        while not sent:
            await asyncio.sleep(0.01)
    await page.mouse.click(*middle)
    for _ in range(20):  # a second one would have been sent by now: the first took a millisecond
        await asyncio.sleep(0.01)
    again.set()
    await page.wait_for_load_state()
    await page.unroute("**/*")
    return sent


async def test_a_flag_is_made_ramped_killed_and_reverted(visit: Visit):
    """Each step says beforehand whom it changes, and afterwards the product gives just that."""
    page, site = visit.page, visit.site
    await visit.sign_in_office(path="/")
    await expect(page).to_have_title("Flags · Millrace")  # who has no feed is sent to their work
    await page.get_by_role("link", name="New flag").first.click()
    await page.get_by_label("Key", exact=True).fill("story-rail")
    await page.get_by_label("on", exact=True).fill("0")
    await page.get_by_role("button", name="Preview").last.click()
    await expect(page.get_by_role("heading", name="Make story-rail")).to_be_visible()
    assert await row(page, "off") == ["0", "+9", "0", "9"]
    await page.get_by_label("Why").fill("Nobody yet")
    await page.get_by_role("button", name="Make").click()
    await expect(page.get_by_text("Made. Every server follows")).to_be_visible()
    assert await given(site, "story-rail") == {"off": 9}

    await page.get_by_label("to this share").fill("60")
    await page.get_by_role("button", name="Preview").click()
    now, added, _, then = await row(page, "on")
    await page.get_by_label("Why").fill("Nothing broke")
    await page.get_by_role("button", name="Ramp", exact=True).click()
    await expect(page.get_by_text("Saved.")).to_be_visible()
    ramped = await given(site, "story-rail")
    assert (now, added, then) == ("0", f"+{ramped['on']}", str(ramped["on"]))

    kill = page.get_by_role("region", name="Kill switch")
    await expect(kill).to_contain_text(f"{ramped['on']} get on")
    await kill.get_by_label("Why").fill("It burns")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Killed. Every server follows")).to_be_visible()
    assert await given(site, "story-rail") == {"": 9}
    killed = page.get_by_role("region", name="Killed")
    await expect(killed).to_contain_text("by operator rita: It burns")
    await expect(killed).to_contain_text(f"{ramped['on']} get on")

    await page.get_by_role("button", name="Revert to version 2").click()
    await expect(page.get_by_text("Reverted.")).to_be_visible()
    assert await given(site, "story-rail") == ramped
    history = page.locator(".history-line")
    await expect(history.first).to_contain_text("Version 4 Reverted")
    await expect(history.nth(1)).to_contain_text("Switched off: everybody gets the default")


async def test_who_comes_second_sees_both_changes_and_loses_nothing(visit: Visit):
    """A form that was opened before somebody else's change says so, and can go on top of it."""
    page, flags = visit.page, visit.site.program.flags
    await flags.put("contested", HALF, version=0, actor=OLGA, reason="made")
    await visit.sign_in_office(path="/flags/contested/edit")
    await flags.ramp("contested", "on", 55, version=1, actor=OLGA, reason="Olga was faster")
    await page.get_by_label("Owner").fill("rita")
    await page.get_by_label("Description").fill("Typed with care")
    await page.get_by_label("on", exact=True).fill("70")
    await page.get_by_label("off", exact=True).fill("30")
    visit.complaints.clear()
    await page.get_by_role("button", name="Preview").last.click()
    clash = page.get_by_role("alert")
    await expect(clash).to_contain_text("You began from version 1. It is at version 2 now.")
    await expect(clash).to_contain_text("Olga was faster")
    await expect(clash).to_contain_text("on for 55 % and off for 45 %")
    await expect(clash).to_contain_text("on for 70 % and off for 30 %")
    await expect(clash).to_contain_text("Owner: none becomes rita.")
    await expect(page.get_by_label("Description")).to_have_value("Typed with care")
    await expect(page.get_by_label("on", exact=True)).to_have_value("70")
    assert visit.complaints == [  # the browser's own words for the status 409
        "error: Failed to load resource: the server responded with a status of 409 (Conflict)"
    ]
    visit.complaints.clear()
    await page.get_by_role("button", name="Put mine over theirs").click()
    await expect(page.get_by_text("Rule 1 was: Everyone gets on for 55 %")).to_be_visible()
    await page.get_by_label("Why").fill("Mine after all")
    await page.get_by_role("button", name="Change it again").click()
    await expect(page.get_by_label("Description")).to_have_value("Typed with care")
    await page.get_by_role("button", name="Preview").last.click()
    await expect(page.get_by_label("Why")).to_have_value("Mine after all")
    assert await sent_by_two_presses(page, page.get_by_role("button", name="Save")) == 1
    await expect(page.get_by_text("Saved.")).to_be_visible()

    assert [one.reason for one in await flags.history("contested", 9, None)] == [
        "Mine after all", "Olga was faster", "made",
    ]  # fmt: skip


async def test_four_eyes_see_a_change_before_it_holds(browser: Browser, careful: Site):
    """Who proposes cannot approve; a rejection needs a word; a kill waits for nobody."""
    flags = careful.program.flags
    made = await flags.put("checked", HALF, version=0, actor=OLGA, reason="made")
    await flags.approve(made.id, Actor("operator:rita"))
    async with visiting(browser, careful) as rita, visiting(browser, careful) as olga:
        await rita.sign_in_office("rita", "/flags/checked")
        await rita.page.get_by_label("to this share").fill("100")
        await rita.page.get_by_role("button", name="Preview").click()
        await rita.page.get_by_label("Why").fill("All of them")
        await rita.page.get_by_role("button", name="Ask to ramp").click()
        await expect(rita.page.get_by_text("Asked.")).to_be_visible()
        await expect(rita.page.get_by_text("You proposed this")).to_be_visible()
        await expect(rita.page.get_by_role("button", name="Approve")).to_have_count(0)
        assert (await given(careful, "checked")).keys() == {"on", "off"}

        await olga.sign_in_office("olga", "/flag-requests", Role.OPERATOR)
        await olga.page.get_by_role("link", name="Whom it adds and drops").click()
        assert (await row(olga.page, "off"))[3] == "0"
        await olga.page.get_by_role("button", name="Reject").click()
        await expect(olga.page.get_by_text("A rejection needs a note.")).to_be_visible()
        await olga.page.get_by_role("button", name="Approve").click()
        await expect(olga.page.get_by_text("Approved, and made.")).to_be_visible()
        assert await given(careful, "checked") == {"on": 9}

        await rita.open("/flags/checked")
        await rita.page.get_by_label("Why").first.fill("At once")
        kill = rita.page.get_by_role("button", name="Kill checked")
        assert await sent_by_two_presses(rita.page, kill) == 1
        await expect(rita.page.get_by_text("Killed. Every server")).to_be_visible()
        assert await given(careful, "checked") == {"": 9}


async def test_everything_is_done_by_keyboard_and_without_scripts(browser: Browser, site: Site):
    """From the list to a killed flag with Tab and Enter alone; rules come and go by their buttons."""
    await site.program.flags.put("by-hand", HALF, version=0, actor=OLGA, reason="made")
    async with visiting(browser, site, java_script_enabled=False) as visit:
        page = visit.page
        await visit.sign_in_office(path="/flags?q=by-hand")
        await page.get_by_role("link", name="Count who gets each now").click()
        await expect(page.locator(".flag-table .crowd-counts").first).to_contain_text("on")
        await page.get_by_role("link", name="by-hand").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/flags/by-hand")
        await page.get_by_role("link", name="Edit", exact=True).click()
        await page.get_by_role("button", name="Another rule").click()
        await page.get_by_label("in these countries").nth(1).fill("Germany")
        await page.get_by_role("button", name="Move rule 2 up").click()
        await expect(page.get_by_label("in these countries").first).to_have_value("Germany")
        await page.get_by_role("button", name="Preview").last.click()
        await expect(page.get_by_role("alert")).to_contain_text("Rule 1: it gives nothing")
        await page.get_by_label("on", exact=True).first.fill("100")
        await page.get_by_role("button", name="Preview").last.click()
        await expect(page.get_by_role("alert")).to_contain_text(
            "'GERMANY' is none of the countries"
        )
        await page.get_by_label("in these countries").first.fill("de")
        await page.get_by_role("button", name="Edit as JSON").click()
        await expect(page.get_by_label("JSON", exact=True)).to_have_value(re.compile('"DE"'))
        await page.get_by_role("button", name="As rules").click()
        await expect(page.get_by_label("in these countries").first).to_have_value("DE")
        await page.get_by_role("link", name="Cancel").click()
        await page.locator("#main").focus()
        for _ in range(9):
            await page.keyboard.press("Tab")
            if await page.evaluate("() => document.activeElement.name") == "reason":
                break
        await page.keyboard.type("Found by Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Killed. Every server follows")).to_be_visible()

    assert await given(site, "by-hand") == {"": 9}


async def test_rings_take_members_in_by_name_and_say_why(visit: Visit):
    """Somebody is put in, counted, explained and taken out; their own wish is theirs to make."""
    page, site = visit.page, visit.site
    zoe = site.members["zoe"]
    await visit.sign_in_office(path="/rings?track=ios")
    alpha = page.locator("#ring-alpha")
    await alpha.get_by_text("Change who is in Alpha").click()
    await alpha.get_by_label("Put a member in").fill(str(zoe))
    await alpha.get_by_label("Why").first.fill("Asked for it")
    await alpha.get_by_role("button", name="Put in").click()
    await expect(page.get_by_text("Put in.")).to_be_visible()
    await expect(alpha.locator(".ring-entries")).to_contain_text("Zoe Marsh")
    await expect(page.locator(".ring-counts li").nth(1)).to_contain_text("1 11.1 %")
    await page.get_by_label("Member", exact=True).fill(str(zoe))
    await page.keyboard.press("Enter")
    await expect(page.locator(".why-sentence")).to_contain_text("Zoe Marsh (")
    await expect(page.locator(".why-sentence")).to_contain_text("is in ring alpha of ios")
    await alpha.get_by_role("button", name="Take Zoe Marsh out of Alpha").click()
    await expect(page.get_by_text("Taken out.")).to_be_visible()
    await expect(alpha.locator(".ring-entries")).to_have_count(0)
    await visit.sign_in("zoe", "/profile")
    await page.get_by_role("link", name="What you get early").click()
    await page.get_by_role("button", name="Join Beta, The app for Android").click()
    await expect(page.get_by_text("You are in.")).to_be_visible()

    [entry] = await site.program.flags.ring_entries_of(zoe)
    assert (entry.track, entry.ring, entry.choice) == ("android", Ring.BETA, Choice.OPTED_IN)


async def test_the_pages_fit_every_screen(visit: Visit):
    """Nothing sticks out to the side, from a small phone to a desk, however long a key is."""
    page, key = visit.page, "wide-" + "x" * 70
    await visit.site.program.flags.put(key, HALF, version=0, actor=OLGA, reason="w" * 300)
    await visit.sign_in_office("olga", "/flags", Role.OPERATOR)
    for path in ("/flags", f"/flags/{key}", f"/flags/{key}/edit", "/rings", "/flag-requests"):
        await visit.open(path)
        for width in (320, 900, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate(WIDER) <= 0, (path, width)


async def test_long_names_push_nothing_out_of_the_list(visit: Visit):
    """Whatever people call a flag and its owner, and say of it, every column can be read."""
    page, flags = visit.page, visit.site.program.flags
    text = HALF[:-1] + ', "metadata": {"description": "' + "It goes on and on. " * 40 + '"}}'
    await flags.put(
        "k" * 100, text, version=0, actor=OLGA, reason="long", terms=Terms(owner="an-owner-" * 8)
    )
    await visit.sign_in_office(path="/flags?q=kkkkk")
    hidden = "() => { const box = document.querySelector('.trail-scroll');"
    for width in (1280, 390):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(hidden + " return box.scrollWidth - box.clientWidth; }") <= 0
        described = page.locator(".flag-table .flag-about")
        await expect(described).to_be_visible()  # after a resize it has no box for a moment
        about = await described.bounding_box()
        assert about is not None
        assert about["height"] < 90
