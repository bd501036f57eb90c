"""The flags' benchmark prints the agreed keys and compares like with like. No time is judged."""

from pathlib import Path

import pytest

from millrace.kernel.errors import SetupError
from millrace.lab import bench_flags

KEYS = {
    "conformance_passed", "conformance_failed", "contexts", "static_us", "rule_us",
    "percentage_us", "country_semver_percentage_us", "flagd_core_us", "growthbook_us",
    "ratio_to_flagd_core", "seed", "machine", "versions", "seconds",
}  # fmt: skip
RULES = {"static", "rule", "percentage", "country_semver_percentage"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("growthbook", reason="growthbook is a development tool")
    pytest.importorskip(
        "openfeature.contrib.tools.flagd.core", reason="flagd-core is a development tool"
    )
    monkeypatch.setattr(bench_flags, "CONTEXTS_QUICK", 500)


def test_prints_the_agreed_keys_and_answers_as_flagd_does(small, tmp_path: Path):
    figures = bench_flags.run(quick=True, seed=4, suite=tmp_path / "absent")

    assert figures.keys() >= KEYS
    assert figures["contexts"] == 500
    assert figures["answers_unlike_flagd_core"] == 0
    assert figures["conformance_passed"] is None
    for peer in ("flagd_core_us", "growthbook_us"):
        column = figures[peer]
        assert isinstance(column, dict)
        assert column.keys() == RULES


def test_every_member_is_another_one():
    found = bench_flags.members(bench_flags.rng(1), 1_000)

    assert len({str(context) for context in found}) == 1_000


def test_a_missing_peer_is_named_with_the_next_step(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str):
        raise ImportError(name)

    monkeypatch.setattr(bench_flags, "import_module", absent)

    with pytest.raises(SetupError, match="growthbook") as caught:
        bench_flags.growthbook()

    assert "pip install" in str(caught.value.next_step)
