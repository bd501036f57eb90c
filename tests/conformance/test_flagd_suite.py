"""Goal: every row of flagd's public suite holds, or says why it is not ours.

The suite lies beside the repository; without it the tables in this folder are what is tested.
"""

from pathlib import Path

import pytest

from millrace.lab import flag_suite
from millrace.lab.gherkin import Row

SUITE = Path(__file__).parents[3] / "shared" / "conformance" / "flagd"
ROWS = flag_suite.rows(SUITE) if SUITE.exists() else []
FEATURES = 11
ROWS_LEAST = 140
ROWS_OF_V1 = 15

pytestmark = pytest.mark.skipif(not SUITE.exists(), reason=f"{SUITE} is not on this machine")


@pytest.fixture(scope="module")
def flags():
    return flag_suite.flags(SUITE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_row_holds(row: Row, flags):
    played = flag_suite.play(row, flags)

    if played.skipped:
        pytest.skip(played.skipped)
    assert played.failure == ""


def test_every_row_is_there_and_only_those_of_another_bucketing_are_left_out(flags):
    played = [flag_suite.play(row, flags) for row in ROWS]

    assert len(list((SUITE / "gherkin").glob("*.feature"))) == FEATURES
    assert len(ROWS) >= ROWS_LEAST
    assert len([one for one in played if one.skipped]) == ROWS_OF_V1
    assert [one.failure for one in played if one.failure] == []
