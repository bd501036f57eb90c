"""The lens: it learns a turn that is there, nothing from nothing, and never from what comes later."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from millrace.feed.lens import NEIGHBOURS, POOL, Meetings, learned, pooled
from millrace.feed.scorer import prior

DIMS = 12


def unit(values):
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def met(moments, seed, *, each=6, turned=True):
    """Members who, each time, engage with the post nearest to what their vector turns into."""
    draws = np.random.default_rng(seed)
    turn = np.roll(np.eye(DIMS), 1, axis=0) if turned else np.eye(DIMS)
    members = unit(draws.normal(size=(moments, DIMS)))
    posts = unit(draws.normal(size=(moments, each, DIMS)))
    likes = np.einsum("mkd,md->mk", posts, members @ turn.T)
    engaged = likes == likes.max(axis=1, keepdims=True)
    return Meetings(
        members=members,
        posts=posts.reshape(-1, DIMS),
        moment=np.repeat(np.arange(moments), each),
        engaged=engaged.ravel(),
        known=posts.reshape(-1, DIMS),
        there=(1 + np.arange(moments)) * each,
    )


LENS, _ = learned(met(60, 4), "enc-1")


def found_first(meetings, values):
    """Return how often the engaged post of a moment has the highest value."""
    best = values.reshape(len(meetings.members), -1).argmax(axis=1)
    return float(
        (best == meetings.engaged.reshape(len(meetings.members), -1).argmax(axis=1)).mean()
    )


def test_a_lens_learns_what_members_turn_out_to_like():
    """An unseen member is served well by what was learned; the cosine is at chance."""
    lens, _ = learned(met(2_000, 1), "enc-1")
    unseen = met(300, 2)
    posts = unseen.posts.reshape(300, -1, DIMS)
    values = np.array([lens.near(posts[at], unseen.members[at]) for at in range(300)])
    cosines = np.einsum("mkd,md->mk", posts, unseen.members)

    assert lens.encoder == "enc-1"
    assert found_first(unseen, cosines) < 0.35
    assert found_first(unseen, values) > 0.65


def test_without_engagement_a_lens_takes_the_averages_away():
    meetings = met(50, 3)
    meetings.engaged[:] = False
    lens, values = learned(meetings, "enc-1")

    members = meetings.members - meetings.members.mean(axis=0)
    posts = meetings.posts - meetings.posts.mean(axis=0)
    expected = np.einsum("nd,nd->n", posts, members[meetings.moment])
    np.testing.assert_allclose(values[:, 0], np.clip(expected, -1, 1), atol=1e-5)
    np.testing.assert_allclose(
        lens.near(meetings.posts[:6], meetings.members[0]), values[:6, 0], atol=1e-5
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_comes_later_is_no_part_of_a_similarity(seed):
    """Other outcomes in the last fifth change no similarity before their own fifth has passed."""
    meetings = met(200, seed)
    _, before = learned(meetings, "enc-1")
    late = meetings.moment >= 160
    meetings.engaged[late] = ~meetings.engaged[late]
    lens, after = learned(meetings, "enc-1")

    np.testing.assert_array_equal(before, after)
    assert not np.allclose(lens.near(meetings.posts[:6], meetings.members[0]), after[:6, 0])


def plainly_around(lens, posts, near, pool):
    """Say the definition once more, one post at a time, with whole vectors."""
    apart = posts - np.frombuffer(lens.post, dtype="<f4")
    likeness = apart @ unit(apart[pool]).T
    return [near[pool[np.argsort(-row)[:NEIGHBOURS]]].mean() for row in likeness]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), among=st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_what_is_around_a_post_is_the_mean_of_those_most_like_it(seed, count, among):
    draws = np.random.default_rng(seed)
    posts = unit(draws.normal(size=(count, DIMS)))
    pool = draws.permutation(count)[:among]
    near = draws.uniform(-1, 1, size=count)
    found = LENS.around(posts, near, pool)

    np.testing.assert_allclose(found, plainly_around(LENS, posts, near, pool), atol=1e-4)
    order = draws.permutation(count)  # who asks in another order hears the same
    again = LENS.around(posts[order], near[order], np.argsort(order)[pool])
    np.testing.assert_allclose(again, found[order], atol=1e-5)


def test_no_posts_have_nothing_around_them():
    nothing = np.zeros((0, DIMS), np.float32)
    assert LENS.around(nothing, np.zeros(0), pooled(np.zeros(0))).shape == (0,)


@pytest.mark.parametrize("posts", [20, 900])
def test_a_replay_reads_what_serving_reads(posts):
    """Whoever was shown everything there is, gets the features of a feed of everything there is."""
    draws = np.random.default_rng(5)
    shown = unit(draws.normal(size=(posts, DIMS)))
    meetings = Meetings(
        members=unit(draws.normal(size=(2, DIMS))),
        posts=np.concatenate([shown, shown]),
        moment=np.repeat([0, 1], posts),
        engaged=np.zeros(2 * posts, dtype=np.bool_),
        known=shown,
        there=np.array([posts, posts]),
    )
    lens, values = learned(meetings, "enc-1")
    serving = replace(prior(), lens=lens)

    for moment in (0, 1):
        near = serving.near(shown, meetings.members[moment])
        np.testing.assert_allclose(values[meetings.moment == moment], near[:, 1:], atol=1e-5)
        np.testing.assert_allclose(near[:, 0], shown @ meetings.members[moment], atol=1e-6)


def test_a_post_that_was_not_there_yet_is_around_nothing():
    meetings = met(40, 6)
    _, before = learned(meetings, "enc-1")
    later = unit(np.random.default_rng(7).normal(size=(100, DIMS)))
    _, after = learned(replace(meetings, known=np.concatenate([meetings.known, later])), "enc-1")
    _, otherwise = learned(
        replace(
            meetings,
            known=np.concatenate([later, meetings.known]),
            there=meetings.there + len(later),
        ),
        "enc-1",
    )
    np.testing.assert_array_equal(before, after)
    assert not np.allclose(before[:, 1], otherwise[:, 1])


def test_the_pool_is_the_nearest_to_the_member():
    similarity = np.random.default_rng(8).normal(size=2 * POOL)
    assert sorted(pooled(similarity)) == sorted(np.argsort(-similarity)[:POOL])
    assert sorted(pooled(similarity[:POOL])) == list(range(POOL))
