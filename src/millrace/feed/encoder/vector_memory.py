"""The vectors of posts and profiles that a training remembers, and what a batch makes of them.

Computed before the first step, then replaced whenever a batch computes one anew. Histories and
most negatives are made of it; gradients go to the texts of the batch alone (docs/decisions/0156).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from msgspec import Struct

from millrace.feed.encoder.gradient import Machine, Met, Reader, read_together
from millrace.feed.encoder.history_weights import HistoryWeights
from millrace.feed.examples.batch import ABSENT, Batch, Rows, Tokens, joined

AVERAGED_MAX = 4_096  # vectors whose mean is asked for in each step
BLOCK = 1_024  # texts from one word about how far it is to the next

Watch = Callable[[int, int], None]
Texts = Callable[[], tuple[Tokens, Tokens]]


class Remembering(Struct, frozen=True, kw_only=True):
    """What a training remembers vectors of: how many posts and profiles, and their texts."""

    posts: int
    profiles: int
    texts: Texts


class VectorMemory:
    """What is remembered, in half precision, where training computes.

    Every process that trains together has all of it and changes it in the same way.
    """

    def __init__(
        self, weights: HistoryWeights, known: Remembering, dims: int, machine: Machine
    ) -> None:
        """Have room for so many vectors; all are zeros until `fill`, or until they are loaded."""
        self.weights = weights
        self._machine = machine
        self.posts, self.profiles = (
            torch.zeros((rows, dims), dtype=torch.float16, device=machine.device)
            for rows in (known.posts, known.profiles)
        )
        self._texts = known.texts

    def fill(self, reader: Reader, watch: Watch) -> None:
        """Compute everything anew, with the model as it is now.

        Args:
            reader: the model.
            watch: told how many are done, of how many.
        """
        training = reader.model.training
        reader.model.eval()
        both = self._texts()
        count, done = sum(one.rows for one in both), 0
        for kept, said in zip((self.posts, self.profiles), both, strict=True):
            for start in range(0, said.rows, BLOCK):
                rows = range(start, min(start + BLOCK, said.rows))
                block = joined([said.row(row) for row in rows])
                kept[start : rows.stop] = read_together(reader, block, self._machine).half()
                done += len(rows)
                watch(done, count)
        reader.model.train(training)

    def kept(self) -> dict[str, torch.Tensor]:
        """Return what a training that was killed goes on with."""
        return {"posts": self.posts, "profiles": self.profiles}

    def restore(self, kept: Mapping[str, torch.Tensor]) -> None:
        """Take what another had kept; a part that is missing or of another shape is an error."""
        self.posts.copy_(kept["posts"])
        self.profiles.copy_(kept["profiles"])

    def learn(self, batch: Batch, met: Met) -> None:
        """Remember the vectors that a batch computed."""
        for kept, rows, vectors in (
            (self.posts, batch.columns, met.posts),
            (self.profiles, batch.who, met.members),
        ):
            there = np.flatnonzero(rows != ABSENT)
            kept[self._at(rows[there])] = vectors.detach()[self._at(there)].half()

    def meet(self, batch: Batch, met: Met) -> Met:
        """Return the members of a batch with their histories, and all its columns.

        Args:
            batch: with what its pairs take from the memory.
            met: vectors of its profiles, and of the posts that have texts.
        """
        columns = torch.cat((met.posts, self.posts[self._at(batch.recalled)].float()))
        ages = torch.from_numpy(batch.ages_days).to(self._machine.device)
        averages = (_mean(self.posts), _mean(self.profiles))
        members = self.weights(met.members, columns, self._at(batch.history), ages, averages)
        return Met(members, columns)

    def _at(self, rows: Rows) -> torch.Tensor:
        return torch.from_numpy(rows).to(self._machine.device)


def _mean(vectors: torch.Tensor) -> torch.Tensor:
    """Return the mean of some thousand vectors, evenly taken."""
    return vectors[:: -(-len(vectors) // AVERAGED_MAX) or 1].float().mean(dim=0)
