"""The pages in a real browser: what a member does, and what goes wrong."""

from datetime import timedelta

import pytest
from browser_site import (
    EVIL_NAME,
    EVIL_TEXT,
    EVIL_TITLE,
    NO_CHROMIUM,
    Site,
    Visit,
    until,
    visiting,
)
from playwright.async_api import Browser, expect

from millrace.community.types import Role

pytestmark = [
    pytest.mark.browser,
    pytest.mark.services,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM)),
]
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}


async def test_a_visitor_signs_in_by_a_click_and_out(visit: Visit):
    """The way in keeps where one wanted to go; the way out ends the session everywhere."""
    page = visit.page
    wanted = f"/posts/{visit.site.posts['p3']}"
    await visit.open(wanted)
    await expect(page).to_have_title("Sign in · Millrace")
    await page.get_by_label("Find a member").fill("jonas bread")
    await expect(page.locator(".people li:visible")).to_have_count(1)
    await page.get_by_role("button", name="Jonas Brandt").click()

    await expect(page).to_have_url(visit.site.address + wanted)
    session = next(c for c in await page.context.cookies() if c["name"] == "millrace_session")
    assert (session["httpOnly"], session["sameSite"]) == (True, "Lax")

    await visit.sign_out()
    await expect(page).to_have_title("Sign in · Millrace")
    answer = await page.request.get(
        visit.site.address + "/v1/me", headers={"authorization": f"Bearer {session['value']}"}
    )
    assert answer.status == 401
    await visit.open("/")
    await expect(page).to_have_title("Sign in · Millrace")


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example"])
async def test_signing_in_never_leads_away(visit: Visit, target: str):
    """An address of another host in `next` leads to the feed."""
    await visit.open(f"/sign-in?next={target}")
    await visit.page.locator("button.person").first.click()

    await expect(visit.page).to_have_url(visit.site.address + "/")


async def test_a_wrong_token_is_refused_with_the_reason(browser: Browser, site: Site):
    """The form says why, and what to do; nothing is signed in."""
    async with visiting(browser, site) as visit:
        await visit.open("/sign-in")
        await visit.page.get_by_text("Sign in with a token").click()
        await visit.page.get_by_label("Access token").fill("not.a.token")
        await visit.page.get_by_role("button", name="Sign in", exact=True).click()

        await expect(visit.page.get_by_role("alert")).to_contain_text("token")
        assert not [c for c in await visit.page.context.cookies() if "session" in c["name"]]


async def test_an_operator_sees_every_post_and_the_full_trace(visit: Visit):
    """With a token; why asks for the member and then shows everything."""
    made = await visit.site.program.identity.create_operator("otto", Role.OPERATOR)
    page = visit.page
    await visit.open("/sign-in")
    await page.get_by_text("Sign in with a token").click()
    await page.get_by_label("Access token").fill(made.token)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await expect(page.get_by_text("You are an operator")).to_be_visible()
    await page.get_by_role("link", name="Why this?").nth(3).click()
    await page.get_by_label("Member id").fill(str(visit.site.members["ada"]))
    await page.get_by_role("button", name="Explain").click()

    await expect(page.get_by_role("heading", name="The full trace")).to_be_visible()
    await expect(page.get_by_role("table").first).to_be_visible()


async def test_the_feed_has_cards_with_reasons(visit: Visit):
    """Every card names author, community, time and kind, and says why it is there."""
    await visit.sign_in()
    cards = visit.page.locator("[data-feed] article")

    await expect(cards.first.get_by_role("link", name="Why this?")).to_be_visible()
    for card in await cards.all():
        assert (await card.locator(".reason > span").inner_text()).strip()
        assert "Mill Lane" in await card.locator(".meta").inner_text()
        assert "T" in (await card.locator("time").get_attribute("datetime") or "")
        assert await card.get_attribute("data-served")
    positions = [int(await c.get_attribute("data-position") or -1) for c in await cards.all()]
    assert positions == sorted(set(positions))


async def test_a_like_counts_and_stays(visit: Visit):
    """The button turns, the count moves, a reload shows the same, and again backwards."""
    await visit.sign_in("zoe", f"/posts/{visit.site.posts['p1']}")
    button = visit.card("p1").locator('[data-do="like"]')
    for on, count in ((True, "1"), (False, "")):
        async with visit.page.expect_response("**/reactions/like"):
            await button.click()
        await visit.page.reload()
        await expect(button).to_have_attribute("aria-pressed", str(on).lower())
        await expect(button.locator(".count")).to_have_text(count)


async def test_a_refused_like_is_taken_back_and_told(browser: Browser, site: Site):
    """What the server did not take is not shown as done."""
    async with visiting(browser, site) as visit:
        await visit.sign_in("zoe", f"/posts/{site.posts['p2']}")
        await visit.page.route(
            "**/reactions/like",
            lambda route: route.fulfill(
                status=503,
                content_type="application/problem+json",
                body='{"detail": "the database does not answer", "next_step": "try again"}',
            ),
        )
        button = visit.card("p2").locator('[data-do="like"]')
        await button.click()

        await expect(visit.page.locator(".toast.bad")).to_contain_text(
            "The database does not answer"
        )
        await expect(button).to_have_attribute("aria-pressed", "false")
        await expect(button.locator(".count")).to_have_text("")


async def test_an_ended_session_is_told_with_the_way_back(browser: Browser, site: Site):
    """A click after the session ended offers to sign in and to come back."""
    async with visiting(browser, site) as visit:
        path = f"/posts/{site.posts['p4']}"
        await visit.sign_in("zoe", path)
        await visit.page.context.clear_cookies()
        await visit.card("p4").locator('[data-do="like"]').click()

        link = visit.page.locator(".toast.bad").get_by_role("link", name="Sign in")
        await expect(link).to_have_attribute("href", f"/sign-in?next={path.replace('/', '%2F')}")


async def test_a_comment_and_an_answer(visit: Visit):
    """Both appear in the thread, the answer under what it answers; the count follows."""
    page = visit.page
    await visit.sign_in("zoe", f"/posts/{visit.site.posts['p5']}")
    await page.get_by_label("Your comment").fill("First line\n<b>second</b> line")
    await page.keyboard.press("Control+Enter")
    await expect(page.get_by_text("Your comment is out.")).to_be_visible()
    await expect(page.locator(".remark .prose")).to_have_text("First line<b>second</b> line")
    await page.get_by_role("link", name="Answer").click()
    await expect(page.get_by_text("Answering Zoe Marsh")).to_be_visible()
    await page.get_by_label("Your comment").fill("An answer")
    await page.get_by_role("button", name="Send").click()

    await expect(page.locator(".remark.depth-1")).to_contain_text("An answer")
    await expect(page.get_by_role("heading", name="2 comments")).to_be_visible()


async def test_following_turns_every_card_of_the_author(visit: Visit):
    """One click, all cards of the page, and the next page too."""
    await visit.sign_in("tom")
    author = str(visit.site.members["jonas"])
    buttons = visit.page.locator(f'[data-author="{author}"] [data-do="follow"]')
    assert await buttons.count() > 1
    async with visit.page.expect_response("**/follows/*"):
        await buttons.first.click()
    for button in await buttons.all():
        await expect(button).to_have_attribute("aria-pressed", "true")
    await visit.open(f"/posts/{visit.site.posts['long']}")

    await expect(visit.page.locator('[data-do="follow"]')).to_have_attribute("aria-pressed", "true")


async def test_hiding_can_be_undone_and_then_lasts(visit: Visit):
    """Undo brings the card back and sends nothing; without undo the post stays away."""
    page, zoe = visit.page, visit.site.members["zoe"]
    await page.clock.install()
    await visit.sign_in("zoe")
    card = page.locator("[data-feed] article:not([data-own])").nth(2)
    key = await card.get_attribute("data-post")
    await card.get_by_role("button", name="See less").click()
    await expect(page.get_by_text("You will see less like this.")).to_be_visible()
    await page.keyboard.press("Enter")  # the focus is on Undo
    await expect(page.get_by_text("You will see less like this.")).to_have_count(0)
    assert not await visit.site.program.activity.hidden_posts(zoe)
    await card.get_by_role("button", name="See less").click()
    async with page.expect_response("**/v1/engagements"):
        await page.clock.fast_forward(6100)
    assert {str(post) for post in await visit.site.program.activity.hidden_posts(zoe)} == {key}
    await page.reload()

    await expect(page.locator(f"#post-{key}")).to_have_count(0)


async def test_leaving_the_page_sends_what_was_hidden(visit: Visit):
    """A hide that still could be undone is sent when the page is left."""
    await visit.sign_in("priya")
    await (
        visit.page.locator("[data-feed] article")
        .nth(1)
        .get_by_role("button", name="See less")
        .click()
    )
    await visit.open("/sign-in?find=x")
    activity, priya = visit.site.program.activity, visit.site.members["priya"]

    async def hidden() -> bool:
        return len(await activity.hidden_posts(priya)) == 1

    await until(hidden, visit.page)


async def test_sharing_copies_the_address_and_counts(browser: Browser, site: Site):
    """The link of the post lies in the clipboard."""
    async with visiting(browser, site, **CLIPBOARD) as visit:
        path = f"/posts/{site.posts['p7']}"
        await visit.sign_in("zoe", path)
        async with visit.page.expect_response("**/v1/engagements"):
            await visit.page.get_by_role("button", name="Share").click()
        assert await visit.page.evaluate("navigator.clipboard.readText()") == site.address + path
        await visit.page.reload()

        await expect(visit.page.locator('[data-do="share"] .count')).to_have_text("1")
        assert visit.complaints == []


async def test_why_opens_and_closes_by_keyboard(visit: Visit):
    """w explains the current card, Escape returns to it."""
    page = visit.page
    await visit.sign_in()
    await page.keyboard.press("j")
    await page.keyboard.press("w")
    dialog = page.get_by_role("dialog", name="Why this post?")
    await expect(dialog.locator(".why-sentence")).not_to_be_empty()
    assert await dialog.evaluate("node => node.contains(document.activeElement)")
    await page.keyboard.press("Escape")

    await expect(dialog).to_be_hidden()
    assert await page.evaluate("!!document.activeElement.closest('article')")


async def test_a_written_post_is_there_at_once(visit: Visit):
    """On top of the feed, and at its own address."""
    page = visit.page
    await visit.sign_in("tom")
    form = page.locator("#compose")
    await page.keyboard.press("n")
    await page.keyboard.type("The weir is closed today.\nUse the bridge.")
    await page.get_by_text("Title, link and topics").click()
    await form.get_by_label("Title").fill("Weir closed")
    await form.get_by_label("Topics").fill("weir, #bridge")
    await form.get_by_label("Kind").select_option("alert")
    await form.get_by_label("Who may see it").select_option("public")
    await page.get_by_label("Your post").press("Control+Enter")
    first = page.locator("[data-feed] article").first

    await expect(page.get_by_text("Your post is out.")).to_be_visible()
    await expect(first.get_by_role("heading")).to_have_text("Weir closed")
    await expect(first.locator(".topics li")).to_have_text(["weir", "bridge"])
    await expect(page.get_by_label("Your post")).to_have_value("")
    await first.get_by_role("link", name="Weir closed").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Weir closed")


async def test_a_refused_post_keeps_its_text_and_says_why(browser: Browser, site: Site):
    """A link that is none is named, and nothing that was typed is lost."""
    async with visiting(browser, site) as visit:
        await visit.sign_in("tom")
        page, form = visit.page, visit.page.locator("#compose")
        await page.get_by_label("Your post").fill("Look at this")
        await page.get_by_text("Title, link and topics").click()
        await form.get_by_role("textbox", name="Link").fill("javascript:alert(1)")
        await page.get_by_role("button", name="Post", exact=True).click()

        await expect(page.get_by_role("alert")).to_contain_text("ink")
        await expect(page.get_by_label("Your post")).to_have_value("Look at this")
        await expect(form.get_by_role("textbox", name="Link")).to_have_attribute(
            "aria-invalid", "true"
        )


async def test_more_pages_neither_repeat_nor_lose(visit: Visit):
    """Reading on to the end shows every post once, and the divider at most once."""
    page = visit.page
    await visit.sign_in("zoe")
    await visit.read_to_end()
    keys = await page.locator("[data-feed] article").evaluate_all(
        "cards => cards.map(card => card.dataset.post)"
    )

    await expect(page.locator("[data-more]")).to_have_count(0)
    assert len(keys) == len(set(keys))
    assert len(keys) > 20
    assert await page.locator("[data-caught-up]").count() <= 1


async def test_hostile_text_stays_text(visit: Visit):
    """Names, titles and texts are shown as written; nothing in them runs."""
    key = visit.site.posts["evil"]
    await visit.sign_in("ada", f"/posts/{key}")
    card = visit.card("evil")

    await expect(card.get_by_role("heading")).to_have_text(EVIL_TITLE)
    await expect(card.locator(".author strong")).to_have_text(EVIL_NAME)
    assert await card.locator(".prose").inner_text() == EVIL_TEXT
    await visit.open(f"/why/{key}")
    await visit.open("/sign-in?find=%22%3E%3Cscript%3Ewindow.pwned=6%3C/script%3E")
    await visit.open("/")
    assert await visit.page.evaluate("typeof window.pwned") == "undefined"
    links = await visit.page.locator(".prose a, .outlink").evaluate_all(
        "links => links.map(link => [link.protocol, link.rel])"
    )
    assert all(protocol == "https:" and "noopener" in rel for protocol, rel in links)


async def test_what_was_seen_is_reported_once_with_its_place(visit: Visit):
    """A card in view for a second is an impression; for eight, a long dwell."""
    page, ada = visit.page, visit.site.members["ada"]
    await page.clock.install()
    await visit.sign_in("ada")
    card = page.locator("[data-feed] article").first
    async with page.expect_request("**/v1/impressions") as first:
        await page.clock.run_for(3500)
    sent = (await first.value).post_data_json["items"]
    async with page.expect_request("**/v1/engagements") as second:
        await page.clock.run_for(10_000)
    dwelled = (await second.value).post_data_json["items"]

    key = await card.get_attribute("data-post")
    item = next(item for item in sent if item["post_id"] == key)
    assert str(item["position"]) == await card.get_attribute("data-position")
    assert item["served_feed_id"] == await card.get_attribute("data-served")
    assert {i["kind"] for i in dwelled} == {"long_dwell"}
    since = visit.site.program.clock.now() - timedelta(hours=1)

    async def stored() -> bool:
        seen = await visit.site.program.activity.seen(ada, since)
        return {i["post_id"] for i in sent} <= {str(post) for post in seen}

    await until(stored, page)


async def test_being_offline_is_said(browser: Browser, site: Site):
    """The banner comes and goes with the connection."""
    async with visiting(browser, site) as visit:
        await visit.sign_in("ada")
        banner = visit.page.get_by_text("You are offline.")
        await visit.page.context.set_offline(True)
        await expect(banner).to_be_visible()
        await visit.page.context.set_offline(False)
        await expect(banner).to_be_hidden()


async def test_a_missing_post_is_told_as_a_page(browser: Browser, site: Site):
    """People get a page, with the way back."""
    async with visiting(browser, site) as visit:
        await visit.sign_in("ada")
        await visit.open("/posts/1-9")
        await expect(visit.page.get_by_role("heading", level=1)).to_have_text(
            "There is nothing here"
        )
        await visit.page.get_by_role("link", name="Go to the start page").click()
        await expect(visit.page).to_have_title("Your feed · Millrace")
