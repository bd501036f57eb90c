"""What a training by itself asks of a model, with a small one."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from examples_folder import tables, write

from millrace.feed.encoder.school import School
from millrace.feed.encoder.teaching import Place
from millrace.feed.encoder_versions import EncoderVersion, State
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import save_tiny_llama
from millrace.feed.trainer_plan import timed
from millrace.kernel.clock import SystemClock

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCHOOL = School(clock=SystemClock(), place=Place(device="cpu"))


def serving(directory: Path, recipe: EncoderRecipe) -> EncoderVersion:
    """The untrained model, with histories as the recipe has them."""
    return EncoderVersion(
        version="one", name="one", directory=str(directory), dims=32, state=State.SERVING,
        added_by="settings", added_at=NOW, changed_by="settings", changed_at=NOW,
        history=recipe.pooled if recipe.history_in == "pooled" else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


def test_it_measures_teaches_and_asks_both_the_same(tmp_path: Path, llama: Path):
    """A candidate that stayed what it was finds what the other finds, member by member."""
    made = tables(moments=120)
    whole = write(tmp_path / "all", made)
    half = {name: [*column[:60]] for name, column in made["moments"].items()}
    cut_at = half["labelled_until"][-1].isoformat()
    taught = write(
        tmp_path / "taught", {**made, "moments": half}, lambda said: said.update(cut_at=cut_at)
    )
    recipe = EncoderRecipe(
        batch=8, precision="fp32", learning_rate=0.0, matryoshka=(32,), weight_decay=0.0,
        learn_pooling=False,
    )  # fmt: skip

    pace = SCHOOL.pace(taught, llama, recipe)
    recipe = timed(recipe, pace, 0.0, 0)
    told: list[int] = []
    best = SCHOOL.teach(taught, llama, recipe, tmp_path / "run", told.append)
    asked = SCHOOL.ask(whole, best, serving(llama, recipe))

    assert pace.step_seconds > 0
    assert pace.text_seconds > 0
    assert told == list(range(1, recipe.steps + 1))
    assert best == tmp_path / "run" / "best"
    assert len(asked.candidate) == len(asked.serving) > 1
    assert np.allclose(asked.candidate, asked.serving)
