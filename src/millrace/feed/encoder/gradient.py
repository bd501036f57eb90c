"""The gradient of one batch, of any size: chunks whose graphs are held, or computed twice.

A loss over a batch needs all its vectors, but a text's weights only need the gradient of the
text's own vector. So vectors come first, then the loss and its gradient for each vector, and then
chunk by chunk what that means for the weights (Gao et al. 2021, arXiv 2101.06983). It is the same
gradient as without chunks, docs/decisions/0147.
"""

from typing import Protocol

import torch
from msgspec import Struct

from millrace.feed.encoder.losses import Truth, matryoshka
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.encoder.pooling import Pooled
from millrace.feed.examples.batch import Batch, Tokens, joined
from millrace.feed.examples.packing import Piece, pieces
from millrace.feed.recipe import EncoderRecipe

CHUNK_TOKENS = {"cpu": 2_048, "cuda": 65_536}  # padding included
"""What a device reads at once. On a processor chunks that are computed twice take a fifth of the
memory that held ones do, and about their time (docs/LOG.md, 2026-11-22)."""
CHUNKS_MAX = 1_000_003  # of a batch; tells the draws of one step from those of the next


class Machine(Struct, frozen=True, kw_only=True):
    """What computes: a device, in which numbers, and who else takes part."""

    device: torch.device
    dtype: torch.dtype
    ranks: Ranks

    def autocast(self) -> torch.autocast:
        """Return the context that a model runs in; weights and sums stay in fp32."""
        mixed = self.dtype is torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)


class Reader(Struct, frozen=True, kw_only=True):
    """A model with what it needs to read token numbers."""

    model: Pooled
    dims: int
    padding: int
    tokens_max: int

    def chunks(self, texts: Tokens, tokens_max: int, machine: Machine) -> list[Piece]:
        """Return texts of about one length together, as many tokens as are quick to read."""
        together = min(tokens_max, CHUNK_TOKENS[machine.device.type])
        return list(pieces(texts, together, self.tokens_max, self.padding))

    def read(self, chunk: Piece, machine: Machine) -> torch.Tensor:
        """Return the unit vectors of a chunk's texts."""
        numbers = torch.from_numpy(chunk.numbers).to(machine.device, torch.int64)
        real = torch.from_numpy(chunk.real).to(machine.device, torch.int64)
        with machine.autocast():
            return self.model(numbers, real)


class Met(Struct, frozen=True):
    """Vectors of a batch that a loss compares: of its members, and of its columns."""

    members: torch.Tensor
    posts: torch.Tensor


class Memory(Protocol):
    """What a pooled history needs of a memory of vectors."""

    @property
    def weights(self) -> torch.nn.Module:
        """Return what is learned beside the model."""
        ...

    def learn(self, batch: Batch, met: Met) -> None:
        """Remember the vectors that a batch computed."""
        ...

    def meet(self, batch: Batch, met: Met) -> Met:
        """Return the members of a batch with their histories, and all its columns."""
        ...


def backward(
    reader: Reader,
    batch: Batch,
    recipe: EncoderRecipe,
    machine: Machine,
    draw: int,
    memory: Memory | None = None,
) -> float:
    """Add a batch's gradient to that of the model's parameters; return its loss.

    Args:
        reader: the model, in training mode.
        batch: the same for all processes that train together.
        recipe: which loss, and how many tokens' graphs may be held.
        machine: where.
        draw: seeds what dropout drops; another for each step.
        memory: of vectors, where histories are pooled.
    """
    assert memory is not None or recipe.history_in == "prompt", "a pooled history needs a memory"
    both = memory is None or recipe.gradient_through == "all"
    learned = (batch.members, batch.posts) if both else (batch.members,)
    texts = joined([part.row(at) for part in learned for at in range(part.rows)])
    held = recipe.memory_tokens_max or CHUNK_TOKENS[machine.device.type]
    chunks = reader.chunks(texts, held, machine)
    ranks = machine.ranks
    mine = [number for number in range(len(chunks)) if number % ranks.count == ranks.rank]

    def encoded(number: int) -> torch.Tensor:
        if recipe.dropout:  # the same again when the chunk is computed a second time
            torch.manual_seed(draw * CHUNKS_MAX + number)
        return reader.read(chunks[number], machine)

    keep = sum(chunks[number].numbers.size for number in mine) <= held
    with torch.set_grad_enabled(keep):
        shares = {number: encoded(number) for number in mine}
    whole = torch.zeros((texts.rows, reader.dims), device=machine.device)
    for number, share in shares.items():
        whole[_places(chunks[number], machine)] = share.detach()
    vectors = ranks.whole(whole).requires_grad_()
    met = Met(
        vectors[: batch.pairs],
        vectors[batch.pairs :] if both else read_together(reader, batch.posts, machine),
    )
    if memory is not None:
        memory.learn(batch, met)
        met = memory.meet(batch, met)
    loss = matryoshka(met.members, met.posts, _truth(batch, machine.device), recipe)
    gradient = _gradient(loss, vectors, memory)
    for number in mine:
        kept = shares.pop(number)
        share = kept if keep else encoded(number)
        share.backward(gradient[_places(chunks[number], machine)])
    ranks.sum_gradients(reader.model.parameters())
    return float(loss.detach())


def _gradient(loss: torch.Tensor, vectors: torch.Tensor, memory: Memory | None) -> torch.Tensor:
    """Return the gradient of a loss for each vector; add that for what is learned beside the model.

    Each process has the whole loss, so all have the same one.
    """
    beside = [] if memory is None else [p for p in memory.weights.parameters() if p.requires_grad]
    gradient, *others = torch.autograd.grad(loss, [vectors, *beside])
    for parameter, one in zip(beside, others, strict=True):
        parameter.grad = one if parameter.grad is None else parameter.grad + one
    return gradient


def read_together(reader: Reader, texts: Tokens, machine: Machine) -> torch.Tensor:
    """Return the unit vectors of texts without a graph, each process having read its share."""
    ranks = machine.ranks
    whole = torch.zeros((texts.rows, reader.dims), device=machine.device)
    chunks = reader.chunks(texts, CHUNK_TOKENS[machine.device.type], machine)
    with torch.no_grad():
        for chunk in chunks[ranks.rank :: ranks.count]:
            whole[_places(chunk, machine)] = reader.read(chunk, machine)
    return ranks.whole(whole)


def vectors_of(reader: Reader, texts: Tokens, machine: Machine) -> torch.Tensor:
    """Return the unit vectors of all texts without a graph, on the processor. (rows, dims)."""
    made = torch.empty((texts.rows, reader.dims))
    with torch.inference_mode():
        for chunk in reader.chunks(texts, CHUNK_TOKENS["cuda"], machine):
            made[torch.from_numpy(chunk.places)] = reader.read(chunk, machine).cpu()
    return made


def _places(chunk: Piece, machine: Machine) -> torch.Tensor:
    """Return which rows a chunk has, on the device."""
    return torch.from_numpy(chunk.places).to(machine.device)


def _truth(batch: Batch, device: torch.device) -> Truth:
    """Return what is true of a batch's pairs, on the device."""
    positive, barred, log_q, also = (
        torch.from_numpy(part).to(device)
        for part in (batch.positive, batch.barred, batch.log_q, batch.also)
    )
    return Truth(
        positive,
        barred,
        log_q,
        also=also if batch.also.any() else None,
        fresh=batch.posts.rows if len(batch.recalled) else None,
    )
