"""Losses of the dual encoder: pure functions of unit vectors.

Inputs of each: `members` (B, dims) and `posts` (P, dims), unit vectors in fp32, and `Truth`, which
says what each member engaged with and which posts are no negatives of theirs. All other posts of
the batch are: those of other pairs (easy ones), those drawn at random, and those that a member was
shown and left (hard ones).
"""

from collections.abc import Mapping

import torch
from msgspec import Struct
from torch.nn.functional import cross_entropy, logsigmoid, normalize, softplus

from millrace.feed.recipe import EncoderRecipe

LEAST = -1e4  # a logit that counts nothing, and of which differences are finite
EVEN_COSINE = 0.3  # at which BCE calls a pair as likely as not; unrelated texts lie about here


class Truth(Struct, frozen=True):
    """What is true of the pairs of a batch.

    positive: places in the posts, int64 (B,).
    barred: posts that are no negative of a member, bool (B, P); never the positive.
    log_q: logarithm of how likely a batch has the post, float32 (P,).
    also: posts that are positives as well, bool (B, P); each is barred.
    fresh: how many of the posts, the first ones, were read by this step's model; the others are
        remembered as earlier ones read them. None: all.
    """

    positive: torch.Tensor
    barred: torch.Tensor
    log_q: torch.Tensor
    also: torch.Tensor | None = None
    fresh: int | None = None


def infonce(
    members: torch.Tensor, posts: torch.Tensor, truth: Truth, *, temperature: float, log_q: bool
) -> torch.Tensor:
    """Return how surprised a choice among the batch's posts is by what was engaged with.

    The mean over pairs of -log softmax of cosine / temperature, at the positive (van den Oord et
    al., arXiv 1807.03748; LinkedIn, arXiv 2510.14223). With `log_q` each post's logit is lowered by
    the logarithm of its chance to be in a batch, so that popular posts, which are negatives often,
    are not pushed away for it (Yi et al. 2019, "Sampling-bias-corrected neural modeling").

    With `also` the mean over the positives of a member, each by itself among the negatives, so that
    none is pushed away for another (as in Khosla et al., arXiv 2004.11362, outside the logarithm).

    A fresh positive has fresh negatives, a remembered one remembered ones. Were they mixed, the
    model would learn to tell what was read now, as positives mostly are, from what was read
    earlier: recall fell to a quarter within twenty steps (docs/LOG.md, 2026-11-22).
    """
    logits = members @ posts.T / temperature
    if log_q:
        logits = logits - truth.log_q
    if truth.also is None and truth.fresh is None:
        return cross_entropy(logits.masked_fill(truth.barred, -torch.inf), truth.positive)
    chosen = truth.positive.unsqueeze(1)
    against = logits.masked_fill(truth.barred.scatter(1, chosen, value=True), LEAST)
    shares = torch.zeros_like(logits) if truth.also is None else truth.also.float()
    shares = shares.scatter(1, chosen, 1.0)
    fresh = len(posts) if truth.fresh is None else truth.fresh
    kinds = [kind for kind in (slice(fresh), slice(fresh, len(posts))) if len(posts[kind])]
    surprise = torch.cat(
        [
            softplus(against[:, kind].logsumexp(dim=1, keepdim=True) - logits[:, kind])
            for kind in kinds
        ],
        dim=1,
    )
    return ((surprise * shares).sum(dim=1) / shares.sum(dim=1)).mean()


def bce(
    members: torch.Tensor, posts: torch.Tensor, truth: Truth, *, temperature: float
) -> torch.Tensor:
    """Return how wrong each pair is by itself: a yes for the positive, a no for each negative.

    The mean over members of half their positive's loss and half the mean loss of their negatives,
    which are many more. A member without a negative counts with the positive alone. Remembered
    posts are no negatives, for the reason that `infonce` tells.
    """
    logits = (members @ posts.T - EVEN_COSINE) / temperature
    chosen = truth.positive.unsqueeze(1)
    yes = -logsigmoid(logits.gather(1, chosen)).squeeze(1)
    negative = (~truth.barred).scatter(1, chosen, value=False).float()
    if truth.fresh is not None:
        negative[:, truth.fresh :] = 0.0
    no = -(logsigmoid(-logits) * negative).sum(dim=1) / negative.sum(dim=1).clamp(min=1)
    return (0.5 * (yes + no)).mean()


def matryoshka(
    members: torch.Tensor, posts: torch.Tensor, truth: Truth, recipe: EncoderRecipe
) -> torch.Tensor:
    """Return the recipe's loss at each nested length of the vectors, weighted and summed.

    The first numbers of a vector, brought back to length 1, are to be a good vector by themselves
    (Kusupati et al., arXiv 2205.13147), so that an index may keep fewer of them.
    """
    lengths = recipe.lengths(members.shape[1])
    return _weighted(
        {length: _at(length, members, posts, truth, recipe) for length in lengths}, lengths
    )


def _at(
    length: int, members: torch.Tensor, posts: torch.Tensor, truth: Truth, recipe: EncoderRecipe
) -> torch.Tensor:
    """Return the recipe's loss of the first `length` numbers."""
    short = (normalize(members[:, :length], dim=-1), normalize(posts[:, :length], dim=-1))
    if recipe.loss == "bce":
        return bce(*short, truth, temperature=recipe.temperature)
    return infonce(*short, truth, temperature=recipe.temperature, log_q=recipe.log_q)


def _weighted(losses: Mapping[int, torch.Tensor], weights: Mapping[int, float]) -> torch.Tensor:
    """Return the weighted sum."""
    return torch.stack([weights[length] * loss for length, loss in losses.items()]).sum()
