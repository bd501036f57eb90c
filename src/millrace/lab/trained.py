"""A trained encoder that is put to questions: which one it is, and that it does not know the answers."""

from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from millrace.kernel.errors import InvalidError

LINEAGE = "data.json"  # what a training writes beside a model


class Lineage(Struct, frozen=True):
    """As much of it as matters here: nothing later than `cut_at` was learned from; may be empty."""

    cut_at: str = ""


class Trained(Struct, frozen=True):
    """A model directory. `cut_at` is None where nobody wrote down what it was taught by."""

    model: Path
    cut_at: datetime | None
    elsewhere: bool


def trained(model: Path, first: datetime, *, elsewhere: bool) -> Trained:
    """Return a model that may be asked questions.

    Args:
        model: its directory.
        first: when the first question is asked.
        elsewhere: whether it was taught by other data, so that its times and these do not compare.

    Raises:
        InvalidError: it was taught by what happened after the first question.
    """
    file = model / LINEAGE
    said = msgspec.json.decode(file.read_bytes(), type=Lineage).cut_at if file.is_file() else ""
    cut_at = datetime.fromisoformat(said) if said else None
    if cut_at is not None and cut_at > first and not elsewhere:
        raise InvalidError(
            f"the model at {model} was taught by what happened up to {cut_at.isoformat()}",
            field="--model",
            value=str(model),
            limit=f"the first question, at {first.isoformat()}",
            next_step="train on what lies before it, or say --elsewhere if it saw other data",
        )
    return Trained(model, cut_at, elsewhere)
