"""Members' vectors from their profiles' and remembered posts', with weights that are learned.

The formula is that of `pooled_history.py`, for a whole batch; a test holds the two together.
"""

from math import exp, log

import torch
from torch.nn.functional import normalize

from millrace.feed.pooled_history import LIMITS, NORM_MIN, PooledHistory

DIGITS = 4  # of a learned weight that count: it is written down, and names a version


class HistoryWeights(torch.nn.Module):
    """How a history is pooled while it is learned how: two positive numbers, by their logarithms.

    So a step changes a weight by a share of it, and none can become negative.
    """

    profile_weight: torch.nn.Parameter
    half_life_days: torch.nn.Parameter

    def __init__(self, how: PooledHistory, *, learned: bool) -> None:
        super().__init__()
        for name in ("profile_weight", "half_life_days"):
            begun = torch.tensor(log(getattr(how, name)))
            self.register_parameter(name, torch.nn.Parameter(begun, requires_grad=learned))
        self.posts_max = how.posts_max

    def how(self) -> PooledHistory:
        """Return the weights as they are now, in numbers that are written down."""
        return PooledHistory(
            profile_weight=_rounded("profile_weight", self.profile_weight),
            half_life_days=_rounded("half_life_days", self.half_life_days),
            posts_max=self.posts_max,
        )

    def forward(
        self,
        profiles: torch.Tensor,
        posts: torch.Tensor,
        history: torch.Tensor,
        ages_days: torch.Tensor,
        averages: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Return the members' vectors, of length 1. Shape: (members, dims).

        Args:
            profiles: of the profile alone. Shape: (members, dims).
            posts: that histories are made of. Shape: (posts, dims).
            history: places in the posts, negative where there is none. Shape: (members, most).
            ages_days: how long ago each engagement was. The same shape.
            averages: of posts and of profiles. Shape: (dims,) each.
        """
        of_posts, of_profiles = averages
        passed = ages_days.clamp(min=0) / self.half_life_days.exp()
        weights = torch.exp2(-passed) * (history >= 0)
        liked = posts[history.clamp(min=0)]
        total = self.profile_weight.exp() * (profiles - of_profiles)
        total = total + torch.einsum("mh,mhd->md", weights, liked)
        total = total - weights.sum(dim=1, keepdim=True) * of_posts
        return normalize(total, dim=-1, eps=NORM_MIN)


def _rounded(name: str, logarithm: torch.Tensor) -> float:
    """Return a weight within its limits, to a few digits."""
    low, high = LIMITS[name]
    return float(f"{min(max(exp(float(logarithm.detach())), low, 1 / high), high):.{DIGITS}g}")
