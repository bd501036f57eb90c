"""What cards, threads, faces, times and explanations show."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from millrace.api.wire import why
from millrace.community.types import (
    Audience,
    Comment,
    CommentView,
    Key,
    Member,
    Post,
    PostCounts,
    PostKind,
    PostView,
    Role,
)
from millrace.feed.types import (
    ActionNote,
    Adjustment,
    Explanation,
    FeedItem,
    FeedPage,
    LikedNote,
    Nearness,
    SourceNote,
)
from millrace.web.cards import DEPTH_MAX, card_of, fed_card, remarks_of
from millrace.web.counts import short_count
from millrace.web.explain import chance, chances_of, trace_view, why_view
from millrace.web.face import HUES, face_of, initials_of
from millrace.web.feed_page import feed_view
from millrace.web.people import people_of
from millrace.web.when import when_of

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def a_member(number: int = 1, name: str = "Ada Fischer") -> Member:
    """Return a member."""
    return Member(
        community_id=1, member_id=number, external_id=f"m{number}", handle=f"m{number}",
        display_name=name, headline="Keeps bees", about="", skills=["smoke"], place="Weir",
        languages=["en"], role=Role.MEMBER, joined_at=NOW, removed_at=None, system_version=1,
    )  # fmt: skip


def a_view(number: int = 7, **changes) -> PostView:
    """Return a post as a viewer sees it."""
    post = Post(
        community_id=1, post_id=number, external_id=f"p{number}", author_id=1,
        kind=PostKind.QUESTION, title="", text="Who has a ladder?", link="", topics=[],
        language="en", audience=Audience.NEARBY, created_at=NOW - timedelta(hours=3),
        edited_at=None, removed_at=None, system_version=1,
    )  # fmt: skip
    return PostView(
        post=replace(post, **changes), author=a_member(), community_name="Mill Lane",
        counts=PostCounts(likes=2), liked=True, follows_author=False,
    )  # fmt: skip


def test_a_card_names_itself_and_its_owner():
    """A post without a title is named by its text; the author's own card says so."""
    card = card_of(a_view(), Key(1, 1), NOW)

    assert (card.heading, card.title, card.own) == ("Who has a ladder?", "", True)
    assert (card.when.short, card.kind_label, card.likes, card.liked) == (
        "3 h",
        "Question",
        2,
        True,
    )
    assert not card_of(a_view(), Key(2, 1), NOW).own


def test_a_card_links_to_the_web_only():
    """A link with another scheme is not shown as a link."""
    assert card_of(a_view(link="javascript:alert(1)"), None, NOW).outlink is None
    assert (
        card_of(a_view(link="https://www.example.org/x"), None, NOW).outlink.host == "example.org"
    )


@pytest.mark.parametrize(
    ("age", "short"),
    [
        (timedelta(seconds=-30), "now"), (timedelta(seconds=59), "now"),
        (timedelta(minutes=1), "1 min"), (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h"), (timedelta(hours=23), "23 h"), (timedelta(days=1), "1 d"),
        (timedelta(days=7), "1 wk"), (timedelta(days=34), "4 wk"), (timedelta(days=40), "25 Mar"),
        (timedelta(days=400), "30 Mar 2025"),
    ],
)  # fmt: skip
def test_a_moment_is_short_for_people_and_exact_for_machines(age, short):
    """Near moments are ages, far ones dates."""
    when = when_of(NOW - age, NOW)

    assert when.short == short
    ending = "just now" if short == "now" else f"{short} ago" if age < timedelta(days=35) else short
    assert when.past == ending
    assert datetime.fromisoformat(when.machine) == NOW - age


@pytest.mark.parametrize(
    ("name", "initials"),
    [
        ("Ada Fischer", "AF"), ("Tomás Ferreira da Silva", "TS"), ("李 伟", "李伟"), ("sofía", "S"),
        ("O'Neill, Patrick", "OP"), ("🦋 🦋", "·"), ("", "·"), ("<b>x", "B"), ("ß", "SS"),
    ],
)  # fmt: skip
def test_initials(name, initials):
    """Initials are letters, whatever the name holds."""
    assert initials_of(name) == initials


def test_a_face_never_changes():
    """The colour follows from the key, not from the name."""
    face = face_of(a_member())

    assert face == face_of(a_member())
    assert face.hue == face_of(a_member(name="Other")).hue
    assert {face_of(a_member(n)).hue for n in range(200)} == set(range(HUES))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1299, "1.2k"), (34_567, "34k"), (5_600_000, "5.6M")],
)
def test_counts_are_short(number, text):
    """A large number is rounded down, so that it never claims more."""
    assert short_count(number) == text


def comments(parents: list[int | None]) -> list[CommentView]:
    """Return a thread whose n-th comment answers the comment with that id."""
    return [
        CommentView(
            comment=Comment(
                community_id=1, comment_id=n, external_id=f"c{n}", author_id=1, post_community_id=1,
                post_id=7, parent_community_id=None if parent is None else 1, parent_id=parent, text=f"line {n}", created_at=NOW, edited_at=None,
                removed_at=None, system_version=1,
            ),
            author=a_member(),
        )
        for n, parent in enumerate(parents)
    ]  # fmt: skip


def test_answers_stand_under_what_they_answer():
    """Reading order is depth first, by time within a branch."""
    remarks = remarks_of(comments([None, None, 0, 2, 1, 0]), None, NOW)

    assert [(r.id, r.depth) for r in remarks] == [(0, 0), (2, 1), (3, 2), (5, 1), (1, 0), (4, 1)]


@given(st.lists(st.one_of(st.none(), st.integers(-3, 40)), max_size=30))
def test_a_thread_loses_no_comment(parents):
    """Every comment stands once, whatever it claims to answer among earlier ones."""
    earlier = [p if p is None or p < n else None for n, p in enumerate(parents)]
    remarks = remarks_of(comments(earlier), None, NOW)

    assert sorted(remark.id for remark in remarks) == list(range(len(parents)))
    assert all(0 <= remark.depth <= DEPTH_MAX for remark in remarks)


@given(st.lists(st.booleans(), max_size=12), st.booleans())
def test_the_divider_stands_once_before_the_first_seen_post(seen, divided):
    """Over all pages there is one divider; the next page's address remembers it."""
    items = [FeedItem(view=a_view(), position=0, score=1, reason="r", seen=s) for s in seen]
    found = FeedPage(
        served_feed_id=5, items=items, next_cursor="c+/=", caught_up=False, degraded=[]
    )
    view = feed_view(
        found, [fed_card(i, Key(2, 2), NOW) for i in items], cursor="", divided=divided
    )

    assert view.divider == (-1 if divided or True not in seen else seen.index(True))
    assert ("seen=1" in view.more) == (divided or any(seen))
    assert "cursor=c%2B%2F%3D" in view.more


def test_the_end_has_no_next_page():
    """Without a cursor there is nothing more to ask for."""
    found = FeedPage(served_feed_id=5, items=[], next_cursor="", caught_up=True, degraded=[])

    assert feed_view(found, [], cursor="x", divided=False).more == ""
    assert not feed_view(found, [], cursor="x", divided=False).first


def explanation() -> Explanation:
    """Return why a post was shown."""
    return Explanation(
        member=Key(1, 2), post=Key(1, 7), shown=True, position=2, sentence="You follow Ada.",
        sources=[SourceNote("network", 0, 1.0), SourceNote("future_source", 1, 0.5)],
        features={"similarity": 0.25, "recency": 0.999, "affinity": 0.0, "age": 0.5}, score=0.123456,
        actions=[
            ActionNote("click", 0.5, 1.0, 0.5), ActionNote("hide", 0.004, -25.0, -0.1),
            ActionNote("share", 0.0, 3.0, 0.0),
        ],
        adjustments=[
            Adjustment("author_decay", "post 2 of the author", 0.2, 0.1),
            Adjustment("new_stage", "a reason of its own", 0.1, 0.05),
        ],
        removed=None, served_feed_id=9, versions={"prompt": "v1"},
    )  # fmt: skip


def test_an_explanation_for_a_member():
    """Sources have names, bars are shares of what moved the post, an unknown name is readable."""
    view = why_view(explanation(), a_view())

    assert view.sources == ["Your community and the people you follow", "Future source"]
    assert [(b.label, b.percent, b.against) for b in view.chances] == [
        ("You open it", 83, False), ("You hide it", 17, True)
    ]  # fmt: skip
    assert [(b.text, b.percent) for b in view.signals] == [("25 of 100", 25), ("100 of 100", 100)]
    assert view.shown
    assert view.notes == [
        "Further down, because its author has another post above it.",
        "A reason of its own",
    ]
    assert view.heading == "Who has a ladder?"


def near(*shares: float, others: float = 0.1, profile: float = 0.2) -> Nearness:
    """Return what draws a post near: liked posts with these shares, of five."""
    liked = [
        LikedNote(post=Key(1, place), title=f"Post  {place}", engaged_at=NOW, share=share)
        for place, share in enumerate(shares, 30)
    ]
    return Nearness(similarity=0.3, profile=profile, liked=liked, others=others, posts=5)


def test_what_draws_a_post_near_has_a_bar_each():
    """Liked posts lead to themselves; what held the post off is drawn as against it."""
    told = replace(explanation(), nearness=near(0.61, 0.2, others=-0.05, profile=0.24))
    view = why_view(told, a_view())

    assert [(b.text, b.percent, b.against, b.href) for b in view.nearness] == [
        ("61 %", 61, False, "/posts/1-30"), ("20 %", 20, False, "/posts/1-31"),
        ("\N{MINUS SIGN}5 %", 5, True, ""), ("24 %", 24, False, ""),
    ]  # fmt: skip
    assert "1-30" in str([table.rows for table in trace_view(told).tables])
    assert why_view(explanation(), a_view()).nearness == []


def test_an_explanation_says_the_same_to_applications():
    """Shares are of the nearness, and a member gets them without the trace."""
    said = why(replace(explanation(), nearness=near(0.6, others=0.1, profile=0.3)), full=False)

    assert said.trace is None
    assert said.nearness.liked[0].post_id == "1-30"
    assert said.nearness.profile + said.nearness.others + said.nearness.liked[0].share == 1.0
    assert why(explanation(), full=True).nearness is None


def test_an_explanation_for_an_operator_holds_everything():
    """No source, feature, probability, adjustment or version is left out."""
    trace = trace_view(explanation())
    text = str([table.rows for table in trace.tables])

    assert (trace.rank, trace.served, trace.score) == ("3", "9", "0.1235")
    for part in ("network", "future_source", "similarity", "click", "-25", "author_decay", "v1"):
        assert part in text


def test_chances_are_modest():
    """No bar without movement, and no false precision."""
    assert chances_of([ActionNote("click", 0.5, 0.0, 0.0)]) == []
    assert chance(0.004) == "less than 1 % likely"
    assert chance(0.996) == "more than 99 % likely"
    assert chance(0.336) == "34 % likely"


def test_people_are_found_by_any_of_their_words():
    """Every word must occur, in whatever field."""
    members = [a_member(1), a_member(2, "Jonas Brandt")]

    assert [p.name for p in people_of(members, {1: "Mill Lane"}, "mill BEES")] == [
        "Ada Fischer", "Jonas Brandt"
    ]  # fmt: skip
    assert [p.name for p in people_of(members, {1: "Mill Lane"}, "jonas smoke")] == ["Jonas Brandt"]
    assert people_of(members, {1: "Mill Lane"}, "nobody") == []
