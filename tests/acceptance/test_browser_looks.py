"""The pages for everybody: dark, on a phone, by keyboard, without scripts, by ear."""

import itertools

import pytest
from browser_site import NO_CHROMIUM, Site, Visit, until, visiting
from playwright.async_api import Browser, Page, expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.services,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM)),
]
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
NAMED = {"button", "link", "textbox", "searchbox", "combobox", "checkbox", "dialog", "article"}
SMALL = """() => [...document.querySelectorAll('button, .act, .button, select, input')]
    .filter(node => node.checkVisibility() && node.type !== 'hidden')
    .map(node => [node.outerHTML.slice(0, 80), node.getBoundingClientRect()])
    .filter(([, box]) => box.width > 1 && (box.width < 24 || box.height < 24))
    .map(([text]) => text)"""
LUMINANCE = """(selector) => {
    const node = document.querySelector(selector);
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    canvas.fillStyle = getComputedStyle(node).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data[0];
}"""


def paths(site: Site) -> list[str]:
    """Return one address of each kind of page that a member or a moderator sees."""
    posts, evil = site.posts, site.members["evil"]
    return [
        "/", f"/posts/{posts['long']}", f"/posts/{posts['evil']}", f"/why/{posts['p1']}",
        f"/members/{evil}", f"/communities/{evil.community_id}",
        f"/communities/{evil.community_id}/members", "/communities", "/compose", "/profile",
        "/search?q=boats", f"/report/post/{posts['p1']}", "/notices", "/moderation",
        "/moderation/trail", f"/moderation/member/{evil}", "/search?q=nothingofthatkind",
        "/posts/1-9", "/sign-in?find=a",
    ]  # fmt: skip


async def test_every_page_fits_a_screen_and_a_thumb(browser: Browser, site: Site):
    """No page is wider than the screen; on a phone every control has 24 pixels (WCAG 2.2, 2.5.8)."""
    async with visiting(browser, site) as visit:
        await visit.sign_in("mod")
        for path in paths(site):
            await visit.open(path)
            for width in (1280, 820, 320, 390):
                await visit.page.set_viewport_size({"width": width, "height": 800})
                assert await visit.page.evaluate(WIDER) <= 0, f"{path} is too wide at {width}"
            assert await visit.page.evaluate(SMALL) == [], path


async def test_every_page_follows_the_theme(browser: Browser, site: Site):
    """Dark is dark, on every page."""
    async with visiting(browser, site, color_scheme="dark") as visit:
        await visit.sign_in("mod")
        for path in paths(site):
            await visit.open(path)
            assert await visit.page.evaluate(LUMINANCE, "body") < 60, path


async def test_the_chosen_theme_is_remembered(visit: Visit):
    """The button turns the theme, on every later page too."""
    page = visit.page
    await visit.sign_in("ada")
    assert await page.evaluate(LUMINANCE, "body") > 200
    await page.get_by_role("button", name="Switch between light and dark").click()
    assert await page.evaluate(LUMINANCE, "body") < 60
    await visit.open(f"/posts/{visit.site.posts['long']}")

    assert await page.evaluate(LUMINANCE, "body") < 60
    assert await page.locator("html").get_attribute("data-theme") == "dark"


async def test_every_control_has_a_name(visit: Visit):
    """Whatever a screen reader stops at says what it is, also where a phone has no room for it."""
    await visit.sign_in("mod")
    session = await visit.page.context.new_cdp_session(visit.page)
    there = [one for one in paths(visit.site) if one != "/posts/1-9"]
    for path, width in itertools.product(there, (1280, 360)):
        await visit.page.set_viewport_size({"width": width, "height": 800})
        await visit.open(path)
        tree = await session.send("Accessibility.getFullAXTree")
        nameless = [
            node for node in tree["nodes"]
            if not node.get("ignored") and node["role"]["value"] in NAMED
            and not node.get("name", {}).get("value", "").strip()
        ]  # fmt: skip
        assert nameless == [], f"{path} at {width}: {nameless}"
        headings = await visit.page.locator("h1:visible, h1.unseen").count()
        assert headings == 1, f"{path} has {headings} first headings"


async def focused(page: Page, script: str = "node => node.outerHTML.slice(0, 120)") -> str:
    """Return something of the element that has the focus."""
    return await page.evaluate(f"({script})(document.activeElement)")


async def test_everything_by_keyboard(visit: Visit):
    """Skip link, moving, liking, opening, commenting, help: without a mouse."""
    page = visit.page
    await visit.sign_in("tom")
    await page.keyboard.press("Tab")
    assert "Skip to the content" in await focused(page)
    await page.keyboard.press("Enter")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    second = page.locator("[data-feed] article").nth(1)
    await expect(second).to_be_focused()
    outline = await second.evaluate("node => getComputedStyle(node).outlineStyle")
    assert outline == "solid"
    await page.keyboard.press("k")
    first = page.locator("[data-feed] article").first
    await expect(first).to_be_focused()
    async with page.expect_response("**/reactions/like"):
        await page.keyboard.press("l")
    await expect(first.locator(".like")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await page.keyboard.press("j")  # means nothing while the list is open
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await page.keyboard.press("c")
    await page.wait_for_url("**/posts/*")
    await page.keyboard.press("c")
    await page.keyboard.type("jkl? are letters here")
    await expect(page.get_by_label("Your comment")).to_have_value("jkl? are letters here")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".remark")).to_contain_text("jkl? are letters here")


async def test_tab_reaches_every_control_of_a_card_with_a_visible_focus(visit: Visit):
    """The order is that of reading, and one sees where one is."""
    page = visit.page
    await visit.sign_in("zoe", f"/posts/{visit.site.posts['p9']}")
    await visit.card("p9").focus()
    met = []
    for _ in range(9):
        await page.keyboard.press("Tab")
        met.append(await focused(page, "node => node.dataset.do ?? node.localName"))
        style = await focused(page, "node => getComputedStyle(node).outlineStyle")
        assert style == "solid", met

    assert met == ["a", "a", "follow", "summary", "like", "comment", "share", "hide", "why"]


async def test_motion_is_reduced_where_asked(browser: Browser, site: Site):
    """No animation and no smooth scrolling for who does not want them."""
    async with visiting(browser, site, reduced_motion="reduce") as visit:
        await visit.sign_in("ada")
        moving = await visit.page.evaluate(
            """() => { document.querySelector('#help').showModal();
                return document.getAnimations().length; }"""
        )
        assert moving == 0


async def test_all_but_live_buttons_works_without_scripts(browser: Browser, site: Site):
    """Reading, more, why, writing, commenting and signing out are links and forms."""
    async with visiting(browser, site, java_script_enabled=False) as visit:
        page = visit.page
        await visit.sign_in("zoe")
        await expect(page.locator('[data-do="like"]').first).to_be_hidden()
        await expect(page.get_by_text("likes").first).to_be_visible()
        first = await page.locator("[data-feed] article").first.get_attribute("id")
        await page.get_by_role("link", name="More posts").click()
        await expect(page.locator(f"#{first}")).to_have_count(0)
        await expect(page.locator("[data-feed] article").first).to_be_visible()
        await page.get_by_role("link", name="Why this?").first.click()
        await expect(page.locator(".why-sentence")).not_to_be_empty()
        await visit.open("/")
        await page.get_by_label("Your post").fill("Written without a script")
        await page.get_by_role("button", name="Post", exact=True).click()
        await expect(page.locator("article").first).to_contain_text("Written without a script")
        await page.locator("article").first.get_by_role("link", name="Comment").click()
        await page.get_by_label("Your comment").fill("So is this")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator(".remark")).to_contain_text("So is this")
        await visit.sign_out()
        await expect(page).to_have_title("Sign in · Millrace")
        await page.get_by_label("Find a member").fill("jonas")
        await page.keyboard.press("Enter")
        await expect(page.locator(".people li")).to_have_count(1)


async def test_a_half_written_text_outlives_a_lost_session(browser: Browser, site: Site):
    """After signing in again the text is still there; once taken, it is gone."""
    async with visiting(browser, site) as visit:
        page = visit.page
        await visit.sign_in("jonas")
        await page.get_by_label("Your post").fill("Half a thought")
        await page.context.clear_cookies()
        await page.get_by_role("button", name="Post", exact=True).click()
        await expect(page).to_have_title("Sign in · Millrace")
        await visit.sign_in("jonas")
        await expect(page.get_by_label("Your post")).to_have_value("Half a thought")
        await page.get_by_role("button", name="Post", exact=True).click()
        await expect(page.get_by_text("Your post is out.")).to_be_visible()
        await visit.open("/")
        await expect(page.get_by_label("Your post")).to_have_value("")


async def test_a_half_written_text_is_for_its_writer_only(browser: Browser, site: Site):
    """Whoever signs in next in the same tab does not read it."""
    async with visiting(browser, site) as visit:
        page = visit.page
        await visit.sign_in("jonas")
        await page.get_by_label("Your post").fill("A private thought")
        await visit.sign_out()
        await visit.sign_in("tom")
        await expect(page.get_by_label("Your post")).to_have_value("")
        await visit.sign_in("jonas")
        await expect(page.get_by_label("Your post")).to_have_value("A private thought")


async def test_the_bar_keeps_its_words_whole(browser: Browser, site: Site):
    """However narrow the screen, the name of the product and the sign of a demo are one line."""
    async with visiting(browser, site) as visit:
        await visit.sign_in("ada")
        for width in (320, 360, 390, 820):
            await visit.page.set_viewport_size({"width": width, "height": 800})
            for selector in (".brand span", ".pill"):
                box = await visit.page.locator(selector).bounding_box()
                assert box, selector
                assert box["height"] < 40, f"{selector} at {width}"
            assert await visit.page.evaluate(WIDER) <= 0, width


async def test_long_text_unfolds_in_place_and_counts_as_a_click(visit: Visit):
    """Read more shows the rest, and the author learns that it was opened."""
    page = visit.page
    await visit.sign_in("tom")
    link = page.get_by_role("link", name="Read more of A long story")
    await visit.read_to_end()
    async with page.expect_request("**/v1/engagements") as asked:
        await link.click()
    await expect(visit.card("long").get_by_text("Paragraph 29")).to_be_visible()
    sent = (await asked.value).post_data_json["items"]

    assert [(i["kind"], i["post_id"]) for i in sent] == [("click", str(visit.site.posts["long"]))]
    posts = visit.site.program.posts

    async def counted() -> bool:
        [view] = await posts.views(visit.site.viewer("tom"), [visit.site.posts["long"]])
        return view.counts.clicks >= 1

    await until(counted, page)
