"""Several people at once: a post arrives, a report is judged, a member is shut out."""

from datetime import timedelta

import pytest
from browser_site import NO_CHROMIUM, Site, Visit, visiting
from playwright.async_api import Browser, Page, expect

from millrace.community.types import NewPost, parse_key

pytestmark = [
    pytest.mark.browser,
    pytest.mark.services,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM)),
]


async def written(site: Site, author: str, title: str) -> str:
    """Let somebody write a post; return its key."""
    post = await site.program.posts.write(
        site.viewer(author), NewPost(text="As said.", title=title)
    )
    return str(post.key)


async def report(page: Page, said: str) -> None:
    """Report what the page shows, by its menu."""
    await page.locator("article.card .menu summary").first.click()
    await page.get_by_role("link", name="Report this post").click()
    dialog = page.get_by_role("dialog", name="Report this post")
    await dialog.get_by_label("Advertising or spam").check()
    await dialog.get_by_label("What should a moderator know?").fill(said)
    await dialog.get_by_role("button", name="Report", exact=True).click()
    await expect(page.get_by_text("Reported. You will not see this post again.")).to_be_visible()


async def decide(page: Page, case: str, move: str, reason: str) -> None:
    """Judge a case in the queue."""
    card = page.locator("article.case", has_text=case)
    await card.get_by_text("Judge").click()
    await card.get_by_label("Your reason").fill(reason)
    await card.get_by_role("button", name=move, exact=True).click()


async def test_a_post_reaches_an_open_feed_without_a_reload(browser: Browser, site: Site):
    """It waits behind a button that says so, politely; nothing moves until somebody asks."""
    async with visiting(browser, site) as reader, visiting(browser, site) as writer:
        async with reader.page.expect_request("**/events?since=*"):
            await reader.sign_in("nora")
        page, top = reader.page, reader.page.locator("[data-feed] article").first
        before = await top.get_attribute("id")
        await writer.sign_in("tom")
        await writer.page.get_by_label("Your post").fill("The sluice opens at noon.")
        await writer.page.get_by_role("button", name="Post", exact=True).click()
        await expect(writer.page.get_by_text("Your post is out.")).to_be_visible()

        waits = page.get_by_role("button", name="1 newer post is waiting")
        await expect(waits).to_be_visible()
        assert await top.get_attribute("id") == before
        said = page.locator("[data-newer-said]")
        await expect(said).to_have_text("1 newer post is waiting")
        assert await said.get_attribute("aria-live") == "polite"
        await page.keyboard.press(".")
        await expect(top).to_contain_text("The sluice opens at noon.")
        await expect(top).to_be_focused()
        await expect(waits).to_be_hidden()
        assert reader.complaints == writer.complaints == []
        assert reader.strangers() == []


LOOKED_AT = """hidden => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_tab_that_nobody_looks_at_holds_no_connection(browser: Browser, site: Site):
    """A browser has six to a server; the tab hears of what it missed when it is looked at again."""
    async with visiting(browser, site) as reader:
        page = reader.page
        async with page.expect_request("**/events?since=*"):
            await reader.sign_in("nora")
        async with page.expect_event("requestfailed", lambda one: "/events?since=" in one.url):
            await page.evaluate(LOOKED_AT, True)
        await written(site, "tom", "While you were away")
        async with page.expect_request("**/events?since=*"):
            await page.evaluate(LOOKED_AT, False)
        await expect(page.get_by_role("button", name="1 newer post is waiting")).to_be_visible()


async def test_a_reported_post_is_removed_for_everybody(browser: Browser, site: Site):
    """Reported by one, seen in the queue by the moderator, gone for all, written in the trail."""
    key = await written(site, "tom", "Buy my watches")
    async with visiting(browser, site) as member, visiting(browser, site) as keeper:
        await member.sign_in("nora", f"/posts/{key}")
        await report(member.page, "He sells them <b>everywhere</b>")
        page = keeper.page
        await keeper.sign_in("mod", "/moderation")
        case = page.locator("article.case", has_text="Buy my watches")
        await expect(case).to_contain_text("1 report")
        await expect(case).to_contain_text("Advertising or spam")
        await expect(case).to_contain_text("No earlier case")
        await decide(page, "Buy my watches", "Remove", "No shops here")
        await expect(page.get_by_role("status").get_by_text("Removed.")).to_be_visible()
        await expect(case).to_have_count(0)
        await page.get_by_role("link", name="Audit trail").first.click()
        line = page.locator("table.trail tbody tr").first
        await expect(line).to_contain_text("Removed")
        await expect(line).to_contain_text("Tom O'Neill")
        await expect(line).to_contain_text("No shops here")
        await line.get_by_role("link", name="case").click()
        await expect(page.get_by_text("He sells them <b>everywhere</b>")).to_be_visible()
        await member.open(f"/posts/{key}")
        await expect(member.page.get_by_role("heading", level=1)).to_have_text(
            "There is nothing here"
        )
        assert keeper.complaints == []


async def test_a_hidden_post_is_the_authors_alone_until_it_is_restored(
    browser: Browser, site: Site
):
    """The author reads why; others find nothing; restored, it is there again."""
    key = await written(site, "zoe", "The mayor is a heron")
    async with visiting(browser, site) as keeper, visiting(browser, site) as author:
        await keeper.sign_in("mod", f"/moderation/post/{key}")
        await keeper.page.get_by_label("Your reason").fill("Insults <i>herons</i>")
        await keeper.page.get_by_role("button", name="Hide", exact=True).click()
        await expect(keeper.page.get_by_text("Hidden.", exact=True)).to_be_visible()
        await author.sign_in("zoe", f"/posts/{key}")
        note = author.page.get_by_role("note")
        await expect(note).to_contain_text("Hidden by a moderator. Insults <i>herons</i>")
        await author.open("/notices")
        await expect(author.page.locator(".notices li").first).to_contain_text("Insults")
        assert "Mona" not in await author.page.locator("main").inner_text()
        await author.sign_in("nora", f"/posts/{key}")
        await expect(author.page.get_by_role("heading", level=1)).to_have_text(
            "There is nothing here"
        )
        await keeper.page.get_by_label("Your reason").fill("Herons do not mind")
        await keeper.page.get_by_role("button", name="Restore", exact=True).click()
        await expect(keeper.page.get_by_text("Restored.", exact=True)).to_be_visible()
        await author.open(f"/posts/{key}")
        await expect(author.page.get_by_role("heading", level=1)).to_have_text(
            "The mayor is a heron"
        )


async def test_a_banned_member_is_shut_out_and_told_why(browser: Browser, site: Site):
    """The session ends with the reason; their page is gone; lifting the ban brings both back."""
    otto = site.members["otto"]
    async with visiting(browser, site) as banned, visiting(browser, site) as keeper:
        await banned.sign_in("otto")
        await keeper.sign_in("mod", f"/members/{otto}")
        await keeper.page.locator(".profile .menu summary").click()
        await keeper.page.get_by_role("link", name="Judge Otto Lang").click()
        await keeper.page.get_by_role("button", name="Ban", exact=True).click()
        assert keeper.page.url.endswith(f"/moderation/member/{otto}"), "a ban needs a reason"
        await keeper.page.get_by_label("Your reason").fill("Threw ducks")
        await keeper.page.get_by_role("button", name="Ban", exact=True).click()
        await expect(keeper.page.get_by_text("Banned.", exact=True)).to_be_visible()
        await banned.open("/")
        await expect(banned.page).to_have_title("Sign in · Millrace")
        await expect(banned.page.get_by_role("alert")).to_contain_text("Threw ducks")
        await keeper.page.get_by_label("Your reason").fill("The ducks forgave")
        await keeper.page.get_by_role("button", name="Lift the ban", exact=True).click()
        await expect(keeper.page.get_by_text("Ban lifted.", exact=True)).to_be_visible()
        await banned.open("/")
        await expect(banned.page).to_have_title("Your feed · Millrace")


async def test_a_comment_appears_in_a_thread_that_is_open(browser: Browser, site: Site):
    """The other member's comment comes by itself, as its stream tells; what one types stays.

    The page's clock stands still, so that no timer of the page has a part in it.
    """
    async with visiting(browser, site) as visit:
        page, key = visit.page, await written(site, "tom", "Who has a ladder?")
        await page.clock.install()
        await page.clock.pause_at(site.program.clock.now() + timedelta(seconds=1))
        await visit.sign_in("nora", f"/posts/{key}")
        await page.get_by_label("Your comment").fill("I think")
        answer = "Ask <b>Priya</b>"
        await site.program.threads.comment(site.viewer("zoe"), parse_key(key), answer, None)

        await expect(page.locator(".remark .prose")).to_have_text("Ask <b>Priya</b>")
        await expect(page.get_by_role("heading", name="1 comment")).to_be_visible()
        await expect(page.get_by_label("Your comment")).to_have_value("I think")


async def test_a_thread_is_looked_at_without_a_stream_too(browser: Browser, site: Site):
    """Where no stream comes through, the page asks now and then."""
    async with visiting(browser, site) as visit:
        page, key = visit.page, await written(site, "tom", "Who has a saw?")
        await page.route("**/events?*", lambda route: route.abort())
        await page.clock.install()
        await visit.sign_in("nora", f"/posts/{key}")
        await site.program.threads.comment(site.viewer("zoe"), parse_key(key), "Me", None)
        await page.clock.fast_forward(9000)

        await expect(page.locator(".remark .prose")).to_have_text("Me")
        visit.complaints.clear()  # the browser notes on its console that the stream was refused


async def test_members_see_nothing_of_moderation(visit: Visit):
    """Neither the entry nor the page: the gate decides, the bar only follows."""
    await visit.sign_in("nora")
    await expect(visit.page.get_by_role("link", name="Moderation")).to_have_count(0)
    answer = await visit.page.request.get(visit.site.address + "/moderation")
    assert answer.status == 403
    answer = await visit.page.request.get(visit.site.address + "/operator")
    assert answer.status == 403


async def test_a_comment_is_reported_and_judged_without_scripts(browser: Browser, site: Site):
    """Every step is a link or a form; what is judged is shown, also where nobody reported it."""
    key = await written(site, "tom", "Who has seen my hat?")
    await site.program.threads.comment(site.viewer("zoe"), parse_key(key), "The <b>hat</b>", None)
    plain = {"java_script_enabled": False}
    async with (
        visiting(browser, site, **plain) as member,
        visiting(browser, site, **plain) as keeper,
    ):
        await member.sign_in("nora", f"/posts/{key}")
        await member.page.get_by_role("link", name="Report the comment by Zoe Marsh").click()
        await member.page.get_by_label("Does not belong here").check()
        await member.page.get_by_role("button", name="Report", exact=True).click()
        await expect(member.page.get_by_role("heading", level=1)).to_have_text("Reported")
        await keeper.sign_in("mod", f"/posts/{key}")
        await keeper.page.get_by_role("link", name="Judge the comment by Zoe Marsh").click()
        await expect(keeper.page.locator(".case-thing .prose")).to_have_text("The <b>hat</b>")
        await keeper.page.get_by_label("Your reason").fill("Off the topic")
        await keeper.page.get_by_role("button", name="Hide", exact=True).click()
        await expect(keeper.page.get_by_text("Hidden.", exact=True)).to_be_visible()
        await expect(keeper.page.locator(".case-thing .prose")).to_have_text("The <b>hat</b>")
        await member.open(f"/posts/{key}")
        await expect(member.page.get_by_text("No comments yet.")).to_be_visible()
