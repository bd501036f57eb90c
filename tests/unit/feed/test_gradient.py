"""The gradient of a batch in chunks beside the same in one piece."""

import numpy as np
import pytest
import torch  # noqa: TID253 - the encoder is what is tested here
from msgspec.structs import replace
from tiny_reader import ALONE, WORDS, gradients, reader

from millrace.feed.encoder.gradient import Machine, Reader, backward, vectors_of
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.examples.batch import Batch, joined
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import drawn_batch

RECIPE = EncoderRecipe(
    temperature=0.2, matryoshka=(), memory_tokens_max=100_000, history_in="prompt"
)


def plainly(made: Reader, batch: Batch, recipe: EncoderRecipe) -> float:
    """Everything in one padded piece, and the loss written out."""
    rows = [part.row(at) for part in (batch.members, batch.posts) for at in range(part.rows)]
    longest = max(len(row) for row in rows)
    numbers = torch.tensor([[*row.tolist(), *[0] * (longest - len(row))] for row in rows])
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    vectors = made.model(numbers, real)
    members, posts = vectors[: batch.pairs], vectors[batch.pairs :]
    logits = (members @ posts.T) / recipe.temperature
    logits = logits.masked_fill(torch.tensor(batch.barred), -torch.inf)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(batch.positive))
    loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("held", [64, 300, 100_000])
def test_chunks_give_the_plain_gradient(kind: str, pooling: str, held: int):
    """Whether graphs are held or computed twice, and however long the texts are."""
    batch = drawn_batch(seed=3, pairs=7, posts=11, words=WORDS)
    ours, theirs = reader(kind, pooling), reader(kind, pooling)

    loss = backward(ours, batch, replace(RECIPE, memory_tokens_max=held), ALONE, draw=0)
    expected = plainly(theirs, batch, RECIPE)

    assert loss == pytest.approx(expected, abs=1e-5)
    found, wanted = gradients(ours), gradients(theirs)
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        assert torch.allclose(found[name], one, rtol=1e-4, atol=1e-5), name
    assert max(float(one.abs().max()) for one in wanted.values()) > 1e-3


def test_memory_is_that_of_a_chunk():
    """However large the batch, graphs of no more tokens than the recipe says are alive."""
    alive: list[int] = []
    made = reader("llama")
    made.model.register_forward_hook(
        lambda _, args, out: alive.append(args[0].numel()) if out.requires_grad else None
    )
    batch = drawn_batch(seed=3, pairs=40, posts=60, words=WORDS)

    backward(made, batch, replace(RECIPE, memory_tokens_max=80), ALONE, draw=0)

    assert max(alive) <= 80
    assert sum(alive) > 1_000


@pytest.mark.parametrize("held", [64, 100_000])
def test_a_text_keeps_what_dropout_dropped(held: int):
    """A chunk that is computed twice is the same both times, and another step drops others."""
    batch = drawn_batch(seed=3, pairs=5, posts=6, words=WORDS)
    recipe = replace(RECIPE, dropout=0.3, memory_tokens_max=held)
    once, again, other = (reader("bert", dropout=0.3) for _ in range(3))

    backward(once, batch, recipe, ALONE, draw=1)
    torch.manual_seed(77)
    backward(again, batch, recipe, ALONE, draw=1)
    backward(other, batch, recipe, ALONE, draw=2)

    first, second, third = gradients(once), gradients(again), gradients(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.allclose(first[name], third[name]) for name in first)


def test_vectors_are_those_of_each_text_alone():
    """Neither padding nor company changes a vector, and the order is that of the texts."""
    made = reader("bert")
    made.model.eval()
    batch = drawn_batch(seed=9, pairs=9, posts=2, words=WORDS)

    together = vectors_of(made, batch.members, ALONE)

    for at in range(batch.members.rows):
        alone = vectors_of(made, joined([batch.members.row(at)]), ALONE)
        assert torch.allclose(together[at], alone[0], atol=1e-5)
    assert np.allclose(together.norm(dim=1), 1, atol=1e-5)


def test_bf16_points_the_same_way():
    """Half the digits: about the same loss, and a gradient in about the same direction."""
    batch = drawn_batch(seed=3, pairs=7, posts=11, words=WORDS)
    mixed = Machine(device=torch.device("cpu"), dtype=torch.bfloat16, ranks=Ranks())
    short, long = reader("llama"), reader("llama")

    loss = backward(short, batch, RECIPE, mixed, draw=0)
    expected = backward(long, batch, RECIPE, ALONE, draw=0)

    one, other = (
        torch.cat([grad.reshape(-1) for grad in gradients(made).values()]) for made in (short, long)
    )
    assert loss == pytest.approx(expected, rel=0.02)
    assert loss != expected
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99
