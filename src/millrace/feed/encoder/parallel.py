"""Several processes that train one model, as `torchrun` starts them: gloo, or nccl on GPUs.

Every process draws the same batch and encodes its share of the rows. The vectors of all are
gathered, each process computes the loss over all of them, and the gradients are summed. So the
negatives of a pair are those of the whole batch, and the step is that of one process.
"""

import gc
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module

import torch
import torch.distributed as dist

WAIT = timedelta(minutes=30)  # for the others, while one of them evaluates


class Ranks:
    """This process among those that train together; alone it does nothing."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def first(self) -> bool:
        """Return whether this process writes, evaluates and tells."""
        return self.rank == 0

    def whole(self, share: torch.Tensor) -> torch.Tensor:
        """Return the sum over all: where each holds some rows and zeros elsewhere, all rows."""
        if self.count > 1:
            dist.all_reduce(share)
        return share

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Let every process have the sum of all gradients; in one message."""
        if self.count == 1:
            return
        known = list(parameters)
        for one in known:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        grads = [one.grad for one in known if one.grad is not None]
        flat = self.whole(torch.cat([grad.reshape(-1) for grad in grads]))
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()

    def meet(self, device: torch.device) -> None:
        """Wait until all have come here."""
        self.agreed(value=True, device=device)

    def agreed(self, value: bool, device: torch.device) -> bool:
        """Return what the first process says."""
        said = torch.tensor([float(value and self.first)], device=device)
        return bool(self.whole(said).item() > 0)


@contextmanager
def joined(device: torch.device) -> Generator[Ranks]:
    """Join those that were started together, or be alone; leave them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    # transformers imports this too. It keeps the group that there is then as default arguments, to
    # the end of the interpreter; threads of gloo that are still there then may abort the process.
    import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=WAIT)
    ranks = Ranks(dist.get_rank(), count)
    yield ranks
    # Not after an error: the others are in the middle of a message, and all would wait.
    ranks.meet(device)
    dist.destroy_process_group()
    gc.collect()  # what its threads hold goes while the interpreter is whole


def own_device(name: str) -> torch.device:
    """Return the device of this process: `cpu`, `cuda`, or `auto` for a GPU where there is one."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
