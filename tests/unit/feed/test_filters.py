"""Each filter takes out what it names, and nothing else."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from millrace.community.types import (
    Audience,
    Key,
    Member,
    Post,
    PostCounts,
    PostKind,
    PostView,
    Relations,
    Role,
)
from millrace.feed.features import Subject
from millrace.feed.filters import FILTERS, judged, oldest_at, tier_of
from millrace.feed.hydration import languages_of
from millrace.feed.repository import MemberRow
from millrace.feed.run import FRESH, SEEN, SERVED, MemberState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ME, AUTHOR = Key(1, 1), Key(1, 2)


def state(**changes) -> MemberState:
    relations = changes.pop("relations", {})
    fields = {
        "key": ME, "display_name": "", "community_name": "", "languages": frozenset(),
        "vector": None, "embedding_position": "",
        "relations": Relations(**(
            {"follows": frozenset(), "blocks": frozenset(), "mutes": frozenset(),
             "nearby": frozenset()} | relations)),
        "seen": frozenset(), "served": frozenset(), "hidden": frozenset(), "liked": frozenset(),
        "subject": Subject(community_id=1, languages=frozenset(), topics={}, words=frozenset(),
                           follows=frozenset(), affinity={}),
    }  # fmt: skip
    return MemberState(**(fields | changes))


def view(author: Key = AUTHOR, author_removed: bool = False, **changes) -> PostView:
    post = Post(
        community_id=author.community_id, post_id=9, external_id="9", author_id=author.id,
        kind=PostKind.NOTE, title="", text="", link="", topics=[], language="en",
        audience=Audience.COMMUNITY, created_at=NOON, edited_at=None, removed_at=None,
        system_version=1,
    )  # fmt: skip
    member = Member(
        community_id=author.community_id, member_id=author.id, external_id="", handle="",
        display_name="", headline="", about="", skills=[], place="", languages=[],
        role=Role.MEMBER, joined_at=NOON, removed_at=NOON if author_removed else None,
        system_version=1,
    )  # fmt: skip
    return PostView(
        post=msgspec.structs.replace(post, **changes), author=member, community_name="",
        counts=PostCounts(), liked=False, follows_author=False,
    )  # fmt: skip


FAR = Key(2, 5)
CASES = {
    "removed": (state(), view(removed_at=NOON)),
    "audience": (state(), view(author=FAR)),
    "blocked": (state(relations={"blocks": frozenset({AUTHOR})}), view()),
    "own_post": (state(), view(author=ME)),
    "muted": (state(relations={"mutes": frozenset({AUTHOR})}), view()),
    "hidden_post": (state(hidden=frozenset({Key(1, 9)})), view()),
    "age": (state(), view(created_at=NOON - timedelta(days=3))),
    "language": (state(languages=frozenset({"de"})), view()),
}


def test_every_filter_has_a_case():
    assert list(CASES) == [name for name, _ in FILTERS]


@pytest.mark.parametrize("name", CASES)
def test_filter_names_itself_and_its_reason(name):
    stage, reason = judged(*CASES[name], NOON - timedelta(days=2))

    assert stage == name
    assert reason


@pytest.mark.parametrize(
    ("member", "post"),
    [
        (state(), view()),
        (state(), view(author=FAR, audience=Audience.PUBLIC)),
        (state(relations={"nearby": frozenset({2})}), view(author=FAR, audience=Audience.NEARBY)),
        (state(languages=frozenset({"de"})), view(language="")),
        (state(languages=frozenset({"en", "de"})), view()),
        (state(languages=frozenset({"pt"})), view(language="pt-BR")),
        (state(relations={"follows": frozenset({AUTHOR})}), view()),
    ],
)
def test_what_is_for_the_member_passes(member, post):
    assert judged(member, post, EPOCH) is None


def test_removed_author_and_nearby_of_another_direction():
    assert judged(state(), view(author_removed=True), EPOCH) == (
        "removed", "its author was removed",
    )  # fmt: skip
    near = view(author=FAR, audience=Audience.NEARBY)
    assert judged(state(relations={"nearby": frozenset({3})}), near, EPOCH)[0] == "audience"


def test_tiers():
    post = frozenset({Key(1, 9)})

    assert tier_of(state(), view()) == FRESH
    assert tier_of(state(served=post), view()) == SERVED
    assert tier_of(state(seen=post, served=post), view()) == SEEN
    assert tier_of(state(liked=post), view()) == SEEN


def test_no_age_limit_is_the_epoch():
    assert oldest_at(NOON, 0, EPOCH) == EPOCH
    assert oldest_at(NOON, 2, EPOCH) == NOON - timedelta(days=2)
    assert oldest_at(NOON, 10**5, EPOCH) == EPOCH


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        ([], frozenset()),
        (["de"], frozenset({"de", "en"})),
        (["DE", "pt-BR"], frozenset({"de", "pt", "en"})),
        (["German", " ENGLISH "], frozenset({"de", "en"})),
        (["Deutsch", "fr"], frozenset({"de", "fr", "en"})),
        (["de", "some French"], frozenset()),
        (["Klingon"], frozenset()),
        (["es-419", "zh-Hans-CN"], frozenset({"es", "zh", "en"})),
    ],
)
def test_only_known_languages_leave_others_out(languages, expected):
    """A word that nobody knows says too little to hide posts by."""
    row = MemberRow(
        display_name="", headline="", about="", skills=[], place="", languages=languages,
        system_version=1, community_name="", community_language="en", vector=None,
        source_version=None, position=None,
    )  # fmt: skip

    assert languages_of(row) == expected
