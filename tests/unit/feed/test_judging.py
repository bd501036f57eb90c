"""Recall for all members at once beside the same counted one by one."""

import numpy as np
import pytest
import torch  # noqa: TID253 - the encoder is what is tested here
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.feed.encoder import judging
from millrace.feed.encoder.judging import recalls
from millrace.feed.examples.batch import joined
from millrace.feed.examples.questions import Questions

NOBODY = joined([])


def drawn(seed: int, members: int, posts: int) -> tuple[torch.Tensor, torch.Tensor, Questions]:
    draw = np.random.default_rng(seed)
    allowed = draw.random((members, posts)) < 0.7
    relevant = allowed & (draw.random((members, posts)) < 0.3)
    for row in range(members):
        some = int(draw.integers(posts))
        allowed[row, some] = relevant[row, some] = True
    vectors = torch.tensor(draw.standard_normal((members + posts, 5)), dtype=torch.float32)
    asked = Questions(members=NOBODY, posts=NOBODY, allowed=allowed, relevant=relevant)
    return vectors[:members], vectors[members:], asked


def one_by_one(members, posts, questions: Questions, depth: int) -> float:
    total = 0.0
    for row, member in enumerate(members.numpy()):
        cosines = [float(member @ post / np.linalg.norm(post)) for post in posts.numpy()]
        candidates = [at for at in range(len(posts)) if questions.allowed[row, at]]
        first = sorted(candidates, key=lambda at: -cosines[at])[:depth]
        found = sum(bool(questions.relevant[row, at]) for at in first)
        total += found / min(int(questions.relevant[row].sum()), depth)
    return total / len(members)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 40), st.sampled_from([2, 4096]))
def test_recall_is_what_one_counts(seed: int, members: int, posts: int, block: int):
    """However many posts there are, and in however many blocks members are looked at."""
    asked = drawn(seed, members, posts)
    before, judging.MEMBERS_PER_BLOCK = judging.MEMBERS_PER_BLOCK, block
    try:
        found = recalls(*asked)
    finally:
        judging.MEMBERS_PER_BLOCK = before

    for depth in judging.DEPTHS:
        assert found[depth] == pytest.approx(one_by_one(*asked, depth), abs=1e-5)
