"""What a pooled vector is made of adds up, whatever was liked and whenever."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.pooled_history import (
    NEAREST,
    NO_PLACE,
    Averages,
    Pool,
    PooledHistory,
    member_vector,
    parts,
    terms,
)

DIMS = 6
NEW = 4
AGES = st.lists(st.floats(-1.0, 400.0), max_size=12)


def units(draw: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors; every fourth is zeros, as of a post that is not embedded yet."""
    found = draw.standard_normal((count, DIMS)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found[::4][1:] = 0.0
    return found


@given(ages=AGES, seed=st.integers(0, 1 << 30), weight=st.sampled_from([0.0, 1.0, 3.0]))
def test_the_parts_of_nearness_add_up_to_it(ages, seed, weight):
    draw = np.random.default_rng(seed)
    how = PooledHistory(profile_weight=weight)
    averages = Averages(units(draw, 1)[0] / 2, units(draw, 1)[0] / 2)
    profile, liked = units(draw, 1)[0], units(draw, len(ages))
    found = terms(profile, liked, np.array(ages), averages, how)
    pool = Pool(
        ids=np.zeros((len(ages), 2), np.int64), at=np.zeros(len(ages), np.int64), terms=found
    )
    posts = units(draw, NEW)

    told = parts(pool, posts)

    vector = member_vector(profile, liked, np.array(ages), averages, how)
    np.testing.assert_allclose(pool.vector, vector, atol=1e-6)
    assert np.linalg.norm(vector) < 1e-6 or abs(np.linalg.norm(vector) - 1) < 1e-5
    given_by = posts @ found.T
    np.testing.assert_allclose(given_by.sum(axis=1), posts @ vector, atol=1e-5)
    np.testing.assert_allclose(told.profile, given_by[:, 0], atol=1e-6)
    for row in range(NEW):
        best = sorted((one for one in given_by[row, 1:].tolist() if one > 0), reverse=True)[
            :NEAREST
        ]
        there = told.places[row] != NO_PLACE
        np.testing.assert_allclose(told.amounts[row][there], best, atol=1e-6)
        assert not told.amounts[row][~there].any()
        np.testing.assert_allclose(
            given_by[row, 1:][told.places[row][there]], told.amounts[row][there], atol=1e-6
        )


@given(ages=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=12), seed=st.integers(0, 1 << 30))
def test_what_is_liked_later_weighs_more_and_what_is_not_embedded_weighs_nothing(ages, seed):
    draw = np.random.default_rng(seed)
    same = np.tile(units(draw, 1)[0], (len(ages), 1))

    found = terms(
        np.zeros(DIMS, np.float32), same, np.array(ages), Averages.nothing(DIMS), PooledHistory()
    )

    lengths = np.linalg.norm(found[1:], axis=1)
    order = np.argsort(ages, kind="stable")
    assert (np.diff(lengths[order]) <= 1e-6).all()
    assert not found[0].any()
    without = same.copy()
    without[0] = 0.0
    gone = terms(
        np.zeros(DIMS, np.float32), without, np.array(ages), Averages.nothing(DIMS), PooledHistory()
    )
    assert not gone[1].any()
