"""Several processes that train one model take the steps that one process takes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch  # noqa: TID253 - the encoder is what is tested here

from millrace.feed.encoder.gradient import Machine, backward
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.encoder.trainee import trainable
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import drawn_batch, save_tiny_llama

torch.set_num_threads(1)  # a second one would only wait for the first
WAIT_SECONDS = 300  # far more than it takes; a machine with much else to do needs half of it
WEIGHTS = ("best/model.safetensors", "last/memory.safetensors")
RECIPE = EncoderRecipe(
    temperature=0.1, matryoshka=(32, 8), hard=1, precision="fp32", history_in="prompt"
)
PROGRAM = """
import sys
from pathlib import Path

import torch
from msgspec.structs import replace

from millrace.feed.encoder.checkpoints import Lineage
from millrace.feed.encoder.gradient import Machine, backward
from millrace.feed.encoder.learner import Learner, Lesson, Running
from millrace.feed.encoder.parallel import joined
from millrace.feed.encoder.trainee import trainable
from millrace.feed.encoder.vector_memory import Remembering
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import drawn_batch, recalling

torch.set_num_threads(1)
model, out = Path(sys.argv[1]), Path(sys.argv[2])
recipe = EncoderRecipe(
    temperature=0.1, matryoshka=(32, 8), hard=1, precision="fp32", history_in="prompt"
)
other = drawn_batch(seed=99, pairs=9, posts=20)
with joined(torch.device("cpu")) as ranks:
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32, ranks=ranks)
    for name, held in (("held", 100_000), ("twice", 160)):
        trainee = trainable(model, recipe, machine)
        small = replace(recipe, memory_tokens_max=held)
        batch = drawn_batch(seed=4, pairs=9, posts=13)
        loss = backward(trainee.reader, batch, small, machine, draw=0)
        grads = {name: one.grad for name, one in trainee.parameters.items()}
        torch.save((loss, grads), out / f"{name}-{ranks.rank}.pt")
    short = replace(recipe, steps=3, learning_rate=0.001, memory_tokens_max=300)
    lesson = Lesson(
        draw=lambda step: drawn_batch(seed=step, pairs=9, posts=13),
        questions=None,
        lineage=Lineage(data="", start=""),
    )
    trainee = trainable(model, short, machine)
    Learner(trainee, lesson, short, machine, Running(to=out / f"run-{ranks.count}")).train()
    pooled = replace(short, history_in="pooled", refresh_every=2)
    known = Remembering(posts=20, profiles=9, texts=lambda: (other.posts, other.members))
    drawn = lesson.draw
    lesson = replace(lesson, draw=lambda step: recalling(drawn(step), 20), remembering=known)
    trainee = trainable(model, pooled, machine)
    Learner(trainee, lesson, pooled, machine, Running(to=out / f"pooled-{ranks.count}")).train()
threads = [one.read_text() for one in Path("/proc/self/task").glob("*/comm")]
(out / f"left-{ranks.count}-{ranks.rank}").write_text("".join(threads))
"""


def run_together(processes: int, model: Path, out: Path) -> None:
    """Start processes with what `torchrun` tells each; the first to fail is shown."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(model), str(out)],
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        for one in started:
            _, error = one.communicate(timeout=WAIT_SECONDS)
            assert one.returncode == 0, error
    finally:
        for one in started:
            one.kill()
            one.wait()
            assert one.stderr is not None
            one.stderr.close()  # else another test would be blamed for it


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def out(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote: gradients of each, and the training of both."""
    made = tmp_path_factory.mktemp("ranks")
    run_together(2, model, made)
    return made


@pytest.mark.parametrize("held", ["held", "twice"])
def test_two_processes_have_the_gradient_of_one_with_the_whole_batch(
    model: Path, out: Path, held: str
):
    """Each of them, whether it held its graphs or computed them twice: all negatives are there."""
    alone = Machine(device=torch.device("cpu"), dtype=torch.float32, ranks=Ranks())
    trainee = trainable(model, RECIPE, alone)
    expected = backward(
        trainee.reader, drawn_batch(seed=4, pairs=9, posts=13), RECIPE, alone, draw=0
    )

    for rank in range(2):
        loss, gradients = torch.load(out / f"{held}-{rank}.pt")
        assert loss == pytest.approx(expected, abs=1e-5)
        for name, parameter in trainee.parameters.items():
            assert torch.allclose(gradients[name], parameter.grad, rtol=1e-4, atol=1e-5), name


def test_two_processes_train_the_model_of_one(
    model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    """Only the first writes; what it leaves is what one process would have left, and remembered."""
    from safetensors.torch import load_file

    monkeypatch.setattr(sys, "argv", ["alone", str(model), str(out)])
    exec(PROGRAM, {})  # as it is, in this process, to spare another one

    for run, files in (("run", WEIGHTS[:1]), ("pooled", WEIGHTS)):
        for file in files:
            one, two = (load_file(out / f"{run}-{count}" / file) for count in (1, 2))
            assert one.keys() == two.keys()
            assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one), file


def test_nothing_of_the_group_is_left_at_the_end(out: Path):
    """A thread of gloo that outlives its group may abort a process that has done all it had to."""
    left = "".join((out / f"left-2-{rank}").read_text() for rank in range(2))

    assert "python" in left
    assert "gloo" not in left
