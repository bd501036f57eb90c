"""Tiny models with random weights, and what a loss says about them."""

import torch  # noqa: TID253 - the encoder is what is tested here

from millrace.feed.encoder.gradient import Machine, Reader
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.encoder.pooling import Pooled

WORDS = 50
ALONE = Machine(device=torch.device("cpu"), dtype=torch.float32, ranks=Ranks())
torch.set_num_threads(1)  # as everywhere: a second one would only wait for the first


def reader(kind: str, pooling: str = "mean", dropout: float = 0.0) -> Reader:
    """A tiny model with random weights."""
    import transformers

    torch.manual_seed(1)
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
    }
    if kind == "llama":
        model = transformers.LlamaModel(transformers.LlamaConfig(**sizes))
    else:
        config = transformers.BertConfig(
            **sizes, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
        )
        model = transformers.BertModel(config, add_pooling_layer=False)
        model.config._attn_implementation = "eager"
    return Reader(model=Pooled(model, pooling).train(), dims=16, padding=0, tokens_max=40)


def gradients(made: Reader) -> dict[str, torch.Tensor]:
    return {
        name: one.grad.clone()
        for name, one in made.model.named_parameters()
        if one.grad is not None
    }
