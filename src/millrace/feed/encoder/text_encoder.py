"""The text encoder: any Hugging Face text model by its local path, pooled to unit vectors."""

import asyncio
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from millrace.feed.encoder.loading import (
    add_markers,
    check_folder,
    first_line,
    folder_fingerprint,
    loaded,
    packaged,
    pooled_by,
    quick_dtype,
    refuse,
    trained_with,
)
from millrace.feed.encoder.pooling import Pooled
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Prompt
from millrace.feed.vocabulary import Vocabulary

TOKENS_MAX = 256  # with the model's frame; the length that the packaged MiniLM was trained at
TOKENS_PER_BATCH = 1_024  # padding included; larger is no faster on a processor, and others wait
ROW_MULTIPLE = 8  # tokens: in bf16 a row of 254 numbers takes twice as long to read as one of 256
PROMPTS_PER_TURN = 256  # to tokenise; about as long as a batch computes
TRIED_SHAPES = ((1, 7), (1, 31), (5, 16), (2, 12))
TRIED_DIFFERENCE = 0.01  # of a unit vector's numbers; a shape that was taken for fixed is far off
Vectors = NDArray[np.float32]
_Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

logger = logging.getLogger(__name__)


class TextEncoder:
    """Turns prompts into unit vectors: as a rule the mean of the last states of all real tokens."""

    def __init__(
        self, model: Any, vocabulary: Vocabulary, *, name: str, tokens_max: int, threads: int
    ) -> None:
        """Take a loaded model; `TextEncoder.load` makes one from a directory."""
        self._model = model
        self._pooled: _Pool = Pooled(model).eval()
        self._vocabulary = vocabulary
        self._name = name
        self._tokens_max = tokens_max - vocabulary.frame
        self._history: PooledHistory | None = None
        self._threads = threads
        self._executor = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="millrace-encoder",
            initializer=torch.set_num_threads,  # the cap is a property of the thread that computes
            initargs=(threads,),
        )

    @classmethod
    def load(
        cls,
        model_dir: Path | None = None,
        threads: int = 1,
        tokens_max: int = TOKENS_MAX,
        history: PooledHistory | None = None,
    ) -> "TextEncoder":
        """Load a model; nothing is downloaded.

        Args:
            model_dir: a directory as `save_pretrained` writes it; None for the packaged MiniLM.
            threads: how many threads inference may use.
            tokens_max: budget of a prompt with the model's frame; less where the model has less.
            history: how a history is pooled, None for one in the prompt. What a model was trained
                with goes before it.
        """
        folder = packaged() if model_dir is None else model_dir
        check_folder(folder)
        dtype, pooling = quick_dtype(), trained_with(folder).pooling
        tokenizer, model = loaded(folder, dtype, written_out=dtype is torch.bfloat16)
        vocabulary = Vocabulary(tokenizer, v2.MARKERS, str(folder))
        add_markers(model, vocabulary, folder)
        limits = [tokens_max, int(tokenizer.model_max_length)]
        limits.append(int(getattr(model.config, "max_position_embeddings", tokens_max)))
        torch.set_num_threads(threads)
        history = pooled_by(folder, history)
        name = f"{folder_fingerprint(folder)}-{min(limits)}-{v2.VERSION}"
        name += f"-{history.name}" if history else ""
        made = cls(model, vocabulary, name=name, tokens_max=min(limits), threads=threads)
        made._history = history
        made._pooled = Pooled(model, pooling).eval()
        _try_out(made, folder)
        made._pooled = _traced(made._pooled, vocabulary.size)
        return made

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under: model, budget, prompts, and what is pooled."""
        return self._name

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return int(self._model.config.hidden_size)

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        return self._tokens_max

    @property
    def history(self) -> PooledHistory | None:
        """Return how a history is pooled; None where a member's prompt shows it in words."""
        return self._history

    @property
    def vocabulary(self) -> Vocabulary:
        """Return how prompts become token numbers."""
        return self._vocabulary

    def count(self, text: str) -> int:
        """Return how many tokens a piece of text takes."""
        return len(self._vocabulary.numbers_of(text))

    def encode(self, prompts: Sequence[Prompt]) -> Vectors:
        """Return one unit vector per prompt, in this thread. Shape: (len(prompts), dims)."""
        texts = self._numbers(prompts)
        vectors = np.empty((len(prompts), self.dims), dtype=np.float32)
        for batch in _batches(texts):
            vectors[batch] = self._forward([texts[place] for place in batch])
        return vectors

    async def embed(self, prompts: Sequence[Prompt]) -> Vectors:
        """Return one unit vector per prompt, computed in the encoder's own thread.

        Pieces of several callers take turns, so that one new post does not wait for an import.
        """
        loop = asyncio.get_running_loop()
        texts: list[list[int]] = []
        for start in range(0, len(prompts), PROMPTS_PER_TURN):
            piece = prompts[start : start + PROMPTS_PER_TURN]
            texts += await loop.run_in_executor(self._executor, self._numbers, piece)
        vectors = np.empty((len(prompts), self.dims), dtype=np.float32)
        for batch in _batches(texts):
            chosen = [texts[place] for place in batch]
            vectors[batch] = await loop.run_in_executor(self._executor, self._forward, chosen)
        return vectors

    def close(self) -> None:
        """End the encoder's thread; what it is computing is finished, what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _numbers(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return the token numbers of prompts."""
        return [self._vocabulary.encode(prompt, self._tokens_max) for prompt in prompts]

    def _forward(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Return the unit vectors of texts of about one length."""
        longest = _padded(max(len(text) for text in texts))
        longest = min(longest, self._tokens_max + self._vocabulary.frame)  # its positions end there
        numbers = torch.full((len(texts), longest), self._vocabulary.padding)
        real = torch.zeros((len(texts), longest), dtype=torch.int64)
        for row, text in enumerate(texts):
            numbers[row, : len(text)] = torch.tensor(text)
            real[row, : len(text)] = 1
        with torch.inference_mode():  # grad mode belongs to the thread, so it is set in here
            return self._pooled(numbers, real).numpy()


def _traced(pooled: _Pool, words: int) -> _Pool:
    """Return the same as one call that holds Python's lock only at its beginning and its end.

    As it is, a model is some hundred small calls, each of which asks for the lock again: beside a
    busy event loop that takes longer than the arithmetic. A model that cannot be written down, or
    would answer other shapes differently, is called as it is.
    """
    draw = torch.Generator().manual_seed(0)

    def example(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = torch.randint(words, (rows, length), generator=draw)
        real = torch.ones_like(numbers)
        real[1:, length // 2 :] = 0
        return numbers, real

    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is what is tried out below
            jit: Any = torch.jit
            traced = jit.trace(pooled, example(2, 12), check_trace=False)
            traced = jit.freeze(traced)
            for shape in TRIED_SHAPES:
                tried = example(*shape)
                for _ in range(2):  # it is made quicker in its first calls
                    if not torch.allclose(traced(*tried), pooled(*tried), atol=TRIED_DIFFERENCE):
                        return pooled
    except Exception:  # noqa: BLE001 - a model that cannot be traced fails in every way
        logger.info("this model cannot be traced; it is called as it is, which is slower")
        return pooled
    return traced


def _batches(texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield places of texts of about one length, longest first, within the batch's token bound."""
    batch: list[int] = []
    for place in sorted(range(len(texts)), key=lambda place: (-len(texts[place]), place)):
        longest = _padded(len(texts[batch[0]])) if batch else 0
        if batch and longest * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _padded(length: int) -> int:
    """Return the next length that is quick to read."""
    return -(-length // ROW_MULTIPLE) * ROW_MULTIPLE


def _try_out(encoder: TextEncoder, folder: Path) -> None:
    """Encode one text of full length, so that a wrong shape shows at the start."""
    marker, word = v2.MARKERS[0], "word " * encoder.tokens_max
    try:
        vectors = encoder.encode([(marker, word), ()])
    except Exception as error:  # noqa: BLE001 - a wrong shape fails in every way
        refuse(folder, f"a first text fails: {first_line(error)}", error)
    if not np.isfinite(vectors).all():
        refuse(folder, "a first text gives a vector that is not finite")
