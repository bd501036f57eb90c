"""The lens: it learns a turn that is there, nothing from nothing, and never from what comes later."""

import numpy as np
import pytest

from millrace.feed.lens import Meetings, learned

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
    )


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
    np.testing.assert_allclose(values, np.clip(expected, -1, 1), atol=1e-5)
    np.testing.assert_allclose(
        lens.near(meetings.posts[:6], meetings.members[0]), values[:6], atol=1e-5
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
    assert not np.allclose(lens.near(meetings.posts[:6], meetings.members[0]), after[:6])
