"""What a recipe costs: the memory that the graph of a pair holds, and the time of a step.

Memory is counted and not watched: the bytes of everything that autograd keeps until the way back,
without weights and copies of weights. So it is the same on a busy machine and on every other.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from msgspec import Struct
from msgspec.structs import replace

from millrace.feed.encoder.gradient import Machine, Reader, backward
from millrace.feed.encoder.history_weights import HistoryWeights
from millrace.feed.encoder.learner import Lesson, draw_of, memory_of, optimizer_of
from millrace.feed.encoder.parallel import Ranks, own_device
from millrace.feed.encoder.pooling import Pooled
from millrace.feed.encoder.teaching import Place, lesson_of
from millrace.feed.encoder.trainee import Trainee, machine_for, trainable
from millrace.feed.encoder.vector_memory import VectorMemory
from millrace.feed.examples.batch import Batch, joined
from millrace.feed.examples.reading import Examples
from millrace.feed.recipe import EncoderRecipe

MIB = 1 << 20
ALL = 1 << 30  # tokens; more than any batch that is measured

Processor = Callable[[], float]


class Cost(Struct, frozen=True, kw_only=True):
    """What a step of a recipe takes.

    memory_mib_per_sequence: that a pair's graph holds: its member with the history, and its posts.
    iteration_ms: processor time of a step over `pairs` pairs, optimizer included; the median.
    member_tokens: of a member's prompt, the mean.
    """

    memory_mib_per_sequence: float
    iteration_ms: float
    pairs: int
    member_tokens: float


def costs_of(
    data: Path,
    start: Path | None,
    recipes: Mapping[str, EncoderRecipe],
    place: Place,
    rounds: int,
    processor: Processor,
) -> dict[str, Cost]:
    """Measure what recipes cost, in turns, so that a busy moment of the machine meets them all.

    Args:
        data: a folder of examples.
        start: the model that training begins with.
        recipes: by any names; each sees its own batches of the same steps.
        place: on what; nothing that was trained elsewhere is touched.
        rounds: steps of each.
        processor: seconds of processor time.
    """
    torch.set_num_threads(place.threads)
    device = own_device(place.device)
    examples = Examples(data)
    steps: dict[str, list[tuple[float, float, Batch]]] = {name: [] for name in recipes}
    trainee = trainable(start, next(iter(recipes.values())), machine_for(device, "auto", Ranks()))
    lessons = {name: lesson_of(examples, trainee, one) for name, one in recipes.items()}
    memories = {
        name: _remembering(lessons[name], trainee, one, device) for name, one in recipes.items()
    }
    optimizer = optimizer_of(trainee, next(iter(recipes.values())))
    for number in range(rounds):
        for name, recipe in recipes.items():
            machine = machine_for(device, recipe.precision, Ranks())
            reader = replace(
                trainee.reader,
                model=Pooled(trainee.reader.model.model, recipe.pooling).to(device).train(),
            )
            batch, known = lessons[name].draw(number), memories[name]
            memory = _memory(reader, batch, recipe, machine, known) / batch.pairs
            begun = processor()
            backward(reader, batch, recipe, machine, draw_of(recipe.seed, number), known)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            steps[name].append((memory, processor() - begun, batch))
    return {name: _cost(found) for name, found in steps.items()}


def _remembering(
    lesson: Lesson, trainee: Trainee, recipe: EncoderRecipe, device: torch.device
) -> VectorMemory | None:
    """Return a memory of a recipe's vectors; what is in it costs nothing, so nothing is."""
    pooled = recipe.history_in == "pooled"
    weights = HistoryWeights(recipe.pooled, learned=recipe.learn_pooling) if pooled else None
    reading = replace(trainee, history=weights.to(device) if weights is not None else None)
    return memory_of(reading, lesson.remembering, machine_for(device, recipe.precision, Ranks()))


def _cost(steps: list[tuple[float, float, Batch]]) -> Cost:
    return Cost(
        memory_mib_per_sequence=round(float(np.mean([one for one, _, _ in steps])) / MIB, 3),
        iteration_ms=round(1_000 * median(one for _, one, _ in steps), 1),
        pairs=round(float(np.mean([batch.pairs for _, _, batch in steps]))),
        member_tokens=round(
            float(np.mean(np.concatenate([batch.members.lengths for _, _, batch in steps]))), 1
        ),
    )


def _memory(
    reader: Reader,
    batch: Batch,
    recipe: EncoderRecipe,
    machine: Machine,
    known: VectorMemory | None,
) -> float:
    """Return the bytes that the graph of a batch holds, beyond copies of the weights."""
    chunks = 0

    def count(*_: object) -> None:
        nonlocal chunks
        chunks += 1

    hook = reader.model.register_forward_hook(count)
    with _counted(reader.model) as held:
        backward(reader, batch, replace(recipe, memory_tokens_max=ALL), machine, 0, known)
    hook.remove()
    reader.model.zero_grad(set_to_none=True)
    return sum(held.values()) - chunks * _copies(reader, batch, machine)


def _copies(reader: Reader, batch: Batch, machine: Machine) -> int:
    """Return the bytes of the weights' copies, which each chunk has: what hardly any text holds."""
    (chunk,) = reader.chunks(joined([batch.members.row(0)[:1]]), ALL, machine)
    with _counted(reader.model) as held:
        reader.read(chunk, machine)
    return sum(held.values())


@contextmanager
def _counted(model: torch.nn.Module) -> Generator[dict[int, int]]:
    """Yield what graphs keep meanwhile, as bytes by address; what shares memory counts once."""
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    held: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield held
