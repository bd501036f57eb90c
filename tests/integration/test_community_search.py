"""Goal: what a viewer may see is found by its words, and nothing else is, whatever is typed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.community import search
from millrace.community.asked_words import CLOSING, OPENING, QUERY_MAX, marked
from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.search import PostQuery
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Audience, Key, MemberDraft, PostDraft, PostKind, Role
from millrace.kernel.errors import InvalidError, UnavailableError

pytestmark = pytest.mark.services


@pytest.fixture
async def rooms(router):
    return Rooms(router)


@pytest.fixture
async def town(rooms):
    """Ann and Ben at home with the moderator Mo; Far lives elsewhere."""
    home, away = await rooms.community("home"), await rooms.community("away")
    ann, ben = await rooms.people(home, "ann", "ben")
    (mo,) = await rooms.people(home, "mo", role=Role.MODERATOR)
    (far,) = await rooms.people(away, "far")
    return {"home": home, "ann": ann, "ben": ben, "mo": mo, "far": far}


async def found(rooms, viewer, text, **which):
    """Return the keys of the posts that are found, best first."""
    hits = await rooms.search.posts(viewer, PostQuery(text=text, **which))
    return [hit.view.post.key for hit in hits.hits]


async def test_words_in_their_language(rooms, town):
    """Stems of the post's own language, quotes, choices, exclusions, and an unfinished last word."""
    boats = (await rooms.post(town["ann"], "Fishing boats left the harbour.", title="Tides")).key
    nets = (await rooms.post(town["ann"], "The nets of a boat.", topics=["mending"])).key
    ship = (await rooms.post(town["ben"], "Schiffe fahren hinaus.", language="de")).key
    unknown = (await rooms.post(town["ben"], "Vene lahkub sadamast.", language="xx")).key

    for text, expected in {
        "boat": {boats, nets},
        "boats leave": set(),
        "leaving boat": set(),
        "fish boats": {boats},
        '"fishing boats"': {boats},
        '"boats fishing"': set(),
        "boat -fishing": {nets},
        "nets or tides": {boats, nets},
        "harb": {boats},
        "boats harb": {boats},
        "mending": {nets},
        "Schiff": {ship},
        "Schiffen fahr": {ship},
        "fährt": set(),
        "sadamast": {unknown},
        "the": set(),
    }.items():
        assert set(await found(rooms, town["ann"], text)) == expected, text


async def test_posts_of_decades_ago_are_found(rooms, town):
    """What an archive brings in is older than what the bonus of new posts is made for."""
    drafts = [
        PostDraft(
            external_id=str(year), author="ann", text="About moss.",
            created_at=datetime(year, 1, 1, tzinfo=UTC),
        )
        for year in (1970, 1990, 2020)
    ]  # fmt: skip
    ids = (await rooms.posts.upsert(OPERATOR, town["home"], drafts)).ids

    expected = [Key(town["home"], ids[year]) for year in ("2020", "1990", "1970")]
    assert sorted(await found(rooms, town["ben"], "moss")) == sorted(expected)


async def test_the_title_weighs_most_and_new_before_old(rooms, town):
    """A title beats a topic, a topic the text; of equals the newer one comes first."""
    old = (await rooms.post(town["ann"], "About moss.")).key
    rooms.clock.move(90 * 24 * 3600)
    text = (await rooms.post(town["ann"], "About moss.")).key
    topic = (await rooms.post(town["ann"], "About plants.", topics=["moss"])).key
    title = (await rooms.post(town["ann"], "About plants.", title="Moss")).key

    assert await found(rooms, town["ben"], "moss") == [title, topic, text, old]
    recent = rooms.clock.now() - timedelta(days=1)
    assert old not in await found(rooms, town["ben"], "moss", since=recent)
    assert await found(rooms, town["ben"], "moss", topic="moss") == [topic]
    assert await found(rooms, town["ben"], "moss", kind=PostKind.EVENT) == []
    assert await found(rooms, town["ben"], "moss", author=town["ben"].member) == []


async def test_only_what_the_viewer_may_see(rooms, town):
    """Audience, blocks, removals, hides and bans hold in a search as everywhere."""
    seen = (await rooms.post(town["ann"], "Moss.", audience=Audience.PUBLIC)).key
    at_home = (await rooms.post(town["ann"], "Moss.")).key
    removed = await rooms.post(town["ann"], "Moss.")
    hidden = await rooms.post(town["ann"], "Moss.")
    await rooms.posts.remove(town["ann"], removed.key, "")
    thing = Thing(ThingKind.POST, hidden.key)
    await rooms.moderation.decide(town["mo"], thing, Move.HIDE, "for the test")

    assert set(await found(rooms, town["far"], "moss")) == {seen}
    assert set(await found(rooms, town["ben"], "moss")) == {seen, at_home}
    assert set(await found(rooms, town["ann"], "moss")) == {seen, at_home, hidden.key}
    assert set(await found(rooms, OPERATOR, "moss")) == {seen, at_home}
    ann = Thing(ThingKind.MEMBER, town["ann"].member)
    await rooms.moderation.decide(town["mo"], ann, Move.BAN, "for the test")
    assert await found(rooms, town["ben"], "moss") == []
    assert (await rooms.search.members(town["mo"], "ann")).members == []
    await rooms.moderation.decide(town["mo"], ann, Move.LIFT, "for the test")
    await rooms.relations.block(town["ben"], town["ann"].member)
    assert await found(rooms, town["ben"], "moss") == []
    assert (await rooms.search.members(town["ben"], "ann")).members == []


async def test_pages_follow_one_another(rooms, town):
    """Every match once, in the order of the whole; what came after the first page is not in it."""
    for place in range(7):
        rooms.clock.move(3600)
        await rooms.post(town["ann"], "moss " * (place % 3 + 1))
    whole = await found(rooms, town["ben"], "moss")
    walked, after = [], None
    while True:
        page = await rooms.search.posts(town["ben"], PostQuery(text="moss"), after, limit=3)
        walked += [hit.view.post.key for hit in page.hits]
        after = page.after
        rooms.clock.move(60)
        await rooms.post(town["ann"], "moss moss moss moss")
        if after is None:
            break

    assert walked == whole
    assert len(walked) == 7


async def test_what_matched_is_told_as_ranges(rooms, town):
    """A text that looks like markup, or holds the marks themselves, comes back as text."""
    post = await rooms.post(
        town["ann"], f"The <b>moss</b> {OPENING}grows{CLOSING} & mosses grow.", title="Moss!"
    )
    (hit,) = (await rooms.search.posts(town["ben"], PostQuery(text="moss gro"))).hits

    def told(one):
        return [one.text[start:end] for start, end in one.ranges]

    assert hit.view.post.key == post.key
    assert told(hit.title) == ["Moss"]
    assert told(hit.excerpt) == ["moss", "grows", "mosses", "grow"]
    assert OPENING not in hit.excerpt.text
    assert "&" in hit.excerpt.text


async def test_members_and_communities(rooms, town):
    """Beginnings of names, of the parts of a handle, of skills and of the headline."""
    drafts = [
        MemberDraft(
            external_id="x", handle="zoe.gruber", display_name="Zoë", headline="welds boats",
            skills=["rope work"],
        ),
        MemberDraft(external_id="y", display_name="Work Zoller"),
    ]  # fmt: skip
    await rooms.members.upsert(OPERATOR, town["home"], drafts)

    async def names(text, **which):
        page = await rooms.search.members(town["ann"], text, **which)
        return [one.display_name for one in page.members]

    assert await names("gru") == ["Zoë"]
    assert await names("rop boa") == ["Zoë"]
    assert await names("work") == ["Work Zoller", "Zoë"]
    assert await names("zo") == await names("Zo", community_id=town["home"])
    assert await names("nobody") == []
    first = await rooms.search.members(town["ann"], "work", limit=1)
    second = await rooms.search.members(town["ann"], "work", None, first.after, 1)
    assert [one.display_name for one in (*first.members, *second.members)] == await names("work")
    assert second.after is None
    assert [one.name for one in await rooms.search.communities(town["far"], "hom")] == ["Home"]


async def test_nobody_spells_out_the_members_of_another_community(rooms, town):
    """From outside a name finds its owner; a letter, a beginning, a skill or a headline nobody."""
    draft = MemberDraft(
        external_id="x", handle="zoe.gruber", display_name="Zoë Q. Alder",
        headline="welds boats", skills=["rope work"],
    )  # fmt: skip
    await rooms.members.upsert(OPERATOR, town["home"], [draft])

    async def found(viewer, text):
        page = await rooms.search.members(viewer, text, town["home"])
        return [one.display_name for one in page.members]

    for text in ("zoë", "ZOË alder", "gruber", "Zoë Q", "alder zoe"):
        assert await found(town["far"], text) == ["Zoë Q. Alder"], text
    hidden = ("zo", "q", "q q", "grub", "zoë ald", "rope", "welds", "zoë boats")
    for text in hidden:
        assert await found(town["far"], text) == [], text
    for text in hidden:
        assert "Zoë Q. Alder" in await found(town["ann"], text), text
        assert "Zoë Q. Alder" in await found(OPERATOR, text), text


HOSTILE = st.one_of(
    st.text(max_size=QUERY_MAX + 20),
    st.lists(
        st.sampled_from(
            [
                '"',
                "'",
                "\\",
                "-",
                "!",
                "&",
                "|",
                "(",
                ")",
                ":*",
                "<->",
                "or",
                "a:b",
                "%",
                "_",
                "moss",
                "ǅ",
                "²",
                "٣",
                "e\u0301",
                "\x00",
                "\ue000",
                "a.b@c.de",
                "http://x/y?z",
            ]
        ),
        max_size=30,
    ).map(" ".join),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=HOSTILE)
async def test_no_text_is_an_error_of_ours(router, text):
    """Whatever is typed is searched for, or refused as what it is."""
    rooms = Rooms(router)
    for asked in (
        rooms.search.posts(OPERATOR, PostQuery(text=text)),
        rooms.search.members(OPERATOR, text),
        rooms.search.communities(OPERATOR, text),
    ):
        try:
            await asked
        except InvalidError as refused:
            if refused.field != "q":
                raise


@given(st.text(alphabet=st.sampled_from(["a", " ", OPENING, CLOSING])))
def test_marks_never_leave(text):
    """Also where the database would send them crossed, every range lies in the text, marks out."""
    found = marked(text)

    assert found.text == text.replace(OPENING, "").replace(CLOSING, "")
    assert all(0 <= start <= end <= len(found.text) for start, end in found.ranges)


async def test_a_search_that_takes_too_long_is_stopped(rooms, town, router, monkeypatch):
    """It says so, and the database does not go on with it."""
    for _ in range(30):
        await rooms.post(town["ann"], "moss and stones " * 2000)
    monkeypatch.setattr(search, "SECONDS_MAX", 0.02)
    with pytest.raises(UnavailableError, match=r"stopped after 0\.02 s") as caught:
        await found(rooms, town["ben"], '"moss stones" or "stones and moss and stones" or moss')

    assert "rarer words" in caught.value.next_step
    monkeypatch.undo()
    assert len(await found(rooms, town["ben"], "moss")) == 20
