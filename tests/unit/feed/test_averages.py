"""When averages are made again, and of what: by how many vectors there are, and what is unknown."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from millrace.feed.averages import AGE, UNKNOWN, AveragesRow, Counted, due, mean

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MADE = AveragesRow(
    model_version="v", posts=b"", profiles=b"", posts_counted=100, profiles_counted=0, made_at=NOW
)


@pytest.mark.parametrize(
    ("known", "before", "stored", "later", "wanted"),
    [
        (None, None, Counted(0, 0), 0.0, True),  # never looked at
        (None, Counted(0, 0), Counted(0, 0), 9.0, False),  # there was nothing, and is nothing
        (None, Counted(0, 0), Counted(0, 1), 0.0, True),
        (MADE, Counted(7, 7), Counted(66, 7), 0.0, False),
        (MADE, Counted(7, 7), Counted(67, 7), 0.0, True),  # as many as half of 120
        (MADE, Counted(7, 7), Counted(7, 16), 0.0, False),
        (MADE, Counted(7, 7), Counted(7, 17), 0.0, True),  # as many as half of 20
        (MADE, Counted(7, 7), Counted(7, 7), 0.99, False),
        (MADE, Counted(7, 7), Counted(7, 7), 1.0, True),
    ],
)
def test_when_they_are_due(known, before, stored, later, wanted):
    assert due(known, before, stored, NOW + later * AGE) is wanted
    assert timedelta(hours=20) < AGE < timedelta(days=2)


@pytest.mark.parametrize("count", [1, 20, 2_000])
def test_the_mean_of_few_takes_little_away(count):
    """A handful of texts has its own mean, which is not what all texts share."""
    vector = np.array([0.6, 0.8], dtype="<f2")

    found = mean([vector.tobytes()] * count, 2)

    assert np.allclose(found, vector.astype(np.float32) * count / (count + UNKNOWN), atol=1e-6)


def test_the_mean_of_nothing_is_nothing():
    assert mean([], 3).tolist() == [0.0, 0.0, 0.0]
