"""The loader's benchmark prints the agreed keys. It is run small here, and no time is judged."""

import numpy as np
import pytest
from msgspec.structs import replace

from millrace.feed.examples import leaks
from millrace.feed.examples.reading import Examples
from millrace.feed.examples.types import ExportPlan
from millrace.lab import bench_loader, exams
from millrace.lab.data_examples import write_examples
from millrace.lab.dataset import Dataset
from millrace.world.loader import silent
from millrace.world.simulator.types import TownConfig

KEYS = {"rows_per_second", "dataloader_rows_per_second", "ratio"}
SHARED = {"seed", "machine", "versions", "seconds"}
TOWN = TownConfig(communities=2, members=100, posts=300, impressions=3_000, days=10)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return exams.of_town(TOWN, silent).data


def test_prints_the_agreed_keys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_loader, "TOWN_QUICK", replace(TOWN, seed=5))
    monkeypatch.setattr(bench_loader, "PASSES_QUICK", 2)
    monkeypatch.setattr(bench_loader, "STEPS_MAX_QUICK", 2)

    figures = bench_loader.run(True, 5, None, lambda _: None)

    assert figures.keys() >= KEYS | SHARED
    assert (figures["seed"], figures["steps"], figures["batch"]) == (5, 4, 32)
    assert all(figures[key] > 0 for key in KEYS)
    assert figures["cpu_us_per_row"] > 0 < figures["dataloader_cpu_us_per_row"]
    padding = [figures[f"padding_{way}"] for way in ("one_array", "pieces", "packed_rows")]
    assert all(0 <= share < 1 for one in padding for share in one.values())
    assert padding[1]["all"] <= padding[0]["all"]


def test_texts_of_rows_are_counted_where_they_fit_best():
    assert bench_loader._rows([200, 100, 90, 60, 56]) == 2
    assert bench_loader._rows([]) == 0


def test_a_data_set_in_memory_makes_examples_that_do_not_leak(data, tmp_path):
    """The same bytes for the same data, and what ends earlier is the beginning of the same."""
    whole = write_examples(data, ExportPlan(until=TOWN.end), tmp_path / "whole")
    again = write_examples(data, ExportPlan(until=TOWN.end), tmp_path / "again")
    cut = TOWN.start + (TOWN.end - TOWN.start) / 2
    early = write_examples(data, ExportPlan(until=cut), tmp_path / "early")

    for folder in (whole, early):
        leaks.check(folder)
    examples, before = Examples(whole), Examples(early)
    assert examples.fingerprint == Examples(again).fingerprint
    assert 0 < before.moments < examples.moments
    assert (examples.at[: before.moments] == before.at).all()
    for moment in range(before.moments):
        assert np.array_equal(examples.shown[moment], before.shown[moment])
        assert np.array_equal(examples.engaged[moment], before.engaged[moment])
        assert np.array_equal(examples.positives[moment], before.positives[moment])


def test_moments_are_what_members_were_shown_within_half_an_hour(data, tmp_path):
    examples = Examples(write_examples(data, ExportPlan(until=TOWN.end), tmp_path / "examples"))

    shown = sum(len(examples.shown[moment]) for moment in range(examples.moments))

    counts = examples.manifest.counts
    assert shown == counts.shown
    assert 0.6 * len(data.impressions) < shown + counts.repeated <= len(data.impressions)
    assert counts.engaged == sum(examples.engaged[one].sum() for one in range(examples.moments))
    assert counts.unripe > 0
    assert counts.moments == examples.moments
