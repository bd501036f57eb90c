"""What is pooled at a moment was known at that moment: engagements, their ages, and averages."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from millrace.community.types import (
    Action,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    MemberDraft,
    PostDraft,
)
from millrace.feed.pooled_history import (
    STEPS_PER_HALF_LIFE,
    Averages,
    PooledHistory,
    member_vector,
)
from millrace.feed.testing import FakeEncoder
from millrace.lab import pools
from millrace.lab.dataset import Dataset
from millrace.lab.exam import World
from millrace.lab.pools import pools_at
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.vectors import encoded, in_both_forms, prompts_at

START = datetime(2026, 1, 1, tzinfo=UTC)
HOW = PooledHistory(profile_weight=2.0, half_life_days=4.0, posts_max=3)
ADA, BEN, CY = range(3)


class Reading(FakeEncoder):
    """A fake that encodes in this thread, and remembers what it was asked."""

    def __init__(self, history: PooledHistory | None = None) -> None:
        super().__init__(history=history)
        self.asked = 0

    def encode(self, prompts):
        self.asked += len(prompts)
        rows = [self._vector(one) for one in prompts]
        return np.array(rows, dtype=np.float32).reshape(-1, self.dims)


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def click(member: str, post: str, day: float, kind=Action.CLICK) -> tuple[str, EngagementDraft]:
    return "quay", EngagementDraft(member=member, post=post, kind=kind, happened_at=at(day))


@pytest.fixture
def data() -> Dataset:
    """Posts p0 to p7, one a day from day 0 on; cy joins on day 6."""
    return Dataset(
        communities=[CommunityDraft(external_id="quay", name="Quay")],
        members=[
            ("quay", MemberDraft(external_id=name, display_name=name, headline=f"{name}s trade",
                                 joined_at=at(day)))
            for name, day in (("ada", 0), ("ben", 0), ("cy", 6))
        ],
        posts=[
            ("quay", PostDraft(external_id=f"p{day}", author="ben", text=f"word{day} more",
                               created_at=at(day)))
            for day in range(8)
        ],
        engagements=[click("ada", "p0", 1), click("ada", "p1", 2), click("ada", "p0", 3)],
    )  # fmt: skip


def facts(data: Dataset) -> PromptFacts:
    return PromptFacts(World(data))


def test_a_post_counts_once_by_its_newest_engagement(data):
    data.comments.append(
        ("quay", CommentDraft(external_id="c", post="p2", author="ada", text="so", created_at=at(2.5)))
    )  # fmt: skip
    found = facts(data).liked(ADA, at(4), 40)

    assert found.posts == [0, 2, 1]
    assert found.ages_days == pytest.approx([1.0, 1.5, 2.0])
    assert facts(data).liked(ADA, at(4), 2).posts == [0, 2]
    assert facts(data).liked(BEN, at(4), 40).posts == []


def test_an_engagement_of_later_is_not_known_and_makes_no_age_younger(data):
    data.engagements += [click("ada", "p1", 4.5), click("ada", "p3", 5)]

    found = facts(data).liked(ADA, at(4), 40)

    assert found.posts == [0, 1]
    assert found.ages_days == pytest.approx([1.0, 2.0])
    assert facts(data).liked(ADA, at(5), 40).posts == [3, 1, 0]


def test_posts_of_somebody_blocked_are_not_pooled(data):
    data.engagements.append(click("ada", "p1", 3.5, Action.BLOCK))

    assert facts(data).liked(ADA, at(3.2), 40).posts == [0, 1]
    assert facts(data).liked(ADA, at(4), 40).posts == []


def test_posts_that_were_hidden_are_not_pooled(data):
    data.engagements += [click("ada", "p1", 3.5, Action.HIDE), click("ada", "p0", 4.5, Action.HIDE)]

    assert facts(data).liked(ADA, at(3.2), 40).posts == [0, 1]
    assert facts(data).liked(ADA, at(4), 40).posts == [0]


def test_averages_are_made_from_what_exists(data):
    found = pools_at(facts(data), at(4), [ADA], HOW)

    assert found.averaged_posts == [0, 1, 2, 3, 4]
    assert found.averaged_members == [ADA, BEN]
    later = pools_at(facts(data), at(6), [ADA], HOW)
    assert (later.averaged_posts, later.averaged_members) == ([*range(7)], [ADA, BEN, CY])


def test_of_many_the_same_ones_are_averaged_each_time(data, monkeypatch):
    monkeypatch.setattr(pools, "AVERAGED_POSTS_MAX", 3)

    found = [pools_at(facts(data), at(7), asked, HOW) for asked in ([ADA], [BEN, CY])]

    assert len(set(found[0].averaged_posts)) == 3
    assert found[0].averaged_posts == found[1].averaged_posts


@pytest.mark.parametrize("asked", [[4, 5], []])
def test_members_are_pooled_as_the_formula_says(data, asked):
    """Whatever posts are asked for: what is liked and averaged is read too, and nothing later."""
    encoder = Reading(HOW)
    vectors = encoded(prompts_at(facts(data), at(5), [ADA, BEN], asked, encoder), encoder)

    bare = Reading()
    told = prompts_at(facts(data), at(5), [ADA, BEN], range(6), bare)
    posts = bare.encode(told.post_prompts)
    profiles = encoded(prompts_at(facts(data), START, [ADA, BEN], [], bare), bare).members
    averages = Averages(posts.sum(axis=0) / 26, profiles.sum(axis=0) / 22)
    step = 4 / STEPS_PER_HALF_LIFE
    early = (at(5) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(days=1) % step
    ages = np.array([2.0, 3.0]) - early
    ours = member_vector(profiles[ADA], posts[[0, 1]], ages, averages, HOW)
    assert vectors.members[ADA] == pytest.approx(ours, abs=1e-5)
    new = member_vector(profiles[BEN], posts[[]], ages[:0], averages, HOW)
    assert vectors.members[BEN] == pytest.approx(new, abs=1e-5)


def test_what_happens_later_changes_no_vector(data):
    def made(known: Dataset):
        encoder = Reading(HOW)
        return encoded(prompts_at(facts(known), at(4), [ADA, BEN], range(5), encoder), encoder)

    early = Dataset(communities=data.communities, members=data.members[:2], posts=data.posts[:5],
                    engagements=list(data.engagements))  # fmt: skip
    data.engagements += [click("ada", "p1", 4.5), click("ben", "p6", 7), click("cy", "p5", 6)]

    assert np.allclose(made(early).members, made(data).members[:2], atol=1e-6)
    assert np.allclose(made(early).posts, made(data).posts[:5], atol=1e-6)


def test_two_forms_of_an_encoder_read_a_post_once(data):
    encoder = Reading()
    prompt, pooled = in_both_forms(encoder, HOW)

    old = encoded(prompts_at(facts(data), at(4), [ADA], range(5), prompt), prompt)
    read = encoder.asked
    new = encoded(prompts_at(facts(data), at(4), [ADA], range(5), pooled), pooled)

    assert (prompt.history, pooled.history) == (None, HOW)
    assert np.array_equal(old.posts, new.posts)
    assert read == 6
    assert encoder.asked == read + 2, "the profiles of ada and ben alone"
    assert not np.allclose(old.members[ADA], new.members[ADA])
    assert np.allclose(old.posts, Reading().encode(prompts_at(
        facts(data), at(4), [], range(5), encoder).post_prompts))  # fmt: skip
