"""The recipe: every switch of how an encoder is trained, kept with each checkpoint."""

from math import cos, pi
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace.feed.pooled_history import PooledHistory
from millrace.kernel.errors import InvalidError

Loss = Literal["infonce", "bce"]
History = Literal["positives", "all"]
HistoryIn = Literal["pooled", "prompt"]
GradientThrough = Literal["all", "profiles"]
Pooling = Literal["mean", "last"]
Numbers = Literal["percentiles", "raw", "none"]
Precision = Literal["auto", "bf16", "fp32"]
HARD_MAX = 8  # of one pair


class EncoderRecipe(Struct, frozen=True, kw_only=True):
    """How an encoder is trained. What sources disagree about is a switch here.

    loss: the losses are in `encoder/losses.py`.
    temperature: cosines are divided by it.
    hard: posts per pair that were shown to the member then, and not engaged with.
    random: posts per batch that are drawn from all that could have been shown.
    log_q: correct for posts that are in batches often because they are popular.
    history: what a member's prompt shows of the past; LinkedIn reports that positives alone win.
    history_in: whether a member's vector is pooled from those of the posts that they liked, or their
        prompt shows these in words.
    profile_weight, half_life_days, history_posts_max: how it is pooled (`pooled_history.py`); where
        training begins.
    learn_pooling: learn the first two as well. pooling_rate: how quickly; of their logarithms.
    memory_negatives: posts per batch that stood at a moment, from the memory of vectors that a
        pooled history needs. They cost next to nothing.
    later_positives: what a member engaged with afterwards, and stood already, is a positive as well.
    memory_posts_max: posts whose vectors are remembered; those that somebody engaged with first.
    refresh_every: steps after which all that is remembered is computed anew; 0: never, a vector is
        replaced when a batch has its post.
    gradient_through: "profiles" where posts shall only move as far as they share weights with them.
    empty_history_share: of the pairs; they teach what to do with a profile alone.
    matryoshka: nested lengths of a vector, each of which shall be good by itself; empty: whole only.
    matryoshka_weights: one per length; empty: all the same.
    pooling: how the states of a text become one vector.
    numbers: how a post's prompt says how popular it is.
    same_community: the posts of a batch come from one community. Where they do not, all that is
        learned is who lives where (docs/LOG.md, 2026-11-22).
    batch: pairs per step.
    learning_rate: the highest one; it rises over `warm_up` of the steps and falls to nothing.
    clip: the longest gradient; longer ones are shortened to it.
    dropout: of all layers that have it.
    post_tokens_max: of a post's prompt while training; short ones teach as much in half the time.
    memory_tokens_max: padded tokens whose graph is held; a larger batch is computed in chunks. 0: as
        many as are quick where it runs.
    held_back: share of the moments, the last ones, that is not learned from but asked about; 0: none.
    evaluate_every: steps from one look at recall to the next.
    patience: looks without a better one before training ends; 0: never before `steps`.
    """

    loss: Loss = "infonce"
    temperature: float = 0.05
    hard: int = 1
    random: int = 0
    log_q: bool = False
    history: History = "positives"
    history_in: HistoryIn = "pooled"
    profile_weight: float = 2.0
    half_life_days: float = 16.0
    history_posts_max: int = 40
    learn_pooling: bool = True
    pooling_rate: float = 0.01
    memory_negatives: int = 1_024
    later_positives: bool = True
    memory_posts_max: int = 200_000
    refresh_every: int = 0
    gradient_through: GradientThrough = "all"
    empty_history_share: float = 0.1
    matryoshka: tuple[int, ...] = (384, 256, 128, 64)
    matryoshka_weights: tuple[float, ...] = ()
    pooling: Pooling = "mean"
    numbers: Numbers = "percentiles"
    same_community: bool = True
    batch: int = 32
    learning_rate: float = 3e-5
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: float = 0.0
    steps: int = 200
    seed: int = 0
    post_tokens_max: int = 64
    memory_tokens_max: int = 0
    precision: Precision = "auto"
    held_back: float = 0.1
    evaluate_every: int = 50
    patience: int = 3

    @property
    def pooled(self) -> PooledHistory:
        """Return how a history is pooled, where it is."""
        return PooledHistory(
            profile_weight=self.profile_weight,
            half_life_days=self.half_life_days,
            posts_max=self.history_posts_max,
        )

    def reading(self, history: PooledHistory | None) -> "EncoderRecipe":
        """Return the recipe of the same model, read with a history that is pooled or in the prompt."""
        if history is None:
            return replace(self, history_in="prompt")
        return replace(
            self,
            history="positives",
            history_in="pooled",
            profile_weight=history.profile_weight,
            half_life_days=history.half_life_days,
            history_posts_max=history.posts_max,
        )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.learning_rate * self.share(step)

    def share(self, step: int) -> float:
        """Return the share of the highest rate in a step: a rise, then half a cosine."""
        rising = max(1, round(self.warm_up * self.steps))
        if step < rising:
            return (step + 1) / rising
        gone = (step - rising) / max(1, self.steps - rising)
        return 0.5 * (1 + cos(pi * min(gone, 1.0)))

    def lengths(self, dims: int) -> dict[int, float]:
        """Return the nested lengths of a vector of `dims` numbers, each with its weight.

        Lengths that the model does not have are left out, the whole is always one; the weights sum
        to 1, so that a rate suits any number of lengths.
        """
        weights = self.matryoshka_weights or (1.0,) * len(self.matryoshka)
        kept = {
            length: weight
            for length, weight in zip(self.matryoshka, weights, strict=True)
            if length <= dims
        }
        kept.setdefault(dims, max(kept.values(), default=1.0))
        total = sum(kept.values())
        return {length: weight / total for length, weight in sorted(kept.items(), reverse=True)}


def decoded(kept: bytes) -> EncoderRecipe:
    """Return a recipe as it is kept beside a model; a broken one is a msgspec.DecodeError."""
    return msgspec.convert(complete(msgspec.json.decode(kept, type=dict[str, Any])), EncoderRecipe)


def complete(kept: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a recipe with what went without saying when it was written.

    Before histories were pooled all of them stood in prompts.
    """
    return {"history_in": "prompt", **kept}


def check(recipe: EncoderRecipe) -> None:
    """Refuse a recipe with a value outside its limits: an InvalidError that names the field."""
    limits: dict[str, tuple[float, float]] = {
        "temperature": (0.001, 10),
        "hard": (0, HARD_MAX),
        "random": (0, 100_000),
        "empty_history_share": (0, 1),
        "profile_weight": (0.001, 1_000),
        "half_life_days": (0.01, 100_000),
        "history_posts_max": (1, 200),
        "pooling_rate": (0, 1),
        "memory_negatives": (0, 100_000),
        "memory_posts_max": (1, 10_000_000),
        "refresh_every": (0, 10_000_000),
        "batch": (2, 1_000_000),
        "learning_rate": (0, 1),
        "warm_up": (0, 1),
        "weight_decay": (0, 1),
        "clip": (1e-6, 1e6),
        "dropout": (0, 0.9),
        "steps": (1, 10_000_000),
        "seed": (0, (1 << 63) - 1),
        "post_tokens_max": (8, 32_768),
        "memory_tokens_max": (0, 1 << 30),
        "held_back": (0, 0.9),
        "evaluate_every": (1, 10_000_000),
        "patience": (0, 10_000),
    }
    for field, (low, high) in limits.items():
        value = getattr(recipe, field)
        if not low <= value <= high:
            _refuse(field, value, f"{low:g} to {high:g}")
    if recipe.history_in == "pooled" and recipe.history == "all":
        _refuse("history", recipe.history, "positives where it is pooled; all: history_in prompt")
    if recipe.matryoshka_weights and len(recipe.matryoshka_weights) != len(recipe.matryoshka):
        limit = f"{len(recipe.matryoshka)} weights, one for each length"
        _refuse("matryoshka_weights", recipe.matryoshka_weights, limit)
    if any(length < 1 for length in recipe.matryoshka):
        _refuse("matryoshka", recipe.matryoshka, "lengths of 1 and more")
    if any(weight <= 0 for weight in recipe.matryoshka_weights):
        _refuse("matryoshka_weights", recipe.matryoshka_weights, "weights above 0")


def _refuse(field: str, value: object, limit: str) -> None:
    """Say which field of a recipe cannot be.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"{field} of a recipe is {value}, and may be {limit}",
        field=field,
        value=value,
        limit=limit,
        next_step="give a value within the limits",
    )
