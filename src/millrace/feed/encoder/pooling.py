"""From the states of a text's tokens to one vector."""

from typing import Any

import torch

from millrace.feed.recipe import Pooling


class Pooled(torch.nn.Module):
    """A model with its pooling: token numbers and which of them are real, to unit vectors."""

    def __init__(self, model: Any, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.model = model
        self.pool = mean if pooling == "mean" else last

    def forward(self, numbers: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return one vector per row, of length 1, in fp32."""
        states = self.model(input_ids=numbers, attention_mask=real).last_hidden_state.float()
        return torch.nn.functional.normalize(self.pool(states, real), dim=-1)


def mean(states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the mean of the real tokens' states. (rows, tokens, dims) to (rows, dims)."""
    weights = real.unsqueeze(-1).float()
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def last(states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the state of each row's last real token; padding stands behind it."""
    places = real.sum(dim=1) - 1
    return states[torch.arange(len(states), device=states.device), places]
