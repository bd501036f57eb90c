"""Goal: a town is the same everywhere, stays in its bounds, and its tastes show in what is done."""

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from millrace.community.types import POSITIVE_ACTIONS
from millrace.kernel.errors import InvalidError
from millrace.world.simulator.behaviour import looks
from millrace.world.simulator.draws import Draws
from millrace.world.simulator.making import make
from millrace.world.simulator.tastes import mixed
from millrace.world.simulator.types import ACTIONS, DAY, LIVE_SECONDS, TownConfig

SMALL = {"members": 200, "posts": 700, "impressions": 12_000, "days": 10, "communities": 2}
TINY = {"members": 24, "posts": 80, "impressions": 200, "days": 3, "communities": 2}
POSITIVE = [ACTIONS.index(action) for action in sorted(POSITIVE_ACTIONS)]


def silent(_what, _count, _of):
    """Watch nothing."""


@cache
def town(**changed):
    """Make a small town; the same one is made once."""
    return make(TownConfig(**{**SMALL, **changed}), silent)


def engaged(made):
    """Return, for each impression, whether its member engaged with its post."""
    posts = len(made.posts)
    positive = np.isin(made.done.kind, POSITIVE)
    pairs = made.done.member[positive] * posts + made.done.post[positive]
    return np.isin(made.shown.member * posts + made.shown.post, pairs)


def fits(made):
    """Return, for each impression, how well the post met the member's interests."""
    shown = made.shown
    return made.truth.fit(shown.member, shown.post[:, None], shown.at)[:, 0]


# ------------------------------------------------- the same everywhere


DIGEST = f"""
from millrace.world.simulator.making import make
from millrace.world.simulator.types import TownConfig
print(make(TownConfig(**{TINY!r}), lambda *_: None).digest())
"""


def test_two_processes_make_the_same_town():
    """Neither the hashes of Python nor the number of threads have a part in it."""
    digests = set()
    for number in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": number, "OMP_NUM_THREADS": number}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())

    assert len(digests) == 1
    assert digests == {make(TownConfig(**TINY), silent).digest()}


@pytest.mark.parametrize("name", ["seed", "drift", "noise", "popularity", "overlap"])
def test_every_parameter_makes_another_town(name):
    plain = make(TownConfig(**TINY), silent)
    other = make(TownConfig(**TINY, **{name: 7 if name == "seed" else 1.0}), silent)

    assert plain.digest() != other.digest()


def test_the_bits_of_the_draws_are_known():
    """Whoever replaces the generator changes every town: these numbers stay."""
    draws = Draws(1, "example")

    assert [round(one, 12) for one in draws.uniform(3)] == EXPECTED_UNIFORM
    assert draws.below(1000, 4).tolist() == EXPECTED_BELOW


EXPECTED_UNIFORM = [0.707831883843, 0.065308453429, 0.217757824838]
EXPECTED_BELOW = [670, 529, 906, 432]


# ------------------------------------------------- bounds


def test_a_town_has_what_was_asked_for():
    made = town()

    assert len(made.people) == SMALL["members"]
    assert len(made.posts) == SMALL["posts"]
    assert 0.995 * SMALL["impressions"] <= len(made.shown) <= SMALL["impressions"]
    assert len(made.places) == SMALL["communities"]
    assert all(post.text and len(post.text) < 5000 for post in made.posts)


def test_nothing_happens_out_of_time_or_place():
    """No post before its author, no page before its posts, nothing from another community."""
    made = town()
    span = SMALL["days"] * DAY
    homes = np.array([one.community for one in made.people])
    joined = np.array([one.joined for one in made.people])
    created = np.array([one.created for one in made.posts])
    author = np.array([one.author for one in made.posts])
    home_of = np.array([one.community for one in made.posts])
    shown, done = made.shown, made.done

    assert (joined[author] < created).all()
    assert (homes[author] == home_of).all()
    for log in (shown, done):
        assert (log.at < span).all()
        assert (joined[log.member] < log.at).all()
        assert (created[log.post] < log.at).all()
        assert (homes[log.member] == home_of[log.post]).all()
        assert (author[log.post] != log.member).all()
        assert (np.diff(log.at) >= 0).all()
    assert (shown.at - created[shown.post] < LIVE_SECONDS + DAY).all()
    for bond in made.bonds:
        assert bond.member != bond.target
        assert max(joined[bond.member], joined[bond.target]) < bond.created < span
    for place, remark in enumerate(made.remarks):
        assert created[remark.post] < remark.created < span
        assert remark.parent < place
        if remark.parent >= 0:
            assert made.remarks[remark.parent].post == remark.post


def test_nobody_is_shown_a_post_twice():
    made = town()
    pairs = made.shown.member * len(made.posts) + made.shown.post

    assert len(np.unique(pairs)) == len(pairs)


def test_whoever_turned_away_is_not_shown_the_author_again():
    made = town()
    author = np.array([one.author for one in made.posts])
    against = np.isin(made.done.kind, [ACTIONS.index("mute"), ACTIONS.index("block")])
    assert against.any()
    for member, post, at in zip(
        made.done.member[against], made.done.post[against], made.done.at[against], strict=True
    ):
        later = (made.shown.member == member) & (made.shown.at > at + 3600)
        assert not (author[made.shown.post[later]] == author[post]).any()


def test_some_members_have_no_history():
    made = town(members=400)
    late = [at for at, one in enumerate(made.people) if one.joined > (SMALL["days"] - 1) * DAY]

    assert late
    assert set(range(400)) - set(made.shown.member.tolist())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"noise": 1.5}, "--noise"),
        ({"members": 3}, "--members"),
        ({"communities": 30, "members": 100}, "--members"),
        ({"posts": 30, "communities": 8}, "--posts"),
        ({"members": 100, "posts": 100, "impressions": 9000}, "--impressions"),
        ({"members": 20_000, "posts": 200_000, "communities": 1}, "--members"),
        ({"days": 0}, "--days"),
    ],
)
def test_what_is_no_town_is_refused(changed, field):
    with pytest.raises(InvalidError) as refused:
        TownConfig(**changed)

    assert refused.value.field == field
    assert refused.value.next_step


# ------------------------------------------------- tastes


def test_members_engage_with_what_meets_their_interests():
    made = town(noise=0.0)
    fit, did = fits(made), engaged(made)

    assert did[fit > 0.7].mean() > 5 * did[fit < 0.05].mean()


def test_noise_alone_knows_no_taste():
    made = town(noise=1.0)
    fit, did = fits(made), engaged(made)

    assert did[fit > 0.7].mean() < 1.3 * did[fit < 0.05].mean()


def test_what_happens_is_what_the_truth_says():
    """Of posts that are shown by chance and looked at, so many are engaged with as is told."""
    made = town()
    judged = made.judged(5 * DAY, 60)

    assert len(judged) > 0.9 * 60 * SMALL["members"]
    assert judged.engaged.mean() == pytest.approx(judged.appeal.mean(), abs=0.01)
    assert judged.appeal == pytest.approx(
        [
            made.truth.appeal(int(member), [int(post)], float(at))[0]
            for member, post, at in zip(judged.member, judged.post, judged.at, strict=True)
        ]
    )


def test_a_judgement_shows_live_posts_of_others_evenly():
    made = town()
    judged = made.judged(5 * DAY, 200)
    created = made.truth.traits.created[judged.post]
    age = judged.at - created

    assert (age > 0).all()
    assert (age <= LIVE_SECONDS).all()
    assert (judged.at >= 5 * DAY).all()
    assert (made.truth.traits.author[judged.post] != judged.member).all()
    again = made.judged(5 * DAY, 200)
    assert (again.post == judged.post).all()
    # Nothing of the old feed is in it: popular posts are not shown more than others.
    views = np.bincount(made.shown.post, minlength=len(made.posts))
    drawn = np.bincount(judged.post, minlength=len(made.posts))
    live = (made.truth.traits.created > 5 * DAY) & (made.truth.traits.created < 6 * DAY)
    assert abs(np.corrcoef(views[live], drawn[live])[0, 1]) < 0.3


@pytest.mark.parametrize("split", [0, SMALL["days"] * DAY])
def test_a_judgement_outside_the_town_is_refused(split):
    with pytest.raises(InvalidError):
        town().judged(split, 5)


def test_what_stands_first_is_looked_at_more():
    """Where taste has no part in engagement, only the place makes a difference."""
    made = town(noise=1.0)
    did = engaged(made)
    share = looks(10)

    first, last = did[made.shown.position < 3], did[made.shown.position > 8]

    assert len(last) > 1000
    assert first.mean() > 1.3 * last.mean()
    assert share[0] == 1.0
    assert (np.diff(share) < 0).all()


def changes(made):
    """Return how far the members' interests moved over the days, from 0 to 1."""
    everybody = np.arange(len(made.people))
    eye = np.eye(made.truth.topics)
    begin = mixed(made.truth.minds, everybody, np.zeros(len(everybody)), eye)
    end = mixed(made.truth.minds, everybody, np.full(len(everybody), SMALL["days"] * DAY), eye)
    assert begin.sum(axis=1) == pytest.approx(1.0)
    assert end.sum(axis=1) == pytest.approx(1.0)
    return np.abs(begin - end).sum(axis=1) / 2


def test_interests_drift_as_far_as_is_asked_for():
    none, some, much = (changes(town(drift=drift)).mean() for drift in (0.0, 0.5, 1.0))

    assert none == 0.0
    assert some > 0.3
    assert much > 1.2 * some


def test_interests_move_to_topics_that_are_near():
    made = town(drift=1.0)
    minds, near = made.truth.minds, made.truth.near
    before, after = minds.path[..., :-1].ravel(), minds.path[..., 1:].ravel()
    moved = before != after

    assert moved.any()
    assert (near[before[moved], after[moved]] > 0).all()


def inequality(made):
    """Return the Gini coefficient of how often posts were shown."""
    views = np.sort(np.bincount(made.shown.post, minlength=len(made.posts)))
    ranks = np.arange(1, len(views) + 1)
    return (2 * (ranks * views).sum() / views.sum() - len(views) - 1) / len(views)


def test_early_engagement_brings_exposure_as_far_as_is_asked_for():
    none, some, much = (inequality(town(popularity=one)) for one in (0.0, 0.5, 1.0))

    assert none < 0.75 * some
    assert some <= much


def test_few_authors_write_much_and_many_nothing():
    made = town()
    written = np.sort(np.bincount(made.truth.traits.author, minlength=len(made.people)))[::-1]

    assert written[: len(written) // 10].sum() > 0.3 * written.sum()
    assert (written == 0).mean() > 0.2


def test_longer_and_better_liked_posts_hold_longer():
    made = town()
    kept = made.done.dwell_ms > 0
    length = made.truth.traits.length[made.done.post[kept]]

    assert np.corrcoef(length, made.done.dwell_ms[kept])[0, 1] > 0.2
