"""Profile, people, communities, search and the operator's page in a real browser."""

import pytest
from browser_site import EVIL_NAME, NO_CHROMIUM, Site, Visit, visiting
from playwright.async_api import Browser, expect

from millrace.community.types import NewPost, Role

pytestmark = [
    pytest.mark.browser,
    pytest.mark.services,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM)),
]
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
HOSTILE = '"><img src=x onerror=window.pwned=8> </textarea><script>window.pwned=9</script> {{7*7}}'


async def test_a_profile_is_edited_and_read_by_others(browser: Browser, site: Site):
    """Every field comes back as it was typed, also what looks like markup."""
    async with visiting(browser, site) as visit:
        page = visit.page
        await visit.sign_in("nora")
        await page.locator(".profile-menu summary").click()
        await page.get_by_role("link", name="Edit your profile").click()
        await page.get_by_label("Headline").fill(HOSTILE)
        await page.get_by_label("About you").fill(f"Line one\n{HOSTILE}")
        await page.get_by_label("Skills").fill("rowing, <u>knots</u>")
        await page.get_by_label("Languages you read").fill("English, German")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved.")).to_be_visible()
        await visit.sign_in("zoe", f"/members/{site.members['nora']}")

        await expect(page.locator(".profile-headline")).to_have_text(HOSTILE)
        await expect(page.locator(".about .prose")).to_contain_text(HOSTILE)
        await expect(page.locator(".tags li")).to_have_text(["rowing", "<u>knots</u>"])
        await expect(page.get_by_text("English, German")).to_be_visible()
        assert await page.evaluate("typeof window.pwned") == "undefined"
        assert visit.complaints == []


async def test_a_refused_profile_says_so_at_its_field(browser: Browser, site: Site):
    """The field is marked, has the focus, and nothing that was typed is lost."""
    async with visiting(browser, site) as visit:
        page = visit.page
        await visit.sign_in("priya", "/profile")
        await page.get_by_label("Headline").fill("Kept as it is")
        await page.get_by_label("Languages you read").fill("Klingonese gibberish")
        await page.get_by_role("button", name="Save").click()
        field = page.get_by_label("Languages you read")

        await expect(page.get_by_role("alert")).to_contain_text("language")
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_be_focused()
        await expect(page.get_by_label("Headline")).to_have_value("Kept as it is")


async def test_following_from_a_profile_counts(visit: Visit):
    """The button turns, and the member's page says so at the next look."""
    page, site = visit.page, visit.site
    await visit.sign_in("otto", f"/members/{site.members['priya']}")
    async with page.expect_response("**/follows/*"):
        await page.get_by_role("button", name="Follow Priya Natarajan", exact=True).first.click()
    await page.reload()
    button = page.get_by_role("button", name="Following Priya Natarajan").first
    await expect(button).to_have_attribute("aria-pressed", "true")


async def test_communities_say_who_they_are(visit: Visit):
    """The list, one's own with its people and moderators, a neighbour with what one may see."""
    page = visit.page
    await visit.sign_in("nora")
    await page.get_by_role("link", name="Communities").click()
    await page.get_by_role("link", name="Mill Lane").first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Mill Lane")
    await expect(page.get_by_role("heading", name="Moderators")).to_be_visible()
    await expect(page.get_by_role("link", name="Mona Keeper")).to_be_visible()
    await expect(page.locator("[data-feed] article").first).to_be_visible()
    await page.get_by_role("link", name="Members", exact=True).click()
    await expect(page.locator(".people .person")).to_have_count(9)
    await page.get_by_role("link", name="Zoe Marsh").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Zoe Marsh")


async def test_search_finds_marks_and_escapes(visit: Visit):
    """Posts with what matched, people, communities; a hostile search stays text."""
    page = visit.page
    await visit.sign_in("nora")
    await page.keyboard.press("/")
    await page.keyboard.type("boats")
    await page.keyboard.press("Enter")
    await expect(page.locator(".hit").first.locator("mark").first).to_have_text("boats")
    await visit.open("/search?q=nothingofthatkind")
    await expect(page.get_by_text("Nothing found")).to_be_visible()
    await page.get_by_role("link", name="People", exact=True).click()
    await page.get_by_label("What are you looking for?").fill("jonas")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="Jonas Brandt")).to_be_visible()
    await visit.open("/search?q=weir&by=communities")
    await expect(page.locator("main").get_by_role("link", name="Weir Side")).to_be_visible()
    text = f"The mallet lies <script>window.pwned=11</script> {HOSTILE} here"
    await visit.site.program.posts.write(visit.site.viewer("tom"), NewPost(text=text))
    await visit.open("/search?q=mallet <script>window.pwned=10</script>")
    await visit.open("/search?q=%22%3E%3Cimg src=x onerror=window.pwned=12%3E")
    await visit.open("/search?q=mallet")
    await expect(page.locator(".hit mark")).to_have_text("mallet")
    await expect(page.locator(".hit-text")).to_contain_text("window.pwned=11")
    assert await page.locator(".hit-text > :not(mark)").count() == 0
    assert await page.evaluate("typeof window.pwned") == "undefined"
    refused = await page.request.get(visit.site.address + "/search?q=((( %26 ' | !")
    assert (refused.status, "for some" in await refused.text()) == (422, True)


async def test_search_pages_neither_repeat_nor_lose(visit: Visit):
    """More results follow those of the page before."""
    page = visit.page
    await visit.sign_in("nora", "/search?q=something")
    addresses = []
    for _ in range(5):
        found = page.locator(".hit-link")
        addresses += await found.evaluate_all("links => links.map(link => link.pathname)")
        more = page.get_by_role("link", name="More results")
        if not await more.count():
            break
        await more.click()

    assert len(addresses) > 20
    assert len(addresses) == len(set(addresses))


async def test_the_composer_says_who_will_see_it(visit: Visit):
    """Each audience names its communities; the post goes out as chosen, and can be changed."""
    page = visit.page
    await visit.sign_in("tom", "/compose")
    await expect(page.get_by_text("Also members of Weir Side.")).to_be_visible()
    await page.get_by_label("Question").check()
    await page.get_by_label("Title").fill("Wer hat eine Leiter?")
    await page.get_by_label("Your post").fill("Für den Apfelbaum.")
    await page.get_by_label("Language").select_option("de")
    await page.get_by_role("radio", name="This community and those near it").check()
    await page.get_by_role("button", name="Post", exact=True).click()
    await expect(page.get_by_text("Your post is out.")).to_be_visible()
    card = page.locator("[data-feed] article").first
    await expect(card.locator(".card-body")).to_have_attribute("lang", "de")
    await card.locator(".menu summary").click()
    await card.get_by_role("link", name="Edit").click()
    await expect(page.get_by_label("Question")).to_be_checked()
    await page.get_by_label("Title").fill("Leiter gefunden")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Leiter gefunden")
    await expect(page.get_by_text("edited")).to_be_visible()
    await page.locator("article .menu summary").click()
    await page.get_by_role("link", name="Remove").click()
    await page.get_by_role("button", name="Remove the post").click()
    await expect(page.get_by_text("Your post is removed.")).to_be_visible()


async def test_a_draft_of_every_field_is_kept_in_this_tab(visit: Visit):
    """What was half written is there again, and gone once the server has it."""
    page = visit.page
    await visit.sign_in("zoe", "/compose")
    await page.get_by_label("Title").fill("Half a title")
    await page.get_by_label("Your post").fill("Half a text")
    await visit.open("/communities")
    await visit.open("/compose")
    await expect(page.get_by_label("Title")).to_have_value("Half a title")
    await page.get_by_role("button", name="Post", exact=True).click()
    await expect(page.get_by_text("Your post is out.")).to_be_visible()
    await visit.open("/compose")
    await expect(page.get_by_label("Title")).to_have_value("")


async def test_names_and_topics_are_never_markup(visit: Visit):
    """The member whose name is a script has a page, a queue entry and search results."""
    page, site = visit.page, visit.site
    await visit.sign_in("nora", f"/members/{site.members['evil']}")
    await expect(page.get_by_role("heading", level=1)).to_have_text(EVIL_NAME)
    for path in ("/search?q=window&by=members", f"/report/member/{site.members['evil']}",
                 f"/communities/{site.members['evil'].community_id}/members"):  # fmt: skip
        await visit.open(path)
    assert await page.evaluate("typeof window.pwned") == "undefined"


async def test_the_operator_sees_how_it_runs(browser: Browser, site: Site):
    """Figures have units, pictures have words, and they refresh themselves."""
    made = await site.program.identity.create_operator("petra", Role.OPERATOR)
    async with visiting(browser, site) as visit:
        page = visit.page
        cookie = {"name": "millrace_session", "value": made.token, "url": site.address}
        await page.context.add_cookies([cookie])
        await page.clock.install()
        await visit.open("/operator")
        for title in ("How a feed is made", "The river", "Found by meaning", "Caches", "Sizes"):
            await expect(page.get_by_role("heading", name=title)).to_be_visible()
        await expect(page.locator(".stage").first).to_contain_text("Know the member")
        await expect(page.locator(".stage-time").first).to_contain_text("ms")
        assert "posts" in (await page.locator(".ring").get_attribute("aria-label") or "")
        for width in (320, 390, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate(WIDER) <= 0, width
        async with page.expect_response("**/operator") as again:
            await page.clock.fast_forward(6000)
        assert (await again.value).request.headers["x-fragment"] == "1"
        assert visit.complaints == []
