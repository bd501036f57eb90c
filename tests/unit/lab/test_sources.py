"""The old sources give what they have, and together as many as each gives alone."""

import json
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.community.types import (
    Action,
    Audience,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    MemberDraft,
    PostDraft,
)
from millrace.kernel.errors import InvalidError, SetupError
from millrace.lab.collaborative import Collaborative, Factors
from millrace.lab.dataset import Dataset
from millrace.lab.exam import World
from millrace.lab.quality import DEPTH
from millrace.lab.sources import NAMES, Dials, Sources, outside, tuned_shares, union, young
from millrace.lab.trained import trained

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=10)
PEOPLE = [f"m{one}" for one in range(12)]


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def made(name: str, author: str, day: float, home: str = "quay") -> tuple[str, PostDraft]:
    audience = Audience.COMMUNITY if home == "quay" else Audience.PUBLIC
    draft = PostDraft(
        external_id=name, author=author, text=name, audience=audience, created_at=at(day)
    )
    return home, draft


def liked(member: str, post: str, day: float) -> tuple[str, EngagementDraft]:
    draft = EngagementDraft(member=member, post=post, kind=Action.CLICK, happened_at=at(day))
    return "quay", draft


@pytest.fixture
def world() -> World:
    """Six of twelve people like even posts and six odd ones; m0 has not looked at three of them."""
    members = [
        (
            "quay",
            MemberDraft(
                external_id=name,
                display_name=name,
                place="The Mole" if number < 6 else "the hill",
                joined_at=at(0),
            ),
        )
        for number, name in enumerate([*PEOPLE, "new"])
    ]
    members.append(("far", MemberDraft(external_id="zoe", display_name="Zoe", joined_at=at(0))))
    posts = [made(f"p{one}", PEOPLE[11 - one % 2], one / 10) for one in range(12)]
    posts += [made("away", "zoe", 9.5, "far"), made("fresh", "m3", 9.8)]
    engagements = [
        liked(name, f"p{post}", 5 + post / 10)
        for number, name in enumerate(PEOPLE[:10])
        for post in range(number % 2, 12, 2)
        if number or post < 6
    ]
    return World(
        Dataset(
            communities=[
                CommunityDraft(external_id="quay", name="Quay"),
                CommunityDraft(external_id="far", name="Far"),
            ],
            members=members,
            posts=posts,
            engagements=[*engagements, liked("m7", "p1", 9.9), liked("m9", "p1", 9.9)],
            follows=[
                ("quay", FollowDraft(member="m0", target="m11", created_at=at(1))),
                ("quay", FollowDraft(member="m0", target="m3", created_at=at(11))),
            ],
        )
    )


def names(world: World, posts: list[int]) -> list[str]:
    return [world.posts[one][1] for one in posts]


def test_a_network_is_the_community_and_whom_one_follows(world: World):
    candidates = world.candidates(0, NOW)
    everything = Sources(world, NOW, Dials(), 1).of("network", 0, candidates)
    followed = Sources(world, NOW, Dials(followed_first=True), 1).of("network", 0, candidates)

    assert names(world, everything)[:3] == ["fresh", "p11", "p10"]
    assert "away" in names(world, candidates.tolist())
    assert "away" not in names(world, everything)
    assert names(world, followed)[:3] == ["p10", "p8", "p6"]  # the other follow is of tomorrow
    assert sorted(followed) == sorted(everything)


def test_trending_forgets_and_knows_a_place(world: World):
    candidates = world.candidates(world.member_of["quay", "new"], NOW)
    new = world.member_of["quay", "new"]

    quick = Sources(world, NOW, Dials(trending_days=0.25, trending_place_days=0.25), 1)
    slow = Sources(world, NOW, Dials(trending_days=64.0), 1)

    assert names(world, quick.of("trending", new, candidates))[0] == "p1"
    assert names(world, quick.of("trending_place", new, candidates))[0] == "p1"  # on the hill
    assert names(world, quick.of("trending_place", 1, candidates))[0] == "p11"  # on the mole
    assert len(slow.of("trending", new, candidates)) == 12  # nobody did anything with two


def test_collaborative_filtering_knows_whom_it_has_met(world: World):
    sources = Sources(world, NOW, Dials(collaborative=Factors(4, 10.0, 0.1)), 1)
    candidates = world.candidates(0, NOW)

    found = names(world, sources.of("collaborative", 0, candidates))

    assert set(found[:3]) == {"p6", "p8", "p10"}
    assert not {"fresh", "away"} & set(found)
    new = world.member_of["quay", "new"]
    assert sources.of("collaborative", new, world.candidates(new, NOW)) == []


def test_without_implicit_it_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)

    with pytest.raises(SetupError, match="needs implicit") as refused:
        Collaborative(world.moment(NOW), Factors(), 1)

    assert "--group dev" in (refused.value.next_step or "")


def test_a_source_alone_is_filled_up_with_the_newest(world: World):
    sources = Sources(world, NOW, Dials(), 1)
    candidates = world.candidates(0, NOW)
    old = world.post_of["quay", "p6"]

    found = sources.alone([old], candidates)

    assert names(world, found)[:3] == ["p6", "fresh", "away"]
    assert sorted(found) == sorted(candidates.tolist())


def test_what_is_outside_the_network_and_what_is_young(world: World):
    followed = Sources(world, NOW, Dials(), 1).followed(0)
    posts = frozenset(world.post_of["quay", name] for name in ("p0", "p1", "fresh"))

    assert names(world, sorted(outside(world, followed, posts))) == ["p1", "fresh"]
    assert names(world, sorted(young(world.moment(NOW), posts, 1.0))) == ["fresh"]


lists = st.lists(st.integers(0, 400), unique=True, max_size=200)


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, lists)), st.tuples(*[st.integers(0, 3)] * 5))
def test_a_union_gives_as_many_as_there_are_and_none_twice(found, shares):
    every = {one for name, share in zip(NAMES, shares, strict=True) if share for one in found[name]}

    together = union(found, shares)

    assert len(together) == len(set(together)) == min(len(every), DEPTH)
    assert set(together) <= every


def test_a_union_goes_round_and_lets_others_go_on():
    found = dict(zip(NAMES, ([1, 2, 3], [1, 4], [], [5], [6, 7, 8, 9]), strict=True))

    assert union(found) == [1, 4, 5, 6, 2, 7, 3, 8, 9]
    assert union(found, (0, 1, 1, 1, 2)) == [1, 5, 6, 7, 4, 8, 9]


def test_shares_are_those_that_do_best():
    best = np.array([0, 2, 1, 0, 4])

    assert tuned_shares(lambda one: -float(np.abs(np.array(one) - best).sum())) == tuple(best)
    alone = {(0, 1, 0, 0, 0): 3.0, (0, 0, 0, 0, 1): 2.0, (1, 1, 1, 1, 1): 1.0}
    assert tuned_shares(lambda one: alone.get(one, 0.0)) == (0, 1, 0, 0, 0)


def test_a_model_that_knows_the_answers_is_not_asked(tmp_path):
    lineage = {"data": "x", "start": "y", "cut_at": at(3).isoformat()}
    (tmp_path / "data.json").write_text(json.dumps(lineage))

    with pytest.raises(InvalidError, match="was taught by what happened up to"):
        trained(tmp_path, at(2), elsewhere=False)

    assert trained(tmp_path, at(3), elsewhere=False).cut_at == at(3)
    assert trained(tmp_path, at(2), elsewhere=True).elsewhere
    (tmp_path / "data.json").unlink()
    assert trained(tmp_path, at(2), elsewhere=False).cut_at is None
