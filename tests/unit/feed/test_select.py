"""From values to an order."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.community.types import (
    Audience,
    Key,
    Member,
    Post,
    PostCounts,
    PostKind,
    PostView,
    Role,
)
from millrace.feed import select
from millrace.feed.run import FRESH, SEEN, SERVED, Candidate
from millrace.feed.types import FeedConfig, SourceNote

NOON = datetime(2026, 3, 1, tzinfo=UTC)
CONFIG = FeedConfig()


def member(number: int) -> Member:
    return Member(
        community_id=1, member_id=number, external_id=str(number), handle=f"m{number}",
        display_name="", headline="", about="", skills=[], place="", languages=[],
        role=Role.MEMBER, joined_at=NOON, removed_at=None, system_version=1,
    )  # fmt: skip


def candidate(
    number: int, score: float, author: int = 0, tier: int = FRESH, source: str = "network"
):
    post = Post(
        community_id=1, post_id=number, external_id=str(number), author_id=author or number,
        kind=PostKind.NOTE, title="", text="", link="", topics=[], language="en",
        audience=Audience.COMMUNITY, created_at=NOON, edited_at=None, removed_at=None,
        system_version=1,
    )  # fmt: skip
    view = PostView(
        post=post, author=member(author or number), community_name="", counts=PostCounts(),
        liked=False, follows_author=False,
    )  # fmt: skip
    return Candidate(
        key=Key(1, number), view=view, row=number, value=score, score=score, tier=tier,
        sources=[SourceNote(source, 0, 0.0)],
    )  # fmt: skip


def apart(count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)


def numbers(found) -> list[int]:
    return [one.key.id for one in found]


def test_decay_is_that_of_the_source():
    assert [select.decay(k) for k in range(4)] == [1.0, 0.625, 0.4375, 0.34375]


def test_an_author_does_not_fill_the_top():
    """The second post of one author falls behind somebody else's slightly worse one."""
    found = select.decayed([candidate(1, 1.0, 7), candidate(2, 0.9, 7), candidate(3, 0.8, 8)])

    assert numbers(found) == [1, 3, 2]
    assert found[2].adjustments[0].stage == "author_decay"
    assert found[2].adjustments[0].before == 0.9
    assert found[2].adjustments[0].after == pytest.approx(0.9 * 0.625)


def test_a_score_below_zero_falls_too():
    found = select.decayed([candidate(1, -1.0, 7), candidate(2, -1.0, 7)])

    assert [one.score for one in sorted(found, key=lambda one: -one.score)] == [-1.0, -1.375]


def test_near_posts_are_spread():
    """The twin of the best post comes after the different one."""
    vectors = apart(4)
    vectors[2] = vectors[1]
    found = select.diverse(
        [candidate(1, 1.0), candidate(2, 0.95), candidate(3, 0.8)],
        vectors,
        FeedConfig(diversity=1.0),
    )

    assert numbers(found) == [1, 3, 2]
    assert found[2].adjustments[0].stage == "diversity"


def test_one_new_author_is_lifted_per_stretch():
    old = [candidate(n, 1.0 - n / 100) for n in range(1, 41)]
    new = [candidate(n, 0.1, source="exploration") for n in (41, 42, 43)]

    found = select.explored(old + new, CONFIG)

    places = [at for at, one in enumerate(found) if one.key.id > 40]
    assert places[:2] == [4, 24]
    assert found[4].adjustments[-1].stage == "exploration"
    assert len(found) == 43


def test_tiers_never_mix():
    found = select.ordered(
        [candidate(1, 0.1), candidate(2, 5.0, tier=SEEN), candidate(3, 2.0, tier=SERVED)],
        apart(5),
        CONFIG,
    )

    assert numbers(found) == [1, 3, 2]


def test_a_feed_has_every_pass():
    """Author decay, diversity and the slot for new authors are all in the order of a feed."""
    of_one = [candidate(1, 1.0, 7), candidate(2, 0.9, 7), candidate(3, 0.8, 8)]
    assert numbers(select.ordered(of_one, apart(4), CONFIG)) == [1, 3, 2]

    twins = apart(4)
    twins[2] = twins[1]
    near = [candidate(1, 1.0), candidate(2, 0.95), candidate(3, 0.8)]
    assert numbers(select.ordered(near, twins, FeedConfig(diversity=1.0))) == [1, 3, 2]

    known = [candidate(n, 1.0 - n / 100) for n in range(1, 9)]
    new = candidate(9, 0.1, source="exploration")
    assert numbers(select.ordered([*known, new], apart(10), CONFIG))[4] == 9


@given(
    st.lists(
        st.tuples(
            st.floats(-5, 5), st.integers(1, 4), st.sampled_from([FRESH, SERVED, SEEN]),
            st.sampled_from(["network", "exploration"]),
        ),
        max_size=30,
    ),
    st.integers(0, 3),
)  # fmt: skip
def test_selection_keeps_every_post_and_explains_every_score(drawn, seed):
    """Nothing is lost, tiers stay in order, adjustments chain from value to score."""
    posts = [
        candidate(n + 1, score, author, tier, source)
        for n, (score, author, tier, source) in enumerate(drawn)
    ]
    vectors = np.random.default_rng(seed).standard_normal((32, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    found = select.ordered(posts, vectors, FeedConfig(diverse_max=10))

    assert sorted(numbers(found)) == list(range(1, len(drawn) + 1))
    assert [one.tier for one in found] == sorted(one.tier for one in found)
    for one in found:
        chain = [one.value, *[change.after for change in one.adjustments]]
        assert [change.before for change in one.adjustments] == chain[:-1]
        assert chain[-1] == one.score
