"""Numbers that are due, judged many at once, are those that are due one by one."""

from bisect import bisect_left

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from millrace.community.percentiles import MIDDLE, RATE_PRIOR_VIEWS
from millrace.feed.numbers import AGES, METRICS, MOVED_MIN, NumbersRow, due

NOW = 1_700_000_000.0
HOUR = 3600
CUTS = st.one_of(st.none(), st.lists(st.floats(0, 200), min_size=1, max_size=12).map(sorted))
POST = st.fixed_dictionaries(
    {
        "community": st.sampled_from([1, 2]),
        "age": st.integers(-HOUR, 40 * 24 * HOUR),
        "made_ago": st.integers(0, 40 * 24 * HOUR),
        "counts": st.lists(st.integers(0, 200), min_size=7, max_size=7),
        "said": st.lists(st.integers(0, 100) | st.just(-100), min_size=6, max_size=6),
    }
)


def alone(post: dict, cuts: dict) -> bool:
    """Return whether one post is due, as the definition says it."""
    created, made = NOW - post["age"], NOW - post["made_ago"]
    if any(made < created + age.total_seconds() <= NOW for age in AGES):
        return True
    views, clicks, dwells, likes, comments, shares, followers = post["counts"]
    rate = (clicks + dwells + likes + comments + shares) / (views + RATE_PRIOR_VIEWS)
    values = [max(post["age"] / HOUR, 0.0), views, likes, comments, rate, followers]
    fresh = [
        MIDDLE if cuts[metric] is None else bisect_left(cuts[metric], value)
        for metric, value in zip(METRICS, values, strict=True)
    ]
    fresh[0] = 100 - fresh[0]
    return any(abs(a - b) >= MOVED_MIN for a, b in zip(fresh, post["said"], strict=True))


@given(
    st.lists(POST, min_size=1, max_size=8),
    st.lists(st.fixed_dictionaries(dict.fromkeys(METRICS, CUTS)), min_size=2, max_size=2),
)
def test_many_at_once_are_judged_as_one_by_one(posts: list[dict], scales: list[dict]) -> None:
    row = NumbersRow(
        communities=[post["community"] for post in posts],
        posts=list(range(len(posts))),
        created=[NOW - post["age"] for post in posts],
        made=[NOW - post["made_ago"] for post in posts],
        counts=[post["counts"] for post in posts],
        percentiles=[post["said"] for post in posts],
    )

    def of(cuts: dict):
        return lambda metric, values: (
            np.full(len(values), MIDDLE)
            if cuts[metric] is None
            else np.searchsorted(cuts[metric], values)
        )

    found = due(row, {1: of(scales[0]), 2: of(scales[1])}, NOW, RATE_PRIOR_VIEWS)

    assert found.tolist() == [alone(post, scales[post["community"] - 1]) for post in posts]
