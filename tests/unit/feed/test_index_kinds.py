"""The setting `feed.index`: what it gives, and what it says where something is missing."""

import sys
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from millrace.feed.coarse import Coarse
from millrace.feed.index import PostIndex
from millrace.feed.index_kinds import first_look
from millrace.feed.types import FeedConfig, IndexKind
from millrace.kernel.errors import SetupError

ROWS = np.zeros((1_024, 4), dtype=np.float32)


def test_the_index_is_exact_where_nobody_says_otherwise():
    assert FeedConfig().index is IndexKind.EXACT
    assert first_look(FeedConfig().index) is Coarse


def test_the_setting_takes_names_of_kinds_only():
    assert msgspec.convert({"index": "torch"}, FeedConfig).index is IndexKind.TORCH

    with pytest.raises(msgspec.ValidationError, match="index"):
        msgspec.convert({"index": "fast"}, FeedConfig)


@pytest.mark.parametrize("kind", IndexKind)
def test_every_kind_makes_a_look(kind: IndexKind):
    if kind is IndexKind.APPROXIMATE:
        pytest.importorskip("faiss", reason="faiss is an extra")

    look = first_look(kind)(ROWS)
    look.ready()

    assert look.near(np.ones(4, np.float32), np.ones(1_024, np.bool_), 5, lasting=False) is None
    assert look.bytes > 0


@pytest.mark.parametrize(
    ("kind", "module", "step"),
    [
        (IndexKind.APPROXIMATE, "faiss", 'pip install "millrace[approximate]"'),
        (IndexKind.TORCH, "torch", 'pip install "torch"'),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, kind: IndexKind, module: str, step: str
):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(SetupError) as caught:
        first_look(kind)

    assert (
        str(caught.value)
        == f"feed.index is {kind}, which needs {module}, and that is not installed"
    )
    assert caught.value.field == "feed.index"
    assert caught.value.next_step == f"{step}, or set feed.index to exact"


@pytest.mark.gpu
def test_a_gpu_gives_the_answers_of_the_exact_index():
    """Rows in its memory, written and grown there."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    from millrace.community.types import Audience, Key
    from millrace.feed.index import IndexEntry
    from millrace.feed.torch_look import torch_look

    rng, plain, there = np.random.default_rng(1), PostIndex(64), PostIndex(64, look=torch_look)
    for number in range(30_000):
        vector = rng.standard_normal(64).astype(np.float32)
        post = IndexEntry(
            key=Key(1, number),
            author=Key(1, 1),
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            language="",
            audience=Audience.PUBLIC,
        )
        for index in (plain, there):
            index.put(post, vector)
    for share in (1.0, 0.5):
        mask = rng.random(plain.capacity)[: len(plain.home(1))] < share
        query = rng.standard_normal(64).astype(np.float32)
        mine, theirs = plain.search(query, 300, mask), there.search(query, 300, mask)
        assert theirs.slots.tolist() == mine.slots.tolist()
        assert theirs.scores.tolist() == mine.scores.tolist()
