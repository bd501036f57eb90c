"""What every encoder keeps: the fake, the packaged MiniLM and a causal model alike."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from millrace.feed.formed_encoder import in_form
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.ports import Encoder
from millrace.feed.prompts.types import Marker
from millrace.feed.testing import FakeEncoder, packaged_encoder, save_tiny_llama

VIEWS = Marker("view_percentile")
TEXTS = [
    ("quantum gates",),
    ("a garden in spring with many flowers and a long wall of stones",),
    (Marker("title"), "trains", Marker("text"), "the night train to the sea"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module", params=["fake", "formed", "minilm", "llama"])
def encoder(request: pytest.FixtureRequest, folder: Path):
    if request.param == "fake":
        return FakeEncoder()
    if request.param == "formed":
        return in_form(FakeEncoder(), PooledHistory())
    if request.param == "minilm":
        return packaged_encoder()
    from millrace.feed.encoder import TextEncoder

    return TextEncoder.load(folder, threads=1)


async def test_gives_one_unit_vector_per_prompt(encoder: Encoder):
    vectors = await encoder.embed(TEXTS)

    assert vectors.shape == (3, encoder.dims)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_nothing_to_encode_is_no_rows(encoder: Encoder):
    vectors = await encoder.embed([])

    assert vectors.shape == (0, encoder.dims)


async def test_an_empty_prompt_still_has_a_direction(encoder: Encoder):
    vectors = await encoder.embed([(), ("",)])

    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_a_vector_does_not_depend_on_its_neighbours(encoder: Encoder):
    together = await encoder.embed(TEXTS)
    alone = np.concatenate([await encoder.embed([text]) for text in TEXTS])

    assert np.all(np.sum(together * alone, axis=1) > 0.999)


async def test_the_same_prompt_has_the_same_vector(encoder: Encoder):
    first, second = await encoder.embed([TEXTS[0]]), await encoder.embed([TEXTS[0]])

    assert np.array_equal(first, second)


async def test_callers_at_the_same_time_get_their_own(encoder: Encoder):
    expected = [await encoder.embed([text]) for text in TEXTS]

    found = await asyncio.gather(*(encoder.embed([text]) for text in TEXTS))

    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


async def test_what_is_over_the_budget_is_not_read(encoder: Encoder):
    full = "stone " * encoder.tokens_max

    vectors = await encoder.embed([(full + "garden " * 9,), (full + "quantum gates " * 50,)])

    assert np.array_equal(vectors[0], vectors[1])


async def test_text_that_looks_like_a_marker_is_text(encoder: Encoder):
    real, forged = (VIEWS, "71"), (f"{VIEWS.token}71",)

    vectors = await encoder.embed([real, forged])

    assert float(vectors[0] @ vectors[1]) < 0.999


def test_counts_tokens_of_text(encoder: Encoder):
    assert encoder.count("") == 0
    assert 0 < encoder.count("quantum") < encoder.count("quantum gates and a garden")


def test_names_its_version(encoder: Encoder):
    assert encoder.version
    assert " " not in encoder.version


async def test_another_form_is_another_name_for_the_same_vectors(encoder: Encoder):
    how = None if encoder.history else PooledHistory(posts_max=7)
    other = in_form(encoder, how)

    assert other.history == how
    assert other.version != encoder.version
    assert in_form(other, encoder.history).version == encoder.version
    assert in_form(encoder, encoder.history) is encoder
    assert ((await other.embed(TEXTS)) == (await encoder.embed(TEXTS))).all()


def test_a_trained_model_says_its_form_itself(folder: Path, tmp_path: Path):
    """A setting is for models that were trained with neither form."""
    from millrace.feed.encoder import TextEncoder

    untrained = [TextEncoder.load(folder, history=how) for how in (None, PooledHistory())]
    shutil.copytree(folder, tmp_path / "trained")
    (tmp_path / "trained" / "recipe.json").write_text(
        '{"history_in": "pooled", "profile_weight": 4.5, "half_life_days": 20.0}'
    )
    trained = TextEncoder.load(tmp_path / "trained", history=None)
    (tmp_path / "trained" / "recipe.json").write_text("{}")
    before = TextEncoder.load(tmp_path / "trained", history=PooledHistory())

    assert [one.history for one in untrained] == [None, PooledHistory()]
    assert untrained[1].version == f"{untrained[0].version}-{PooledHistory().name}"
    assert trained.history == PooledHistory(profile_weight=4.5, half_life_days=20.0)
    assert before.history is None, "a recipe from before there were two forms"
