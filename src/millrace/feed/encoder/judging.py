"""How much of what members then did a model finds: all members at once, at every length."""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from millrace.feed.encoder.gradient import Machine, Reader, vectors_of
from millrace.feed.examples.questions import Questions
from millrace.feed.recipe import EncoderRecipe

DEPTHS = (10, 100)
MEMBERS_PER_BLOCK = 4_096  # so that scores of many members with many posts fit into memory
JUDGED_BY = "recall_10"  # what decides which checkpoint is the best

Metrics: TypeAlias = dict[str, float]


def judged(
    reader: Reader, questions: Questions, recipe: EncoderRecipe, machine: Machine
) -> Metrics:
    """Return recall at each depth, of whole vectors and of each of the recipe's lengths.

    Recall at k is the share of a member's relevant posts among the first k, of min(k, all) that
    could be there; the mean over members. A short vector's is named `recall_10_at_64`.
    """
    training = reader.model.training
    reader.model.eval()
    members = vectors_of(reader, questions.members, machine)
    posts = vectors_of(reader, questions.posts, machine)
    reader.model.train(training)
    metrics: Metrics = {}
    for length in recipe.lengths(reader.dims):
        suffix = "" if length == reader.dims else f"_at_{length}"
        found = recalls(members[:, :length], posts[:, :length], questions)
        metrics |= {f"recall_{depth}{suffix}": value for depth, value in found.items()}
    return metrics


def recalls(members: torch.Tensor, posts: torch.Tensor, questions: Questions) -> dict[int, float]:
    """Return the mean recall at each depth; the arguments are those of `recalls_of_each`."""
    found = recalls_of_each(members, posts, questions)
    return {depth: round(float(one.sum()) / max(len(one), 1), 6) for depth, one in found.items()}


def recalls_of_each(
    members: torch.Tensor, posts: torch.Tensor, questions: Questions
) -> dict[int, NDArray[np.float64]]:
    """Return the recall of each member at each depth, in the order of the questions.

    Args:
        members: a vector each, of any length. (M, dims).
        posts: a vector each. (P, dims).
        questions: which of the posts each member may and should find.
    """
    found = {depth: np.zeros(len(members)) for depth in DEPTHS}
    posts = normalize(posts, dim=-1)
    for start in range(0, len(members), MEMBERS_PER_BLOCK):
        block = slice(start, start + MEMBERS_PER_BLOCK)
        allowed = torch.from_numpy(questions.allowed[block])
        relevant = torch.from_numpy(questions.relevant[block])
        scores = (normalize(members[block], dim=-1) @ posts.T).masked_fill(~allowed, -torch.inf)
        best = scores.topk(min(max(DEPTHS), scores.shape[1]), dim=1).indices
        hits = relevant.gather(1, best)
        for depth in DEPTHS:
            possible = relevant.sum(dim=1).clamp(min=1, max=depth)
            found[depth][block] = (hits[:, :depth].sum(dim=1) / possible).double().numpy()
    return found
