"""A tiny community behind the real server, and a real browser in front of it."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright

from millrace.api.app import create_app
from millrace.api.serve import serving
from millrace.community.types import (
    Audience,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    Key,
    MemberDraft,
    PostDraft,
    PostKind,
    Role,
    Viewer,
    program,
)
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.testing import FakeEncoder
from millrace.kernel.clock import SystemClock
from millrace.release.flags.types import FlagConfig
from millrace.settings import DoorConfig, Settings
from millrace.store.types import StoreConfig
from millrace.wiring import Program, build

CHROMIUM = os.environ.get("MILLRACE_TEST_CHROMIUM", "/usr/bin/chromium")
NO_CHROMIUM = None if Path(CHROMIUM).exists() else f"there is no Chromium at {CHROMIUM}"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SEEDER = program("test")
EVIL_NAME = "<script>window.pwned=1</script>"
EVIL_TITLE = "<img src=x onerror=window.pwned=2>"
EVIL_TEXT = (
    '"><svg/onload=window.pwned=3> javascript:window.pwned=4\n'
    "https://evil.example/\"onmouseover=window.pwned=5\n{{ 7 * 7 }} <a href='data:x'>x</a>"
)
LONG = "\n\n".join(f"Paragraph {n}: the mill stream silts up every spring." for n in range(30))
READ_TO_END = """async () => {
    for (let frame = 0; frame < 600 && document.querySelector('[data-more]'); frame++) {
        scrollTo(0, document.body.scrollHeight);
        await new Promise(requestAnimationFrame);
    }
}"""
TOPICS = ("bees", "bread", "bikes", "books", "boats")
POSTS = 34


@dataclass
class Site:
    """The running product: its address, its rooms, and the members' keys by external id."""

    address: str
    program: Program
    members: dict[str, Key]
    posts: dict[str, Key]
    tokens: dict[str, str] = field(default_factory=dict)

    async def office(self, name: str, role: Role) -> str:
        """Return the token of somebody who runs the installation; they are made as first asked."""
        if name not in self.tokens:
            self.tokens[name] = (await self.program.identity.create_operator(name, role)).token
        return self.tokens[name]

    def viewer(self, member: str) -> Viewer:
        """Return a member as who asks."""
        key = self.members[member]
        role = Role.MODERATOR if member == "mod" else Role.MEMBER
        return Viewer(role, key, f"member:{key}")


@dataclass
class Visit:
    """A browser with one member, and everything that it did wrong."""

    page: Page
    site: Site
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Note every request, console message and uncaught error."""
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("console", self._console)

    def _console(self, message) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    async def open(self, path: str) -> None:
        """Go to a page of the site."""
        await self.page.goto(self.site.address + path)

    async def sign_in(self, member: str = "ada", path: str = "/") -> None:
        """Open a page as a member; the test of the sign-in page clicks through it."""
        issued = await self.site.program.identity.issue(f"member:{self.site.members[member]}", 600)
        await self._enter(issued.token, path)

    async def sign_in_office(
        self, name: str = "rita", path: str = "/flags", role: Role = Role.RELEASE_MANAGER
    ) -> None:
        """Open a page as a release manager, or as an operator."""
        await self._enter(await self.site.office(name, role), path)

    async def _enter(self, token: str, path: str) -> None:
        cookie = {"name": "millrace_session", "value": token, "url": self.site.address}
        await self.page.context.add_cookies([cookie])
        await self.open(path)

    async def sign_out(self) -> None:
        """Leave by the menu of the bar."""
        await self.page.locator(".profile-menu summary").click()
        await self.page.get_by_role("button", name="Sign out").click()

    async def read_to_end(self) -> None:
        """Scroll until the feed has no more."""
        await self.page.evaluate(READ_TO_END)

    def card(self, post: str):
        """Return a post's card."""
        return self.page.locator(f"#post-{self.site.posts[post]}")

    def strangers(self) -> list[str]:
        """Return the addresses asked for that are not of this site."""
        return [r.url for r in self.requests if not r.url.startswith(self.site.address + "/")]


@asynccontextmanager
async def running_site(
    conninfo: str, folder: Path, flags: FlagConfig | None = None
) -> AsyncIterator[Site]:
    """Serve a seeded community in demo mode on a free port."""
    settings = Settings(
        store=StoreConfig(primary=conninfo, data_dir=str(folder)),
        door=DoorConfig(demo=True, rates=dict.fromkeys(DoorConfig().rates, 100_000)),
        flags=flags or FlagConfig(),
    )
    async with build(settings, encoder=FakeEncoder(history=PooledHistory())) as made:
        members, posts = await seed(made)
        await made.feed.settled()
        with open(os.environ.get("WEBLOG", os.devnull), "w") as log:  # noqa: ASYNC230, PTH123
            async with serving(create_app(made, log_stream=log), "127.0.0.1", 0) as address:
                yield Site(address, made, members, posts)


async def seed(made: Program) -> tuple[dict[str, Key], dict[str, Key]]:
    """Write two communities, nine members, and posts of every kind."""
    now = SystemClock().now()
    homes = await made.communities.upsert(
        SEEDER,
        [
            CommunityDraft(external_id="mill", name="Mill Lane", nearby=["weir"]),
            CommunityDraft(external_id="weir", name="Weir Side", nearby=["mill"]),
        ],
    )
    mill = homes.ids["mill"]
    names = {"ada": "Ada Fischer", "jonas": "Jonas Brandt", "priya": "Priya Natarajan",
             "tom": "Tom O'Neill", "zoe": "Zoe Marsh", "evil": EVIL_NAME, "nora": "Nora Winter",
             "otto": "Otto Lang", "mod": "Mona Keeper"}  # fmt: skip
    people = await made.members.upsert(
        SEEDER,
        mill,
        [
            MemberDraft(external_id=one, display_name=name, headline=f"Likes {TOPICS[place % 5]}",
                        role=Role.MODERATOR if one == "mod" else Role.MEMBER,
                        joined_at=now - timedelta(days=90))
            for place, (one, name) in enumerate(names.items())
        ],
    )  # fmt: skip
    drafts = [_post(n, list(names), now) for n in range(POSTS)]
    drafts += [
        PostDraft(external_id="evil", author="evil", title=EVIL_TITLE, text=EVIL_TEXT,
                  link="https://www.example.org/a?b=c", topics=["<b>x</b>"],
                  created_at=now - timedelta(minutes=3)),
        PostDraft(external_id="long", author="jonas", title="A long story", text=LONG,
                  created_at=now - timedelta(minutes=2)),
    ]  # fmt: skip
    written = await made.posts.upsert(SEEDER, mill, drafts)
    await made.threads.upsert(
        SEEDER, mill, [CommentDraft(external_id="c1", author="tom", post="long", text="Read it.")]
    )
    await made.relations.upsert_follows(SEEDER, mill, [FollowDraft(member="ada", target="priya")])
    await made.activity.upsert_engagements(
        SEEDER,
        mill,
        [
            EngagementDraft(member="ada", post=f"p{n}", kind=kind, happened_at=now)
            for n, kind in ((POSTS - 1, "like"), (POSTS - 6, "click"))
        ],
    )
    key = lambda ids: {name: Key(mill, identity) for name, identity in ids.items()}  # noqa: E731
    return key(people.ids), key(written.ids)


def _post(n: int, authors: list[str], now) -> PostDraft:
    topic = TOPICS[n % 5]
    return PostDraft(
        external_id=f"p{n}",
        author=authors[1 + n % 4],  # never ada, who looks, nor evil
        title=f"About {topic}, part {n}" if n % 3 else "",
        text=f"Number {n}: something worth knowing about {topic}.",
        kind=list(PostKind)[n % 6],
        audience=list(Audience)[n % 3],
        topics=[topic],
        created_at=now - timedelta(minutes=10 * (n + 1)),
    )


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Lend a browser."""
    async with async_playwright() as tool:
        browser = await tool.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, site: Site, **options) -> AsyncIterator[Visit]:
    """Lend a fresh visitor; at the end nothing may have gone wrong unseen."""
    context: BrowserContext = await browser.new_context(**options)
    context.set_default_timeout(5000)
    visit = Visit(await context.new_page(), site)
    visit.listen()
    yield visit
    await context.close()


async def until(check: Callable[[], Awaitable[bool]], page: Page, seconds: float = 5) -> None:
    """Wait until a check of the rooms holds."""
    for _ in range(int(seconds / 0.02)):
        if await check():
            return
        await page.evaluate("() => new Promise(requestAnimationFrame)")
    raise AssertionError(f"not within {seconds} s")
