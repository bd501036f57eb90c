"""Pooled histories in training: the formula that serves, its gradient, and what is remembered."""

import numpy as np
import pytest
import torch  # noqa: TID253 - the encoder is what is tested here
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tiny_reader import ALONE, gradients, reader

from millrace.feed.encoder.gradient import Reader, backward, vectors_of
from millrace.feed.encoder.history_weights import HistoryWeights
from millrace.feed.encoder.vector_memory import Remembering, VectorMemory
from millrace.feed.examples.batch import ABSENT, Batch
from millrace.feed.pooled_history import Averages, PooledHistory, member_vector
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import drawn_batch, recalling

RECIPE = EncoderRecipe(temperature=0.2, matryoshka=(), memory_tokens_max=100_000)
POSTS, PAIRS, DIMS = 20, 7, 16


def remembering(words: int = 50) -> Remembering:
    other = drawn_batch(seed=77, pairs=PAIRS, posts=POSTS, words=words)
    return Remembering(posts=POSTS, profiles=PAIRS, texts=lambda: (other.posts, other.members))


def filled(made: Reader, how: PooledHistory | None = None, *, learned: bool = True) -> VectorMemory:
    weights = HistoryWeights(how or PooledHistory(), learned=learned)
    memory = VectorMemory(weights, remembering(), DIMS, ALONE)
    memory.fill(made, lambda done, count: None)
    return memory


def batch() -> Batch:
    return recalling(drawn_batch(seed=3, pairs=PAIRS, posts=11), POSTS)


@given(
    seed=st.integers(0, 1_000),
    weight=st.floats(0.01, 50),
    half_life=st.floats(0.1, 200),
    most=st.integers(1, 8),
)
@settings(deadline=None, max_examples=40)
def test_training_pools_as_serving_does(seed: int, weight: float, half_life: float, most: int):
    """For members with full, short and empty histories, also of ages below zero."""
    draw = np.random.default_rng(seed)
    how = PooledHistory(profile_weight=weight, half_life_days=half_life, posts_max=most)
    profiles, posts = draw.normal(size=(5, 6)), draw.normal(size=(9, 6))
    history = draw.integers(ABSENT, 9, size=(5, most))
    history[0] = ABSENT
    ages = draw.normal(3, 3, size=(5, most))
    averages = Averages(*(draw.normal(size=(2, 6)) * 0.3).astype(np.float32))
    told = (torch.from_numpy(one).float() for one in (profiles, posts))

    both = (torch.from_numpy(averages.posts), torch.from_numpy(averages.profiles))
    found = HistoryWeights(how, learned=True)(
        *told, torch.from_numpy(history), torch.from_numpy(ages).float(), both
    )

    for row in range(5):
        there = history[row] != ABSENT
        liked = posts[history[row][there]].astype(np.float32)
        profile = profiles[row].astype(np.float32)
        wanted = member_vector(profile, liked, ages[row][there], averages, how)
        assert np.allclose(found[row].detach().numpy(), wanted, atol=1e-4)


def test_weights_are_written_down_within_their_limits():
    given = PooledHistory(profile_weight=3.0, half_life_days=8.0, posts_max=12)
    weights = HistoryWeights(given, learned=True)

    assert weights.how() == given
    with torch.no_grad():
        weights.profile_weight.fill_(np.log(2.345678))
        weights.half_life_days.fill_(100.0)
    assert weights.how() == PooledHistory(profile_weight=2.346, half_life_days=1e5, posts_max=12)


def plainly(made: Reader, known: VectorMemory, told: Batch, through: str) -> float:
    """The same in one piece, pair by pair, with the formula as it is in prose."""
    rows = [part.row(at) for part in (told.members, told.posts) for at in range(part.rows)]
    longest = max(len(row) for row in rows)
    numbers = torch.tensor([[*row.tolist(), *[0] * (longest - len(row))] for row in rows])
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    vectors = made.model(numbers, real)
    profiles, texts = vectors[: told.pairs], vectors[told.pairs :]
    texts = texts if through == "all" else texts.detach()
    posts, members = known.posts.float(), known.profiles.float()
    there = told.columns != ABSENT
    posts[told.columns[there]] = texts.detach()[there].half().float()
    members[told.who] = profiles.detach().half().float()
    columns = torch.cat((texts, posts[told.recalled]))
    weight, half_life = known.weights.parameters()
    loss = torch.tensor(0.0)
    for pair in range(told.pairs):
        total = weight.exp() * (profiles[pair] - members.mean(dim=0))
        for column, age in zip(told.history[pair], told.ages_days[pair], strict=True):
            if column != ABSENT:
                total = total + 0.5 ** (float(age) / half_life.exp()) * (
                    columns[column] - posts.mean(dim=0)
                )
        logits = columns @ (total / total.norm()) / RECIPE.temperature
        fresh = torch.from_numpy(~told.barred[pair]) & (torch.arange(len(columns)) < len(texts))
        kept = logits[fresh]  # what is remembered stands among what is remembered
        loss = loss + (kept.logsumexp(dim=0) - logits[told.positive[pair]]) / told.pairs
    loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize("held", [64, 100_000])
@pytest.mark.parametrize("through", ["all", "profiles"])
def test_chunks_give_the_plain_gradient_through_histories(held: int, through: str):
    """To the model through profiles, posts and liked posts of the batch, and to both weights."""
    ours, theirs = reader("bert"), reader("bert")
    known, others = filled(ours), filled(theirs)
    recipe = replace(RECIPE, memory_tokens_max=held, gradient_through=through)

    loss = backward(ours, batch(), recipe, ALONE, draw=0, memory=known)
    expected = plainly(theirs, others, batch(), through)

    assert loss == pytest.approx(expected, abs=1e-5)
    found, wanted = gradients(ours), gradients(theirs)
    for name, one in wanted.items():
        assert torch.allclose(found[name], one, rtol=1e-3, atol=1e-5), name
    for mine, yours in zip(known.weights.parameters(), others.weights.parameters(), strict=True):
        assert mine.grad is not None
        assert mine.grad.item() == pytest.approx(yours.grad.item(), rel=1e-3, abs=1e-6)
        assert abs(mine.grad.item()) > 1e-4
    assert max(float(one.abs().max()) for one in wanted.values()) > 1e-3


def test_weights_that_are_not_learned_have_no_gradient():
    made = reader("bert")
    known = filled(made, learned=False)

    backward(made, batch(), RECIPE, ALONE, draw=0, memory=known)

    assert all(one.grad is None for one in known.weights.parameters())
    assert gradients(made)


def test_what_a_batch_computes_is_remembered_and_the_rest_stays():
    made, told = reader("bert"), batch()
    made.model.eval()
    known = filled(made)
    before = known.posts.clone()

    backward(made, told, RECIPE, ALONE, draw=0, memory=known)

    there = told.columns != ABSENT
    wanted = vectors_of(made, told.posts, ALONE)[there].half()
    assert torch.allclose(known.posts[told.columns[there]], wanted, atol=1e-3)
    assert not torch.allclose(known.posts[told.columns[there]], before[told.columns[there]])
    assert torch.equal(known.posts[told.recalled], before[told.recalled])


def test_filling_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("millrace.feed.encoder.vector_memory.BLOCK", 8)
    made, told = reader("bert"), list[tuple[int, int]]()
    known = filled(made)
    again = VectorMemory(HistoryWeights(PooledHistory(), learned=True), remembering(), DIMS, ALONE)

    again.fill(made, lambda done, count: told.append((done, count)))

    assert told == [(8, 27), (16, 27), (20, 27), (27, 27)]
    assert made.model.training
    assert torch.equal(known.posts, again.posts)
    assert np.allclose(known.profiles.float().norm(dim=1), 1, atol=1e-2)
