"""Goal: a percentile never falls as the value rises, and stays within 0 to 100."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.community.percentiles import METRICS, Scales, engagement_rate
from millrace.community.types import PostCounts
from millrace.kernel.errors import InvalidError

numbers = st.floats(allow_nan=False, width=32)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(numbers, min_size=99, max_size=99).map(sorted),
    values=st.lists(numbers, min_size=2, max_size=20).map(sorted),
)
def test_monotone_and_bounded(cuts, values):
    """Whatever the cuts, also with many equal ones."""
    scales = Scales({"views": cuts})
    percentiles = [scales.of("views", value) for value in values]

    assert percentiles == sorted(percentiles)
    assert all(0 <= one <= 100 for one in percentiles)


def test_a_value_below_all_is_0_and_one_above_all_is_99():
    """The ends of a scale."""
    scales = Scales({"likes": list(range(1, 100))})

    assert [scales.of("likes", value) for value in (0, 1, 50, 50.5, 99, 1e9)] == [
        0,
        0,
        49,
        50,
        98,
        99,
    ]


@pytest.mark.parametrize("metric", METRICS)
def test_without_samples_everything_is_in_the_middle(metric):
    """Nothing is known, and nothing is claimed."""
    assert {Scales({}).of(metric, value) for value in (-1, 0, 1e9)} == {50}


def test_an_unknown_metric_is_named():
    """A typing error is no percentile of 50."""
    with pytest.raises(InvalidError, match="metric 'veiws' is unknown"):
        Scales({}).of("veiws", 1)


def test_one_like_on_one_view_is_no_record():
    """The rate of a post with few views is damped."""
    small, large = PostCounts(views=1, likes=1), PostCounts(views=1_000, likes=200)

    assert engagement_rate(small) < engagement_rate(large)
    assert engagement_rate(PostCounts()) == 0
