"""The index's benchmark prints the agreed keys. It is run small here, and no time is judged."""

import pytest

from millrace.lab import bench_index

KEYS = {
    "posts", "dims", "threads", "query_ms_p50", "faiss_flat_ms_p50", "ratio_to_faiss",
    "filtered_10_ms_p50", "faiss_filtered_10_ms_p50", "ratio_filtered_10", "filtered_1_ms_p50",
    "recall_at_500", "insert_visible_ms_p99", "delete_visible_ms_p99",
    "seed", "machine", "versions", "seconds",
}  # fmt: skip


def test_prints_the_agreed_keys_and_is_exact(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("faiss", reason="faiss is a development tool")
    for name, value in (("POSTS", 6_000), ("QUERIES_QUICK", 6), ("VISIBLE_QUICK", 5)):
        monkeypatch.setattr(bench_index, name, value)

    figures = bench_index.run(quick=True, seed=4)

    assert figures.keys() >= KEYS
    assert figures["recall_at_500"] == 1.0
    assert (figures["posts"], figures["dims"], figures["threads"]) == (6_000, 384, 1)
    machine = figures["machine"]
    assert isinstance(machine, dict)
    assert machine.keys() == {"cores", "memory_gib", "processor", "load_at_start"}
