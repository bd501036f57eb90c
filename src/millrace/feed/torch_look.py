"""A first look by torch: on a GPU where there is one, else on the processor.

On a GPU the rows lie in its memory, in slots as here, with room for twice as many when they are
full. One product, one mask and one choice of the k best are made there, and what comes back is the
few slots that can be among them: everything within what single precision may lose. They are scored
from the vectors in this process, so that order and scores are those of the exact index to the last
bit. On the processor torch reads the very same memory, and nothing is copied.
"""

import numpy as np
import torch

from millrace.feed.first_look import Copies, Mask, Near, Vector

POSTS_MIN = 10_000  # fewer that are allowed are read one by one in the time of a first look
ASKED_SHARE = 0.1  # of those allowed; whoever asks for more has little use for a first look
# A row in order costs a processor half of what a row alone does; a GPU reads all of them at once,
# and what takes time is to bring the mask there.
ALONE_SHARE, ALONE_SHARE_THERE = 0.38, 0.01
ROUNDING = 1e-4  # share of the two lengths; single precision loses less over 1,600 dimensions
PROCESSOR = "cpu"


class TorchLook(Copies):
    """The rows of an index as a tensor, with a mask and scores that are made once."""

    def __init__(
        self,
        vectors: Vector,
        device: str,
        *,
        shared: bool,
        posts_min: int = POSTS_MIN,
        alone_share: float = ALONE_SHARE,
    ) -> None:
        """Take the vectors of every row.

        Args:
            vectors: of every row; they are written behind this object's back.
            device: where to look, as torch names it.
            shared: read the vectors where they are; else keep a copy on the device.
            posts_min: for how many posts a look is worth its time.
            alone_share: of the slots; where fewer may be found, they are scored one by one.
        """
        super().__init__(vectors)
        self._device = torch.device(device)
        self._shared, self._posts_min, self._alone_share = shared, posts_min, alone_share
        self._rows = torch.empty((0, vectors.shape[1]))
        self._length_max = 0.0  # of a row, the longest there ever was
        self._widen(len(vectors))

    @property
    def bytes(self) -> int:
        """Return how much memory this takes besides the vectors."""
        rows = 0 if self._shared else self._rows.nbytes
        return rows + self._scores.nbytes + self._masked.nbytes + self._allowed.nbytes

    def near(self, query: Vector, allowed: Mask, k: int, *, lasting: bool) -> Near | None:
        """Say what is worth scoring; None where scoring all that is allowed costs less."""
        del lasting  # it always looks at all rows, and what it says can always be remembered
        count = int(np.count_nonzero(allowed))
        least = max(self._posts_min, self._alone_share * len(allowed))
        if count < least or k > ASKED_SHARE * count:
            return None
        with self._alone, torch.inference_mode():
            self.catch_up()
            return self._looked(query, allowed, k)

    def _looked(self, query: Vector, allowed: Mask, k: int) -> Near:
        if self._shared:
            torch.set_num_threads(1)  # of this thread; the other cores are left to the event loop
        rows, off = len(allowed), ROUNDING * float(np.linalg.norm(query)) * self._length_max
        scores, masked, passes = self._scores[:rows], self._masked[:rows], self._allowed[:rows]
        passes.copy_(torch.as_tensor(allowed))
        torch.mv(self._rows[:rows], torch.tensor(query, device=self._device), out=scores)
        torch.where(passes, scores, self._nothing, out=masked)
        least = float(torch.topk(masked, k, sorted=False).values.min()) - off
        slots = torch.nonzero(scores >= least - off).flatten()
        return Near(slots.cpu().numpy(), np.float32(least))

    def _widen(self, rows: int) -> None:
        if self._shared:
            self._rows = torch.as_tensor(self._vectors)
        else:
            wider = torch.zeros((rows, self._vectors.shape[1]), device=self._device)
            wider[: len(self._rows)] = self._rows
            self._rows = wider
        self._scores = torch.empty(rows, device=self._device)
        self._masked = torch.empty(rows, device=self._device)
        self._allowed = torch.empty(rows, dtype=torch.bool, device=self._device)
        self._nothing = torch.full((), -torch.inf, device=self._device)

    def _copy(self, slots: list[int]) -> None:
        exact = self._vectors[slots]
        self._length_max = max(self._length_max, float(np.linalg.norm(exact, axis=1).max()))
        if not self._shared:
            places = torch.tensor(slots, device=self._device)
            self._rows[places] = torch.as_tensor(exact).to(self._device)


def best_device() -> str:
    """Return the name of a GPU where there is one, else of the processor."""
    return "cuda" if torch.cuda.is_available() else PROCESSOR


def torch_look(vectors: Vector) -> TorchLook:
    """Return a look on the best device of this machine."""
    device = best_device()
    if device == PROCESSOR:
        return TorchLook(vectors, device, shared=True)
    return TorchLook(vectors, device, shared=False, alone_share=ALONE_SHARE_THERE)
