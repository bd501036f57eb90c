"""Each filter takes out what it names, and nothing else."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from millrace.community.types import Audience, Key, PostKind, Relations
from millrace.feed import filters
from millrace.feed.catalogue import AuthorFacts, Catalogue, PostFacts
from millrace.feed.features import Subject
from millrace.feed.filters import FILTERS, oldest_at
from millrace.feed.history import PostList
from millrace.feed.profiles import languages_of
from millrace.feed.repository import MemberRow
from millrace.feed.run import FRESH, SEEN, SERVED, Known, MemberState, Request, Run, candidates

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
        "seen": PostList(), "served": frozenset(), "hidden": frozenset(), "liked": PostList(),
        "subject": Subject(community_id=1, languages=frozenset(), topics={}, words=frozenset(),
                           follows=frozenset(), affinity={}),
    }  # fmt: skip
    return MemberState(**(fields | changes))


def post(author: Key = AUTHOR, author_stands: bool = True, **changes):
    """One post in a catalogue of its own: the catalogue, and the post as a candidate."""
    facts = {
        "key": Key(author.community_id, 9), "author": author, "kind": PostKind.NOTE, "topics": [],
        "language": "en", "audience": Audience.COMMUNITY, "created_at": NOON,
    }  # fmt: skip
    catalogue = Catalogue(4)
    catalogue.put(PostFacts(**(facts | changes)), None)
    catalogue.put_author(AuthorFacts(key=author, name="", stands=author_stands))
    slots = np.array([0])
    return catalogue, candidates(slots, catalogue.index, np.zeros((1, 3)), np.zeros((1, 3)))


def judged_one(member: MemberState, made, oldest: datetime) -> tuple[str, str] | None:
    """The first filter that takes the post out, with its reason."""
    catalogue, posts = made
    run = Run(request=Request(member=member.key, surface="", token="", now=NOON))
    run.state, run.candidates = member, posts
    run.known = Known(hidden=catalogue.index.slots(member.hidden))
    judging = filters.judging(run, catalogue, oldest)
    found = filters.judged(judging)
    assert len(found) <= 1
    return (found[0][0], filters.reason(found[0][0], judging, 0)) if found else None


FAR = Key(2, 5)
CASES = {
    "removed": (state(), post(hidden=True)),
    "audience": (state(), post(author=FAR)),
    "blocked": (state(relations={"blocks": frozenset({AUTHOR})}), post()),
    "own_post": (state(), post(author=ME)),
    "muted": (state(relations={"mutes": frozenset({AUTHOR})}), post()),
    "hidden_post": (state(hidden=frozenset({Key(1, 9)})), post()),
    "age": (state(), post(created_at=NOON - timedelta(days=3))),
    "language": (state(languages=frozenset({"de"})), post()),
}


def test_every_filter_has_a_case():
    assert list(CASES) == [name for name, _ in FILTERS]


@pytest.mark.parametrize("name", CASES)
def test_filter_names_itself_and_its_reason(name):
    stage, reason = judged_one(*CASES[name], NOON - timedelta(days=2))

    assert stage == name
    assert reason


@pytest.mark.parametrize(
    ("member", "made"),
    [
        (state(), post()),
        (state(), post(author=FAR, audience=Audience.PUBLIC)),
        (state(relations={"nearby": frozenset({2})}), post(author=FAR, audience=Audience.NEARBY)),
        (state(languages=frozenset({"de"})), post(language="")),
        (state(languages=frozenset({"en", "de"})), post()),
        (state(languages=frozenset({"pt"})), post(language="pt")),
        (state(relations={"follows": frozenset({AUTHOR})}), post()),
    ],
)
def test_what_is_for_the_member_passes(member, made):
    assert judged_one(member, made, EPOCH) is None


def test_removed_author_and_nearby_of_another_direction():
    assert judged_one(state(), post(author_stands=False), EPOCH) == (
        "removed", "its author was removed or banned",
    )  # fmt: skip
    near = post(author=FAR, audience=Audience.NEARBY)
    assert judged_one(state(relations={"nearby": frozenset({3})}), near, EPOCH)[0] == "audience"


def test_a_slot_that_was_given_to_another_post_is_not_mistaken_for_it():
    """The post was removed while a feed was made, and its slot has another post by now."""
    catalogue, posts = post()
    catalogue.remove(Key(1, 9))
    catalogue.put(
        PostFacts(
            key=Key(1, 10), author=AUTHOR, kind=PostKind.NOTE, topics=[], language="en",
            audience=Audience.PUBLIC, created_at=NOON,
        ),
        None,
    )  # fmt: skip

    assert catalogue.slot(Key(1, 10)) == 0
    assert judged_one(state(), (catalogue, posts), EPOCH) == ("removed", "the post was removed")


def test_tiers():
    this, (catalogue, posts) = np.array([0]), post()

    def tier(**known) -> int:
        return filters.tiers_of(Known(**known), posts, catalogue.index.capacity)[0]

    assert tier() == FRESH
    assert tier(served=this) == SERVED
    assert tier(seen=this, served=this) == SEEN


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
