"""The text encoder: what serves (`text_encoder.py`), and how one is trained."""

from millrace.feed.encoder.text_encoder import (
    TOKENS_MAX,
    TOKENS_PER_BATCH,
    TextEncoder,
    Vectors,
)

__all__ = ["TOKENS_MAX", "TOKENS_PER_BATCH", "TextEncoder", "Vectors"]
