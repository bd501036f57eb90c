"""How much of what members then did a model finds: all members at once, at every length."""

from typing import TypeAlias

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch.nn.functional import normalize

from millrace.feed.encoder.gradient import Machine, Reader, vectors_of
from millrace.feed.examples.batch import ABSENT
from millrace.feed.examples.questions import Questions
from millrace.feed.pooled_history import Averages, member_vector
from millrace.feed.recipe import EncoderRecipe

DEPTHS = (10, 100)
MEMBERS_PER_BLOCK = 4_096  # so that scores of many members with many posts fit into memory
JUDGED_BY = "recall_10"  # what decides which checkpoint is the best

Metrics: TypeAlias = dict[str, float]


def judged(
    reader: Reader, questions: Questions, recipe: EncoderRecipe, machine: Machine
) -> Metrics:
    """Return recall at each depth, of whole vectors and of each of the recipe's lengths.

    Where histories are pooled, `recall_10_profile` is of what profiles alone find: how well a model
    knows somebody of whom nothing else is known.

    Recall at k is the share of a member's relevant posts among the first k, of min(k, all) that
    could be there; the mean over members. A short vector's is named `recall_10_at_64`.
    """
    asked = asked_of(reader, questions, recipe, machine)
    metrics: Metrics = {}
    for length in recipe.lengths(reader.dims):
        suffix = "" if length == reader.dims else f"_at_{length}"
        found = recalls(asked.members[:, :length], asked.posts[:, :length], questions)
        metrics |= {f"recall_{depth}{suffix}": value for depth, value in found.items()}
    if recipe.history_in == "pooled":
        found = recalls(asked.profiles, asked.posts, questions)
        metrics |= {f"recall_{depth}_profile": value for depth, value in found.items()}
    return metrics


class Vectors(Struct, frozen=True):
    """Vectors of what is asked: members with what is known of them, their profiles, posts."""

    members: torch.Tensor
    profiles: torch.Tensor
    posts: torch.Tensor


def asked_of(
    reader: Reader, questions: Questions, recipe: EncoderRecipe, machine: Machine
) -> Vectors:
    """Return the vectors of what is asked, by a model and its recipe, as it would serve them.

    Where histories are pooled, all vectors are the model's own, and the averages are those of what
    is asked.
    """
    training = reader.model.training
    reader.model.eval()
    texts = (questions.members, questions.posts, questions.others)
    members, posts, others = (vectors_of(reader, one, machine) for one in texts)
    reader.model.train(training)
    if recipe.history_in == "prompt":
        return Vectors(members, members, posts)
    averages = Averages(posts.mean(dim=0).numpy(), members.mean(dim=0).numpy())
    liked = torch.cat((posts, others)).numpy()
    pooled, alone = np.zeros((2, *members.shape), np.float32)
    for row, profile in enumerate(members.numpy()):
        there = questions.history[row] != ABSENT
        history, ages = liked[questions.history[row][there]], questions.ages_days[row][there]
        pooled[row] = member_vector(profile, history, ages, averages, recipe.pooled)
        alone[row] = member_vector(profile, liked[:0], ages[:0], averages, recipe.pooled)
    return Vectors(torch.from_numpy(pooled), torch.from_numpy(alone), posts)


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
