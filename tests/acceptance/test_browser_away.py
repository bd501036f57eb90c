"""The menu of a card: turning an author away, reporting a post, and taking it back."""

import pytest
from browser_site import NO_CHROMIUM, Site, Visit, until, visiting
from playwright.async_api import Browser, Page, expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.services,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM)),
]


async def open_menu(page: Page, site: Site, author: str):
    """Open the menu of the first card of an author; return the author's cards."""
    cards = page.locator(f'[data-feed] [data-author="{site.members[author]}"]')
    await cards.first.locator(".menu summary").click()
    return cards


async def test_muting_takes_every_card_of_the_author_and_comes_back(visit: Visit):
    """One click, no question; Undo brings all of them back and nothing stays muted."""
    page, site, ada = visit.page, visit.site, visit.site.members["ada"]
    await visit.sign_in("ada")
    cards = await open_menu(page, site, "jonas")
    before = await cards.count()
    assert before > 1
    await cards.first.get_by_role("button", name="Mute Jonas Brandt").click()
    await expect(page.get_by_text("You muted Jonas Brandt.")).to_be_visible()
    for card in (await cards.all())[1:]:
        await expect(card).to_be_hidden()
    assert site.members["jonas"] in (await site.program.relations.of(ada)).mutes
    await page.keyboard.press("Enter")  # the focus is on Undo
    await expect(page.get_by_text("You muted Jonas Brandt.")).to_have_count(0)
    for card in await cards.all():
        await expect(card).to_be_visible()

    assert site.members["jonas"] not in (await site.program.relations.of(ada)).mutes


async def test_blocking_asks_first_and_can_be_taken_back_later(visit: Visit):
    """Cancel changes nothing; after a block the list of a menu, days later, still undoes it."""
    page, site, zoe = visit.page, visit.site, visit.site.members["zoe"]
    await visit.sign_in("zoe")
    cards = await open_menu(page, site, "tom")
    await cards.first.get_by_role("button", name="Block Tom O'Neill").click()
    dialog = page.get_by_role("dialog", name="Block Tom O'Neill?")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_be_hidden()
    await expect(cards.first.locator(".menu summary")).to_be_focused()
    assert not (await site.program.relations.of(zoe)).blocks
    await open_menu(page, site, "tom")
    await cards.first.get_by_role("button", name="Block Tom O'Neill").click()
    await dialog.get_by_role("button", name="Block", exact=True).click()
    await expect(page.get_by_text("You blocked Tom O'Neill.")).to_be_visible()
    await page.reload()
    await expect(cards).to_have_count(0)
    await page.locator(".card .menu summary").first.click()
    await page.get_by_role("button", name="Whom you muted or blocked").first.click()
    away = page.get_by_role("dialog", name="Whom you muted or blocked")
    await away.get_by_role("button", name="Unblock Tom O'Neill").click()
    await expect(away.get_by_text("Tom O'Neill is no longer blocked.")).to_be_visible()

    assert not (await site.program.relations.of(zoe)).blocks


async def test_reporting_asks_why_and_takes_the_post_away(visit: Visit):
    """A report is an engagement that a ranker and a moderator can count."""
    page, site, jonas = visit.page, visit.site, visit.site.members["jonas"]
    await visit.sign_in("jonas", f"/posts/{site.posts['evil']}")
    await page.locator(".card .menu summary").click()
    await page.get_by_role("link", name="Report this post").click()
    dialog = page.get_by_role("dialog", name="Report this post")
    await dialog.get_by_role("button", name="Report", exact=True).click()
    await expect(dialog).to_be_visible()  # without a reason it does not go
    await dialog.get_by_label("Advertising or spam").check()
    await dialog.get_by_role("button", name="Report", exact=True).click()
    await expect(page.get_by_text("Reported. You will not see this post again.")).to_be_visible()

    async def reported() -> bool:
        return site.posts["evil"] in await site.program.activity.hidden_posts(jonas)

    await until(reported, page)


async def test_a_menu_opens_and_closes_by_keyboard(visit: Visit):
    """m opens it, Escape closes it and returns to its button, leaving it closes it too."""
    page = visit.page
    await visit.sign_in("tom", f"/posts/{visit.site.posts['long']}")
    menu = visit.card("long").locator(".menu")
    await page.keyboard.press("m")
    await expect(menu.get_by_role("button", name="Mute Jonas Brandt")).to_be_visible()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Escape")
    await expect(menu.get_by_role("button", name="Mute Jonas Brandt")).to_be_hidden()
    await page.keyboard.press("m")
    await page.get_by_role("heading", level=1).click()

    await expect(menu.get_by_role("button", name="Mute Jonas Brandt")).to_be_hidden()


async def test_a_refused_block_is_told_and_hides_nothing(browser: Browser, site: Site):
    """What the server did not take is not shown as done."""
    async with visiting(browser, site) as visit:
        page = visit.page
        await visit.sign_in("priya", f"/posts/{site.posts['evil']}")
        await page.route("**/v1/engagements", lambda route: route.abort())
        await page.locator(".card .menu summary").click()
        await page.get_by_role("button", name="Mute").first.click()

        await expect(page.locator(".toast.bad")).to_contain_text("Nobody was muted")
        await expect(visit.card("evil").locator(".prose")).to_be_visible()
