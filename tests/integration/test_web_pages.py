"""Every page behind the gate, without a browser: well-formed, for whom it is, true to the rooms."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from page_visit import OWN, RATE, Balance, enter

from millrace.api.testing import Town, town
from millrace.community.moves import Move, ReportReason, Thing, ThingKind
from millrace.community.types import NewPost, Role, Viewer
from millrace.settings import DoorConfig
from millrace.store.testing import TestServer

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="module")]
MEMBERS_PAGES = (
    "/", "/communities", "/communities/{harbour}", "/communities/{harbour}/members", "/compose",
    "/posts/{own}/edit", "/posts/{ben}", "/members/{member}", "/members/{mona}", "/profile",
    "/search", "/search?q=sea", "/search?q=ben&by=members", "/search?q=harbour&by=communities",
    "/report/post/{ben}", "/report/post/{ben}?done=1", "/notices",
)  # fmt: skip
KEEPERS_PAGES = (
    "/moderation", "/moderation?show=gone", "/moderation?show=settled", "/moderation?order=reports", "/moderation/trail",
    "/moderation/post/{ben}", "/moderation/member/{member}", "/moderation/comment/{comment}",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server: TestServer, tmp_path_factory) -> AsyncIterator[Town]:
    """A town with a case that waits, one that is settled, and a banned member."""
    folder = tmp_path_factory.mktemp("pages")
    async with town(server.copy(), str(folder), door=DoorConfig(rates=RATE)) as made:
        moderation, ada, mona = made.program.moderation, viewer(made, "ada"), viewer(made, "mona")
        post = Thing(ThingKind.POST, made.posts["ben"])
        await moderation.report(ada, post, ReportReason.SPAM, 'He says "<b>buy</b>"')
        own = Thing(ThingKind.POST, made.posts["mona"])
        await moderation.report(ada, own, ReportReason.OTHER)
        await moderation.decide(viewer(made, "mona"), post, Move.HIDE, "Once <i>more</i>")
        await moderation.decide(mona, post, Move.RESTORE, "It was a mistake")
        yield made


def viewer(place: Town, name: str) -> Viewer:
    """Return somebody of the town as who asks."""
    role = Role.MODERATOR if name == "mona" else Role.MEMBER
    return Viewer(role, place.members[name], f"member:{place.members[name]}")


def filled(place: Town, path: str) -> str:
    """Return a path with the town's keys in it."""
    return path.format(
        harbour=place.communities["harbour"], own=place.posts["ada"], ben=place.posts["ben"],
        member=place.members["ben"], mona=place.members["mona"], comment=place.comment,
    )  # fmt: skip


def expect_sound(path: str, text: str) -> None:
    """Make sure that every element is closed and that no id stands twice."""
    balance = Balance()
    balance.feed(text)
    assert (balance.faults, balance.open) == ([], []), path


@pytest.mark.parametrize(
    ("who", "paths"),
    [
        ("ada", MEMBERS_PAGES),
        ("mona", (*MEMBERS_PAGES[:4], *KEEPERS_PAGES)),
        ("operator", ("/", "/communities", "/search?q=sea", *KEEPERS_PAGES, "/operator")),
    ],
)
async def test_pages_are_well_formed(place: Town, who: str, paths: tuple[str, ...]):
    """For a member, a moderator and an operator."""
    async with place.client() as client:
        await enter(client, {"token": place.tokens[who]})
        for path in paths:
            answer = await client.get(filled(place, path), headers=OWN)
            assert answer.status_code == 200, (path, answer.text[-800:])
            expect_sound(path, answer.text)
            assert "<b>buy</b>" not in answer.text
            assert "<i>more</i>" not in answer.text


async def test_fragments_are_parts_of_their_pages(place: Town):
    """A list, a thread, a form and the figures come alone when the module asks."""
    async with place.client() as client:
        await enter(client, {"token": place.tokens["ada"]})
        for path in ("/members/{member}", "/communities/{harbour}", "/posts/{ben}/thread",
                     "/report/post/{ben}"):  # fmt: skip
            answer = await client.get(filled(place, path), headers=OWN | {"x-fragment": "1"})
            assert answer.status_code == 200, path
            assert "<html" not in answer.text, path
            expect_sound(path, answer.text)


async def test_what_its_author_took_back_waits_apart(place: Town):
    """A reported post that is gone does not stand among those that wait, and can still be judged."""
    program, ada = place.program, viewer(place, "ada")
    post = await program.posts.write(ada, NewPost(text="I take it back"))
    await program.moderation.report(
        viewer(place, "ben"), Thing(ThingKind.POST, post.key), ReportReason.HATE
    )
    async with place.client() as client:
        await enter(client, {"token": place.tokens["mona"]})
        paths = ("/moderation", "/moderation?show=gone")
        before = [(await client.get(path, headers=OWN)).text for path in paths]
        await program.posts.remove(ada, post.key, "")
        after = [(await client.get(path, headers=OWN)).text for path in paths]
        warn = {"move": "warn", "reason": "Never again", "back": "/moderation?show=gone"}
        done = await client.post(f"/moderation/post/{post.key}", data=warn, headers=OWN)

    assert ["I take it back" in page for page in before] == [True, False]
    assert ["I take it back" in page for page in after] == [False, True]
    assert "Warned" in done.text
    assert "I take it back" not in done.text


async def test_only_what_is_seen_can_be_reported(place: Town):
    """The form of a report is not found where its thing is not, nor where it is not for the reader."""
    paths = ("/report/post/1-1", "/report/comment/1-1", "/report/member/1-1",
             f"/report/post/{place.posts['cleo']}")  # fmt: skip
    async with place.client() as client:
        await enter(client, {"token": place.tokens["ada"]})
        found = {path: (await client.get(path, headers=OWN)).status_code for path in paths}
        there = await client.get(filled(place, "/report/comment/{comment}"), headers=OWN)

    assert found == dict.fromkeys(paths, 404)
    assert there.status_code == 200


async def test_an_operator_is_told_who_you_is(place: Town):
    """An explanation speaks to its member; to an operator it says to whom it speaks."""
    path = filled(place, "/why/{ben}")
    async with place.client() as client:
        await enter(client, {"token": place.tokens["operator"]})
        told = await client.get(f"{path}?member={place.members['ben']}", headers=OWN)
        await enter(client, {"token": place.tokens["ben"]})
        own = await client.get(path, headers=OWN)

    assert "“You wrote this post yourself.”" in told.text
    assert "“you” is Ben" in told.text
    assert "“you” is" not in own.text
    assert "You wrote this post yourself." in own.text


async def test_newer_posts_leave_out_whom_the_member_muted(place: Town):
    """What is asked for by key passes the rule of visibility, and the member's own wishes."""
    keys = ",".join(str(place.posts[name]) for name in ("ben", "mona", "cleo"))
    async with place.client() as client:
        await enter(client, {"token": place.tokens["ada"]})
        both = await client.get(f"/feed/newer?posts={keys}", headers=OWN)
        await place.program.relations.mute(viewer(place, "ada"), place.members["mona"])
        muted = await client.get(f"/feed/newer?posts={keys}", headers=OWN)
        wrong = await client.get("/feed/newer?posts=x", headers=OWN)
        await place.program.relations.unmute(viewer(place, "ada"), place.members["mona"])

    assert "ben writes" in both.text
    assert "mona writes" in both.text
    assert "cleo writes" not in both.text, "for the hill alone"
    assert "mona writes" not in muted.text
    assert wrong.status_code == 422


async def test_judging_goes_back_to_where_one_was_and_never_elsewhere(place: Town):
    """The form says where it came from; an address of another host is not followed."""
    thing = filled(place, "/moderation/post/{ben}")
    async with place.client() as client:
        await enter(client, {"token": place.tokens["operator"]})
        for back, wanted in (("/moderation?order=reports", "/moderation?order=reports&done=Warned"),
                             ("https://evil.example", "/?done=Warned")):  # fmt: skip
            form = {"move": "warn", "reason": "Please do not", "back": back}
            done = await client.post(thing, data=form, headers=OWN, follow_redirects=False)
            assert (done.status_code, done.headers["location"]) == (303, wanted)
        for form in (
            {"move": "warn"},
            {"move": "fly", "reason": "x"},
            {"move": "lift", "reason": "x"},
        ):
            refused = await client.post(thing, data=form, headers=OWN, follow_redirects=False)
            assert refused.status_code == 422
            assert 'role="alert"' in refused.text


async def test_a_community_says_who_keeps_order_and_how_large_it_is(place: Town):
    """Numbers come from the members' counters; a stranger's members are not listed."""
    async with place.client() as client:
        await enter(client, {"token": place.tokens["cleo"]})
        harbour = await client.get(filled(place, "/communities/{harbour}"), headers=OWN)
        people = await client.get(filled(place, "/communities/{harbour}/members"), headers=OWN)
        absent = await client.get("/communities/77", headers=OWN)

    assert "Mona" in harbour.text
    assert "<dt>Members</dt><dd>3</dd>" in harbour.text
    assert people.status_code == 403
    assert absent.status_code == 404


async def test_an_edit_of_an_older_version_is_refused_and_keeps_its_text(place: Town):
    """Two tabs: the second is told, and nothing that was typed in it is lost."""
    path = filled(place, "/posts/{own}/edit")
    form = {"version": "1", "text": "from the first tab", "kind": "note", "audience": "community"}
    async with place.client() as client:
        await enter(client, {"token": place.tokens["ada"]})
        shown = await client.get(path, headers=OWN)
        form["version"] = shown.text.split('name="version" value="')[1].split('"')[0]
        first = await client.post(path, data=form, headers=OWN, follow_redirects=False)
        second = await client.post(path, data=form | {"text": "from the second"}, headers=OWN)

    assert first.status_code == 303
    assert second.status_code == 422
    assert "from the second" in second.text
    assert 'role="alert"' in second.text


async def test_nobody_edits_another_ones_post(place: Town):
    """Neither the form nor the change; the operator, who may by the API, has no such page."""
    path = filled(place, "/posts/{ben}/edit")
    async with place.client() as client:
        await enter(client, {"token": place.tokens["ada"]})
        shown = await client.get(path, headers=OWN)
        form = {"text": "mine now", "kind": "note", "audience": "public"}
        changed = await client.post(path, data=form, headers=OWN)

    assert (shown.status_code, changed.status_code) == (403, 403)
