"""The log of a served feed is read as it was written."""

from datetime import UTC, datetime

import numpy as np
import pytest

from millrace.community.types import Key
from millrace.feed import record
from millrace.feed.features import FEATURES
from millrace.feed.run import SEEN, Candidate, Request, Run, StageNote
from millrace.feed.types import Adjustment, Removal, SourceNote
from millrace.feed.value import ACTIONS
from millrace.kernel.errors import MillraceError

NOON = datetime(2026, 3, 1, tzinfo=UTC)


def made_run() -> Run:
    run = Run(request=Request(member=Key(1, 1), surface="feed", token="", now=NOON))
    run.features = np.random.default_rng(1).random((3, len(FEATURES)))
    run.probabilities = np.random.default_rng(2).random((3, len(ACTIONS)))
    for number in (2, 0, 1):
        one = Candidate(
            key=Key(1, 10 + number), row=number, value=0.5, score=0.25, reason="Because.",
            sources=[SourceNote("network", number, 0.5)], tier=SEEN if number == 1 else 0,
        )  # fmt: skip
        one.adjustments.append(Adjustment("diversity", "near", 0.5, 0.25))
        run.candidates.append(one)
    last = run.candidates.pop()
    run.candidates.append(last)
    run.removed.append((Candidate(key=Key(2, 99)), Removal("muted", "the member muted its author")))
    run.stages.append(StageNote("filters", 4, 3, {"muted": 1}, 0.5))
    run.versions["scorer"] = "prior-1"
    return run


def test_everything_comes_back():
    run = made_run()

    found = record.decode(record.encode(record.of(run)))

    assert [one.key for one in found.ranked] == [Key(1, 12), Key(1, 10), Key(1, 11)]
    assert found.fresh == 2
    assert found.ranked[2].seen
    assert record.notes(found.ranked[0].sources) == [SourceNote("network", 2, 0.5)]
    assert record.changes(found.ranked[0].adjustments) == [
        Adjustment("diversity", "near", 0.5, 0.25)
    ]
    np.testing.assert_allclose(found.feature_matrix(), run.features[[2, 0, 1]], rtol=1e-6)
    np.testing.assert_allclose(found.probability_matrix(), run.probabilities[[2, 0, 1]], rtol=1e-6)
    assert found.removed[0].stage == "muted"
    assert found.removed[0].row == -1
    assert found.stages[0].removed == {"muted": 1}


def test_an_empty_feed_is_a_record_too():
    run = Run(request=Request(member=Key(1, 1), surface="feed", token="", now=NOON))

    found = record.decode(record.encode(record.of(run)))

    assert found.ranked == []
    assert found.fresh == 0


def test_another_format_says_so():
    import zstandard

    with pytest.raises(MillraceError, match="a format that this release cannot read"):
        record.decode(zstandard.ZstdCompressor().compress(b"\x81\xa1a\x01"))
