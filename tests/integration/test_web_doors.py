"""The pages behind the gate, without a browser: who gets in, what is kept, what is refused."""

from collections.abc import AsyncIterator
from urllib.parse import unquote

import pytest
import pytest_asyncio
from page_visit import OWN, RATE, Balance, enter

from millrace.api.auth import SESSION_COOKIE as GATE_COOKIE
from millrace.api.testing import Town, town
from millrace.settings import DoorConfig
from millrace.store.testing import TestServer
from millrace.web.shell import assets
from millrace.web.sign_in import COOKIE_BYTES_MAX, SESSION_COOKIE

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(server: TestServer, tmp_path_factory) -> AsyncIterator[Town]:
    """A town that lets anybody look around."""
    door, folder = DoorConfig(demo=True, rates=RATE), tmp_path_factory.mktemp("demo")
    async with town(server.copy(), str(folder), door=door) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(server: TestServer, tmp_path_factory) -> AsyncIterator[Town]:
    """A town where only a token opens the door."""
    door, folder = DoorConfig(rates=RATE), tmp_path_factory.mktemp("strict")
    async with town(server.copy(), str(folder), door=door) as made:
        yield made


async def test_both_doors_mean_the_same_cookie():
    """The room that sets the session cookie and the gate that reads it agree on its name."""
    assert SESSION_COOKIE == GATE_COOKIE


async def test_without_a_demonstration_no_click_signs_in(strict: Town):
    """Nobody is offered, nobody is let in, and the page says how to get a token."""
    async with strict.client() as client:
        shown = await client.get("/sign-in", headers=OWN)
        refused = await enter(client, {"member": str(strict.members["ada"])})

    assert "Ada" not in shown.text
    assert "millrace operator create" in shown.text
    assert refused.status_code == 422
    assert "only possible in a demonstration" in refused.text
    assert SESSION_COOKIE not in refused.cookies


async def test_a_token_is_the_session_and_signing_out_only_forgets_it(strict: Town):
    """A pasted token belongs to its owner: it still holds after signing out."""
    async with strict.client() as client:
        entered = await enter(client, {"token": f"  Bearer {strict.tokens['ada']}\n"})
        post = await client.get(f"/posts/{strict.posts['ben']}", headers=OWN)
        left = await client.post("/sign-out", headers=OWN, follow_redirects=False)
        after = await client.get("/v1/me", headers=strict.bearer("ada"))

    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert "httponly" in entered.headers["set-cookie"].lower()
    assert post.status_code == 200
    assert "ben writes of the sea" in post.text
    assert (left.status_code, left.headers["location"]) == (303, "/sign-in")
    assert after.status_code == 200


async def test_a_demonstration_session_ends_with_signing_out(demo: Town):
    """The token that the page made is revoked, not only forgotten."""
    async with demo.client() as client:
        await enter(client, {"member": str(demo.members["ada"])})
        token = client.cookies[SESSION_COOKIE]
        held = await client.get("/v1/me", headers={"authorization": f"Bearer {token}"})
        await client.post("/sign-out", headers=OWN, follow_redirects=False)
    async with demo.client() as client:
        after = await client.get("/v1/me", headers={"authorization": f"Bearer {token}"})

    assert held.json()["member_id"] == str(demo.members["ada"])
    assert after.status_code == 401


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({}, 422, "The token is missing"),
        ({"token": "abc"}, 401, "token"),
        ({"token": "x" * (COOKIE_BYTES_MAX + 1)}, 422, "characters"),
        ({"member": "1-1"}, 422, "There is no member"),
        ({"member": "<b>"}, 422, "&lt;b&gt;"),
    ],
)
async def test_a_wrong_sign_in_says_why(demo: Town, form: dict[str, str], status: int, said: str):
    """The reason stands on the page, escaped, and no session begins."""
    async with demo.client() as client:
        refused = await enter(client, form)

    assert refused.status_code == status
    assert said in refused.text
    assert SESSION_COOKIE not in refused.cookies


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "/%0a//evil.example\n"]
)
async def test_no_sign_in_leads_to_another_host(demo: Town, wanted: str):
    """Neither the form nor being signed in already follows a foreign address."""
    async with demo.client() as client:
        form = {"member": str(demo.members["ada"]), "next": wanted}
        entered = await enter(client, form)
        again = await client.get(
            "/sign-in", params={"next": wanted}, headers=OWN, follow_redirects=False
        )

    assert entered.headers["location"] in {"/", "/%0a//evil.example"}
    assert again.headers["location"] == "/"


@pytest.mark.parametrize("wanted", ["/日本", "/posts/ü", "/why/1-2?member=1-3", "/%e6%97%a5"])
async def test_an_address_in_any_letters_leads_there(demo: Town, wanted: str):
    """A header holds ASCII only: other letters are quoted, what is quoted already stays."""
    async with demo.client() as client:
        form = {"member": str(demo.members["ada"]), "next": wanted}
        entered = await enter(client, form)
        again = await client.get(
            "/sign-in", params={"next": wanted}, headers=OWN, follow_redirects=False
        )

    assert (entered.status_code, again.status_code) == (303, 303)
    assert entered.headers["location"] == again.headers["location"]
    assert entered.headers["location"].isascii()
    assert unquote(entered.headers["location"]) == unquote(wanted)


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/compose", "/posts/{post}/comments"])
async def test_forms_of_another_site_are_refused(demo: Town, path: str):
    """A page elsewhere cannot sign anybody in or out, nor write in their name."""
    async with demo.client() as client:
        await enter(client, {"member": str(demo.members["ada"])})
        form = {"member": str(demo.members["ben"]), "text": "spam"}
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
            refused = await client.post(
                path.format(post=demo.posts["ben"]), data=form, headers=headers
            )
            assert refused.status_code == 403, headers


@pytest.mark.parametrize("path", ["/", "/posts/1-2", "/why/1-2", "/feed/more?cursor=x"])
async def test_strangers_are_led_to_the_sign_in_page(strict: Town, path: str):
    """A page leads there and back; a fragment says 401, for the module to tell."""
    async with strict.client() as client:
        led = await client.get(path, headers=OWN, follow_redirects=False)
        told = await client.get(path, headers=OWN | {"x-fragment": "1"}, follow_redirects=False)

    assert led.status_code == 303
    assert led.headers["location"].startswith("/sign-in?next=")
    assert told.status_code == 401
    assert told.json()["code"] == "unauthenticated"


async def test_nobody_asks_why_for_somebody_else(strict: Town):
    """A member may only ask about the own feed."""
    async with strict.client() as client:
        await enter(client, {"token": strict.tokens["ada"]})
        address = f"/why/{strict.posts['ben']}?member={strict.members['cleo']}"
        refused = await client.get(address, headers=OWN)

    assert refused.status_code == 403
    assert "may not see what member" in refused.text


async def test_an_operator_writes_nothing_and_is_asked_for_whom(strict: Town):
    """An operator has no feed and no voice; why asks whose feed."""
    async with strict.client() as client:
        await enter(client, {"token": strict.tokens["operator"]})
        refused = await client.post("/compose", data={"text": "x"}, headers=OWN)
        why = await client.get(f"/why/{strict.posts['ben']}", headers=OWN)
        newest = await client.get("/", headers=OWN)

    assert refused.status_code == 403
    assert "This is not open to you" in refused.text
    assert "Name the member whose feed" in why.text
    assert "cleo writes of the sea" in newest.text


async def test_a_comment_that_cannot_be_taken_keeps_its_text(strict: Town):
    """The reason and the text stand on the page."""
    async with strict.client() as client:
        await enter(client, {"token": strict.tokens["ada"]})
        address = f"/posts/{strict.posts['ben']}/comments"
        empty = await client.post(address, data={"text": "  "}, headers=OWN)
        long = await client.post(address, data={"text": "a<b" * 20_000}, headers=OWN)

    assert empty.status_code == long.status_code == 422
    assert 'role="alert"' in empty.text
    assert "a&lt;ba&lt;b" in long.text


async def test_static_files_may_be_kept_and_nothing_else_is_there(strict: Town):
    """A versioned address is kept for ever, a plain one is asked for again, others do not exist."""
    address = assets().address("app.css")
    async with strict.client() as client:
        kept = await client.get(address)
        plain = await client.get("/static/app.css")
        again = await client.get(
            "/static/app.css", headers={"if-none-match": plain.headers["etag"]}
        )
        absent = [
            await client.get(path, headers=OWN)
            for path in ("/static/nothing.css", "/static/..%2fpages.py", "/static/%2e%2e/pages.py")
        ]

    assert "immutable" in kept.headers["cache-control"]
    assert kept.headers["content-type"].startswith("text/css")
    assert "no-cache" in plain.headers["cache-control"]
    assert (again.status_code, again.content) == (304, b"")
    assert [answer.status_code for answer in absent] == [404, 404, 404]


async def test_pages_are_well_formed_private_and_guarded(demo: Town):
    """Every element is closed, no id is double, and no page is for a shared cache."""
    async with demo.client() as client:
        pages = [await client.get("/sign-in", headers=OWN)]
        await enter(client, {"member": str(demo.members["ada"])})
        pages.append(await client.get(f"/posts/{demo.posts['ben']}", headers=OWN))
        pages.append(await client.get("/posts/1-2", headers=OWN))

    for answer in pages:
        balance = Balance()
        balance.feed(answer.text)
        assert (balance.faults, balance.open) == ([], [])
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "public" not in answer.headers["cache-control"]
