"""A model that is to be trained: read in fp32, with markers, pooling and dropout of its recipe."""

from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from msgspec.structs import replace

from millrace.feed.encoder.gradient import Machine, Reader
from millrace.feed.encoder.history_weights import HistoryWeights
from millrace.feed.encoder.loading import (
    UNUSED_WEIGHTS,
    add_markers,
    check_folder,
    folder_fingerprint,
    loaded,
    packaged,
    quick_dtype,
)
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.encoder.pooling import Pooled
from millrace.feed.encoder.text_encoder import TOKENS_MAX
from millrace.feed.prompts import v2
from millrace.feed.recipe import EncoderRecipe, Precision
from millrace.feed.vocabulary import Vocabulary

HISTORY = "history."  # before the names of its weights


class Trainee(Struct, frozen=True, kw_only=True):
    """A model with all that reads for it.

    history: how it is pooled, where it is.
    fingerprint: of the directory that it was read from.
    tokens_max: of a prompt, beside the model's frame.
    """

    reader: Reader
    history: HistoryWeights | None
    tokenizer: Any
    vocabulary: Vocabulary
    fingerprint: str
    tokens_max: int

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return what is learned, by name."""
        named: list[tuple[str, torch.nn.Parameter]] = list(self.reader.model.named_parameters())
        if self.history is not None:
            named += [(HISTORY + name, one) for name, one in self.history.named_parameters()]
        return {name: one for name, one in named if one.requires_grad}

    def recipe(self, begun: EncoderRecipe) -> EncoderRecipe:
        """Return the recipe that says how the model is read now, after it was begun with another."""
        if self.history is None:
            return begun
        how = self.history.how()
        return replace(begun, profile_weight=how.profile_weight, half_life_days=how.half_life_days)


def trainable(folder: Path | None, recipe: EncoderRecipe, machine: Machine) -> Trainee:
    """Read a model to train; a broken directory is refused as when it is to serve.

    Args:
        folder: a Hugging Face directory; None for the packaged MiniLM.
        recipe: for pooling and dropout.
        machine: where it is to live.
    """
    folder = packaged() if folder is None else folder
    check_folder(folder)
    on_processor = machine.device.type == "cpu"
    tokenizer, model = loaded(
        folder, torch.float32, written_out=on_processor and machine.dtype is torch.bfloat16
    )
    vocabulary = Vocabulary(tokenizer, v2.MARKERS, str(folder))
    add_markers(model, vocabulary, folder)
    limits = [TOKENS_MAX, int(tokenizer.model_max_length)]
    limits.append(int(getattr(model.config, "max_position_embeddings", TOKENS_MAX)))
    for name, one in model.named_parameters():
        one.requires_grad_(not name.startswith(UNUSED_WEIGHTS))
    read = Pooled(model, recipe.pooling).to(machine.device)
    for part in read.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = recipe.dropout
    reader = Reader(
        model=read,
        dims=int(model.config.hidden_size),
        padding=vocabulary.padding,
        tokens_max=min(limits),
    )
    pooled = recipe.history_in == "pooled"
    weights = HistoryWeights(recipe.pooled, learned=recipe.learn_pooling) if pooled else None
    return Trainee(
        reader=reader,
        history=weights.to(machine.device) if weights is not None else None,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        fingerprint=folder_fingerprint(folder),
        tokens_max=min(limits) - vocabulary.frame,
    )


def machine_for(device: torch.device, precision: Precision, ranks: Ranks) -> Machine:
    """Return a machine that computes in bf16 where it is told to, or where that is quick."""
    if precision == "auto":
        dtype = torch.bfloat16 if device.type == "cuda" else quick_dtype()
    else:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return Machine(device=device, dtype=dtype, ranks=ranks)
