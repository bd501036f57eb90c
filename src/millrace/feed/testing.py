"""Fakes of the feed's ports, for tests of this room and of those that use it."""

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.community.testing import Rooms
from millrace.community.types import Key
from millrace.feed.examples.batch import ABSENT, Batch, Tokens, joined
from millrace.feed.parts import FeedParts
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.ports import Encoder
from millrace.feed.prompts.types import Marker, Prompt
from millrace.feed.room import Feed
from millrace.feed.types import App, FeedConfig
from millrace.kernel.errors import UnavailableError
from millrace.kernel.hashing import hash64
from millrace.kernel.ids import IdMaker

if TYPE_CHECKING:
    from millrace.feed.encoder import TextEncoder

WORD = re.compile(r"\w+")
BARRED_SHARE = 0.2


class FakeEncoder:
    """A bag of hashed words: texts that share words are near each other. No model, no torch."""

    def __init__(
        self, *, dims: int = 32, tokens_max: int = 200, history: PooledHistory | None = None
    ) -> None:
        self._dims = dims
        self._tokens_max = tokens_max
        self._history = history

    @property
    def version(self) -> str:
        """Return the name that vectors are stored under."""
        form = f"-{self._history.name}" if self._history else ""
        return f"fake-{self._dims}-{self._tokens_max}{form}"

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return self._dims

    @property
    def tokens_max(self) -> int:
        """Return how many tokens of a prompt are read, markers included."""
        return self._tokens_max

    @property
    def history(self) -> PooledHistory | None:
        """Return how a history is pooled; None where a member's prompt shows it in words."""
        return self._history

    def count(self, text: str) -> int:
        """Return the number of words."""
        return len(WORD.findall(text))

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        vectors = np.zeros((len(prompts), self._dims), dtype=np.float32)
        for row, prompt in zip(vectors, prompts, strict=True):
            row += self._vector(prompt)
        return vectors

    def _vector(self, prompt: Prompt) -> NDArray[np.float32]:
        """Return the unit sum of one fixed random direction per word; markers have no weight."""
        words: list[str] = []
        room = self._tokens_max
        for part in prompt:
            taken = [""] if isinstance(part, Marker) else WORD.findall(part.lower())[: max(room, 0)]
            room -= len(taken)
            words.extend(word for word in taken if word)
        total = np.zeros(self._dims, dtype=np.float64)
        for word in words or ["nothing"]:
            total += np.random.default_rng(hash64(word)).standard_normal(self._dims)
        return (total / np.linalg.norm(total)).astype(np.float32)


@cache
def packaged_encoder() -> "TextEncoder":
    """Return the packaged MiniLM, loaded once per process: loading takes seconds."""
    from millrace.feed.encoder import TextEncoder  # late: it brings torch

    return TextEncoder.load(None, threads=1)


def save_tiny_llama(folder: Path, dims: int = 32) -> Path:
    """Write a causal model with random weights and a byte-level tokenizer; return the folder.

    It proves that the encoder reads models of another kind, without a download.
    """
    tokenizers: Any = import_module("tokenizers")
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")
    text = "a member of a community reads posts about quantum gates, trains and gardens "
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator([text], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=256, **names
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=dims,
        intermediate_size=2 * dims,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def drawn_batch(*, seed: int, pairs: int, posts: int, words: int = 50) -> Batch:
    """Return a batch of texts without meaning, of many lengths, with some posts barred."""
    draw = np.random.default_rng(seed)

    def texts(count: int) -> Tokens:
        lengths: list[int] = draw.integers(3, 40, size=count).tolist()
        return joined([draw.integers(1, words, size=n, dtype=np.int32) for n in lengths])

    positive = draw.integers(posts, size=pairs)
    barred = draw.random((pairs, posts)) < BARRED_SHARE
    barred[np.arange(pairs), positive] = False
    return Batch(
        step=seed,
        members=texts(pairs),
        posts=texts(posts),
        positive=positive,
        hard=np.full((pairs, 1), ABSENT),
        random=np.arange(0),
        barred=barred,
        log_q=np.log(draw.random(posts) + 0.01).astype(np.float32),
        moments=np.arange(pairs),
    )


def recalling(batch: Batch, remembered: int) -> Batch:
    """Return a batch that also takes from a memory of so many posts, and of a profile per pair.

    The first posts of the batch are the first of the memory; every third is in nobody's history.
    """
    draw = np.random.default_rng((batch.step, remembered))
    known = min(batch.posts.rows, remembered)
    columns = np.full(batch.posts.rows, ABSENT)
    columns[:known] = np.arange(known)
    recalled = np.arange(known, remembered)
    history = draw.integers(ABSENT, batch.posts.rows + len(recalled), size=(batch.pairs, 6))
    history[(history >= known) & (history < batch.posts.rows)] = ABSENT  # not in the memory
    more = draw.random((batch.pairs, len(recalled))) < BARRED_SHARE
    return replace(
        batch,
        barred=np.hstack((batch.barred, more)),
        log_q=np.concatenate((batch.log_q, np.zeros(len(recalled), np.float32))),
        recalled=recalled,
        history=np.where(history % 3 == 0, ABSENT, history),
        ages_days=draw.random(history.shape, np.float32) * 20,
        columns=columns,
        who=np.arange(batch.pairs),
    )


class BrokenEncoder(FakeEncoder):
    """An encoder that can be told to fail; it counts what it was asked to embed."""

    def __init__(self, *, history: PooledHistory | None = None) -> None:
        super().__init__(history=history)
        self.broken = False
        self.embedded = 0

    async def embed(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Return vectors, or fail.

        Raises:
            UnavailableError: it was told to.
        """
        if self.broken:
            raise UnavailableError("the encoder is broken", next_step="mend it")
        self.embedded += len(prompts)
        return await super().embed(prompts)


class Said(Struct, frozen=True, kw_only=True):
    """What a flag of a test says."""

    key: str
    value: Any = None
    variant: str = ""
    error: str | None = None
    message: str = ""


class FakeSwitches:
    """Flags as plain functions from member and app to a variant and its value."""

    def __init__(self, **flags: Callable[[Key, App], Said]) -> None:
        self._flags = {f"feed.{name}": said for name, said in flags.items()}
        self.noted: list[tuple[Key, str, str]] = []
        self.asked = 0

    def flagset(self) -> Mapping[str, Callable[[Key, App], Said]]:
        """Return the flags: a dictionary has keys."""
        return self._flags

    def put(self, name: str, said: Callable[[Key, App], Said]) -> None:
        """Change a flag: the set is another one from now on."""
        self._flags = self._flags | {f"feed.{name}": said}

    def context_of(self, member: Key, app: App) -> Mapping[str, Any]:
        """Return what is known of a member."""
        return {"member": member, "app": app}

    def evaluate(self, key: str, context: Mapping[str, Any]) -> Said:
        """Return what a flag says."""
        self.asked += 1
        return replace(self._flags[key](context["member"], context["app"]), key=key)

    async def note_app(self, member: Key, track: str, version: str) -> None:
        """Remember it."""
        self.noted.append((member, track, version))


def parts_for(
    rooms: Rooms, conninfo: str, encoder: Encoder | None = None, config: FeedConfig | None = None
) -> FeedParts:
    """Return the surroundings of a feed over a community; the encoder as the settings want it."""
    config = config or FeedConfig(coalesce_seconds=0.0, fit_minutes=0.0)
    return FeedParts(
        router=rooms.router,
        clock=rooms.clock,
        ids=IdMaker(rooms.clock, 2),
        secret=b"a secret for tests, 32 bytes long",
        conninfo=conninfo,
        encoder=encoder or FakeEncoder(history=config.pooled),
        posts=rooms.posts,
        relations=rooms.relations,
        activity=rooms.activity,
        percentiles=rooms.percentiles,
        config=config,
    )


@asynccontextmanager
async def feeding(
    rooms: Rooms, conninfo: str, *, encoder: Encoder | None = None, config: FeedConfig | None = None
) -> AsyncGenerator[Feed]:
    """Lend a feed over a community, started; its timers are as short as a test wants them."""
    feed = Feed(parts_for(rooms, conninfo, encoder, config))
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()
