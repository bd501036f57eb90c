"""The index's benchmark prints the agreed keys. It is run small here, and no time is judged."""

import pytest

from millrace.lab import bench_index

KEYS = {
    "posts", "dims", "threads", "query_ms_p50", "faiss_flat_ms_p50", "ratio_to_faiss",
    "filtered_10_ms_p50", "faiss_filtered_10_ms_p50", "ratio_filtered_10", "filtered_1_ms_p50",
    "recall_at_500", "insert_visible_ms_p99", "delete_visible_ms_p99",
}  # fmt: skip
SHARED = {"seed", "machine", "versions", "seconds"}


def test_prints_the_agreed_keys_at_every_size_and_is_exact(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("faiss", reason="faiss is a development tool")
    small = (
        ("QUERIES_QUICK", 4), ("VISIBLE_QUICK", 3), ("KIND_QUERIES_QUICK", 2),
        ("RECALLED_QUICK", 4), ("LOAD_SECONDS_QUICK", 0.3), ("WARM_UP", 1),
    )  # fmt: skip
    for name, value in small:
        monkeypatch.setattr(bench_index, name, value)

    figures = bench_index.run(quick=True, seed=4, posts=(12_000, 3_000))

    assert figures.keys() >= KEYS | SHARED
    assert (figures["posts"], figures["dims"], figures["threads"]) == (12_000, 384, 1)
    assert figures["index"] == "exact"
    sizes = figures["sizes"]
    assert isinstance(sizes, list)
    for size in sizes:
        assert size.keys() >= KEYS
        assert size["recall_at_500"] == 1.0
        assert set(size["kinds"]) == {"torch", "approximate"}
        for kind in size["kinds"].values():
            assert set(kind["recall_at_500_least"].values()) == {1.0}
    assert [size["posts"] for size in sizes] == [12_000, 3_000]
    machine = figures["machine"]
    assert isinstance(machine, dict)
    assert machine.keys() == {"cores", "memory_gib", "processor", "load_at_start"}
