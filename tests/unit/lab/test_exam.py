"""An exam never lets the future into a question, and every rival ranks what it is given."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from millrace.community.types import (
    Action,
    Audience,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
)
from millrace.kernel.errors import InvalidError
from millrace.lab import rivals
from millrace.lab.dataset import Dataset, between
from millrace.lab.exam import World
from millrace.lab.exams import of_log

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def post(name: str, author: str, day: float, **fields) -> tuple[str, PostDraft]:
    draft = PostDraft(external_id=name, author=author, text=name, created_at=at(day), **fields)
    return fields.pop("home", "quay"), draft


def engaged(member: str, thing: str, day: float, kind=Action.CLICK) -> tuple[str, EngagementDraft]:
    return "quay", EngagementDraft(member=member, post=thing, kind=kind, happened_at=at(day))


@pytest.fixture
def data() -> Dataset:
    members = [
        ("quay", MemberDraft(external_id=name, display_name=name, joined_at=at(day)))
        for name, day in (("ada", 0), ("ben", 0), ("cy", 6))
    ]
    return Dataset(
        communities=[
            CommunityDraft(external_id="quay", name="Quay"),
            CommunityDraft(external_id="hill", name="Hill"),
        ],
        members=members,
        posts=[
            post("p0", "ada", 0),
            post("p1", "ben", 1),
            post("p2", "ben", 2),
            post("p3", "ben", 6),
            ("hill", PostDraft(external_id="h", author="zoe", text="h", created_at=at(1))),
            (
                "hill",
                PostDraft(
                    external_id="open",
                    author="zoe",
                    text="open",
                    created_at=at(1),
                    audience=Audience.PUBLIC,
                ),
            ),
        ],
        comments=[
            (
                "quay",
                CommentDraft(
                    external_id="c", author="ada", post="p2", text="yes", created_at=at(5.5)
                ),
            )
        ],
        impressions=[("quay", ImpressionDraft(member="ada", post="p1", shown_at=at(2)))],
        engagements=[
            engaged("ada", "p0", 1),
            engaged("ben", "p0", 3),
            engaged("ada", "p2", 5.7, Action.HIDE),
            engaged("ada", "p3", 6.5),
            engaged("cy", "p1", 7),
        ],
    )


def names(world: World, posts) -> set[str]:
    return {world.posts[one][1] for one in posts}


def test_candidates_are_what_could_be_new(data):
    """Not the own, not the shown, not the later, not what another community keeps to itself."""
    world = World(data)

    assert names(world, world.candidates(0, at(5))) == {"p2", "open"}
    assert names(world, world.candidates(1, at(2.5))) == {"p0", "open"}
    assert names(world, world.candidates(1, at(4))) == {"open"}


def test_what_counts_afterwards(data):
    """A comment counts, a hide does not, nor a post that was not there, nor one who came later."""
    world = World(data)

    found = {
        world.members[one][1]: names(world, posts)
        for one, posts in world.afterwards(at(5), at(8)).items()
    }
    assert found == {"ada": {"p2"}}
    assert world.afterwards(at(6.2), at(8)).keys() == {0, 2}


def test_a_moment_knows_nothing_later(data):
    world = World(data)

    moment = world.moment(at(2))

    assert moment.past_posts.tolist() == [0]
    assert (moment.created_days[[3]] < 0).all()
    assert moment.history(0).tolist() == [0]
    assert moment.history(1).tolist() == []


def test_a_stretch_is_loaded_once(data):
    first = between(data.posts, "created_at", None, at(1))
    second = between(data.posts, "created_at", at(1), at(9))

    assert len(first) + len(second) == len(data.posts)
    assert {one.external_id for _, one in first} == {"p0", "p1", "h", "open"}


def test_too_little_is_refused_with_the_number(data):
    with pytest.raises(InvalidError, match="5 positive engagements"):
        of_log("quay", data, 2)


def test_rivals_rank(data):
    world = World(data)
    moment = world.moment(at(8))
    all_of_them = np.arange(len(world.posts))

    assert rivals.newest_first(moment, all_of_them)[0] == 3
    assert rivals.best(np.zeros(len(all_of_them)), all_of_them, moment)[0] == 3
    assert sorted(rivals.at_random(all_of_them, 1)) == all_of_them.tolist()
    assert rivals.best(rivals.popularity(moment, 64.0), all_of_them, moment)[0] == 0
    assert rivals.best(rivals.popularity(moment, 0.25), all_of_them, moment)[0] == 1


def test_words_find_other_forms_and_ignore_what_they_do_not_know():
    words = rivals.Words(["The boats were lifted by locks.", "Bread, freshly baked.", "A meeting."])

    assert words.scores("lifting a boat, xyzzy").argmax() == 0
    assert words.scores("a baker of breads").argmax() == 1
    assert not words.scores("xyzzy").any()
    assert not words.scores("").any()
