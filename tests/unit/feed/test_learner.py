"""Training of tiny random models: it learns, it stops, it goes on after a kill, and what it leaves serves."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253 - the encoder is what is tested here
from msgspec.structs import replace

from millrace.feed.encoder import TextEncoder
from millrace.feed.encoder.checkpoints import Lineage
from millrace.feed.encoder.gradient import Machine, vectors_of
from millrace.feed.encoder.learner import Learner, Lesson, Progress, Running, Trained
from millrace.feed.encoder.parallel import Ranks
from millrace.feed.encoder.trainee import trainable
from millrace.feed.encoder.vector_memory import Remembering
from millrace.feed.examples.batch import ABSENT, Batch, Tokens, joined
from millrace.feed.examples.questions import Questions
from millrace.feed.prompts.types import Marker
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import save_tiny_llama
from millrace.feed.vocabulary import Vocabulary
from millrace.kernel.errors import ConflictError, SetupError

torch.set_num_threads(1)  # a second one would only wait for the first
ALONE = Machine(device=torch.device("cpu"), dtype=torch.float32, ranks=Ranks())
TASTES = 6  # words that members write and posts have others for
RECIPE = EncoderRecipe(
    batch=12,
    steps=7,
    evaluate_every=3,
    patience=0,
    learning_rate=0.01,
    warm_up=0.1,
    temperature=0.1,
    matryoshka=(32, 8),
    history_in="prompt",
    precision="fp32",
)
POOLED = replace(RECIPE, history_in="pooled", refresh_every=4, pooling_rate=0.05)
LINEAGE = Lineage(data="examples", start="", cut_at="2026-11-01T00:00:00+00:00")
WORDS = ["quantum", "gates", "trains", "gardens", "member", "community"]
WORDS += ["posts", "reads", "about", "a", "of", "and"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


class Town:
    """Members of a taste write one word, posts of that taste another: what is to be learned."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def text(self, word: int, draw: np.random.Generator) -> np.ndarray:
        more = " ".join(WORDS[at] for at in draw.integers(TASTES * 2, size=3) // (TASTES * 2))
        prompt = (Marker("title"), f"{WORDS[word]} {WORDS[word]} {more}")
        return np.array(self._vocabulary.encode(prompt, 60), np.int32)

    def batch(self, step: int) -> Batch:
        draw = np.random.default_rng((7, step))
        tastes = draw.integers(TASTES, size=12)
        posts = np.arange(TASTES)
        return Batch(
            step=step,
            members=joined([self.text(taste, draw) for taste in tastes]),
            posts=joined([self.text(TASTES + post, draw) for post in posts]),
            positive=tastes,
            hard=np.full((12, 1), ABSENT),
            random=np.arange(0),
            barred=np.zeros((12, TASTES), np.bool_),
            log_q=np.zeros(TASTES, np.float32),
            moments=np.arange(12),
        )

    def remembering(self) -> Remembering:
        """Six posts of each taste, and a profile."""
        draw = np.random.default_rng(5)
        posts = self._texts(np.repeat(np.arange(TASTES), 6) + TASTES, draw)
        profiles = self._texts(np.arange(TASTES), draw)
        return Remembering(posts=posts.rows, profiles=TASTES, texts=lambda: (posts, profiles))

    def pooled(self, step: int) -> Batch:
        """Half of the members liked two posts of their taste; one post of each taste is recalled."""
        batch = self.batch(step)
        draw = np.random.default_rng((8, step))
        recalled = np.arange(TASTES) * 6 + draw.integers(1, 6, size=TASTES)
        liked = np.stack((batch.positive, batch.positive + TASTES), axis=1)
        liked[::2] = ABSENT
        return replace(
            batch,
            barred=np.hstack((batch.barred, batch.positive[:, None] == np.arange(TASTES))),
            log_q=np.zeros(2 * TASTES, np.float32),
            recalled=recalled,
            history=liked,
            ages_days=draw.random(liked.shape, np.float32) * 10,
            columns=np.arange(TASTES) * 6,
            who=np.full(12, ABSENT),
        )

    def questions(self, *, pooled: bool = False) -> Questions:
        """One of three members of a taste has a history: a post of it that is asked, another one."""
        draw = np.random.default_rng(99)
        tastes = np.repeat(np.arange(TASTES), 3)
        posts = np.repeat(np.arange(TASTES), 12)
        relevant = tastes[:, None] == posts[None, :]
        asked = Questions(
            members=self._texts(tastes, draw),
            posts=self._texts(posts + TASTES, draw),
            allowed=np.ones_like(relevant),
            relevant=relevant,
        )
        history = np.stack((tastes * 12, tastes + len(posts)), axis=1)
        history[np.arange(len(tastes)) % 3 > 0] = ABSENT
        return (
            asked
            if not pooled
            else replace(
                asked,
                others=self._texts(np.arange(TASTES) + TASTES, draw),
                history=history,
                ages_days=np.ones(history.shape, np.float32),
            )
        )

    def _texts(self, words: np.ndarray, draw: np.random.Generator) -> Tokens:
        return joined([self.text(word, draw) for word in words])


Train = Callable[..., Trained]


@pytest.fixture
def train(llama: Path) -> Train:
    """Trains the tiny Llama in a directory."""

    def train(
        to: Path,
        recipe: EncoderRecipe = RECIPE,
        *,
        asked: bool = True,
        draw: Callable[[Town, int], Batch] | None = None,
        **running,
    ) -> Trained:
        pooled = recipe.history_in == "pooled"
        draw = draw or (Town.pooled if pooled else Town.batch)
        trainee = trainable(llama, recipe, ALONE)
        town = Town(trainee.vocabulary)
        lesson = Lesson(
            draw=lambda step: draw(town, step),
            questions=town.questions(pooled=pooled) if asked else None,
            lineage=replace(LINEAGE, start=trainee.fingerprint),
            remembering=town.remembering() if recipe.history_in == "pooled" else None,
        )
        return Learner(trainee, lesson, recipe, ALONE, Running(to=to, **running)).train()

    return train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("loss", "pooling"), [("infonce", "mean"), ("infonce", "last"), ("bce", "mean")]
)
def test_a_causal_model_learns_what_belongs_together(
    train: Train, tmp_path: Path, loss: str, pooling: str
):
    """And what is left is a directory that serves, with its markers, pooled as it was trained."""
    steps = 25 if loss == "infonce" else 75
    recipe = replace(RECIPE, loss=loss, pooling=pooling, steps=steps, evaluate_every=steps)
    told: list[Progress] = []

    done = train(tmp_path / "run", recipe, tell=told.append)

    before, after = (look.metrics for look in done.looks)
    assert done.best == steps
    assert after["recall_10"] > 0.6 > 0.3 > before["recall_10"]
    assert after["recall_10_at_8"] > 0.6
    assert told[-1].loss < told[0].loss / 2
    assert [one.step for one in told] == list(range(1, steps + 1))
    served = TextEncoder.load(done.folder)
    assert served.vocabulary.added == {}, "the tokenizer knows the markers"
    trained = trainable(done.folder, recipe, ALONE)
    prompts = [(Marker("title"), word) for word in WORDS]
    texts = joined([np.array(trained.vocabulary.encode(one, 60), np.int32) for one in prompts])
    assert np.allclose(served.encode(prompts), vectors_of(trained.reader, texts, ALONE), atol=0.02)
    kept = {path.name for path in done.folder.iterdir()}
    assert {"model.safetensors", "recipe.json", "data.json", "metrics.json"} <= kept
    assert json.loads((done.folder / "data.json").read_text())["cut_at"] == LINEAGE.cut_at
    assert json.loads((done.folder / "metrics.json").read_text())["recall_10"] > 0.6


def test_a_pooled_history_is_learned_and_served_as_it_was_learned(train: Train, tmp_path: Path):
    """Profiles find more, so do histories; and the checkpoint says how it pools."""
    recipe = replace(POOLED, steps=25, evaluate_every=25, refresh_every=0)
    told: list[tuple[int, int]] = []

    done = train(tmp_path / "run", recipe, watch=lambda *far: told.append(far))

    before, after = (look.metrics for look in done.looks)
    assert after["recall_10"] > 0.6 > before["recall_10"]
    assert after["recall_10_profile"] > 0.6 > 0.4 > before["recall_10_profile"]
    assert told == [(36, 42), (42, 42)]
    how = TextEncoder.load(done.folder).history
    assert how is not None
    assert how.profile_weight != recipe.profile_weight
    assert how.half_life_days != recipe.half_life_days
    assert how.posts_max == recipe.history_posts_max
    metrics = json.loads((done.folder / "metrics.json").read_text())
    assert metrics["start"] == before


def test_weights_that_are_not_to_be_learned_stay(train: Train, tmp_path: Path):
    done = train(tmp_path / "run", replace(POOLED, learn_pooling=False), asked=False)

    assert TextEncoder.load(done.folder).history == POOLED.pooled


class KilledError(Exception):
    """Stands for a kill: nothing that is above may run on."""


@pytest.mark.parametrize(
    ("recipe", "save_every"), [(RECIPE, 1), (RECIPE, 2), (POOLED, 1), (POOLED, 2)]
)
def test_a_killed_training_ends_with_the_same_weights(
    train: Train, tmp_path: Path, recipe: EncoderRecipe, save_every: int
):
    """Killed once at every step, and after each look, it ends as one that was never killed.

    With a memory of vectors too, which is computed anew after every fourth step.
    """
    whole = train(tmp_path / "whole", recipe, save_every=save_every)
    to = tmp_path / "killed"
    for at in range(1, RECIPE.steps + 1):

        def kill(progress: Progress, at: int = at) -> None:
            if progress.step == at:
                raise KilledError

        with pytest.raises(KilledError):
            train(to, recipe, resume=True, save_every=save_every, tell=kill)

    done = train(to, recipe, resume=True, save_every=save_every)

    assert done.looks == whole.looks
    assert done.best == whole.best
    assert same(weights(done.folder), weights(whole.folder))
    kept = [(one / "recipe.json").read_bytes() for one in (done.folder, whole.folder)]
    assert kept[0] == kept[1]
    again = train(to, recipe, resume=True)
    assert (again.best, again.looks) == (done.best, done.looks)


def test_a_kill_while_it_writes_leaves_what_was_there(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between any two renames there is a training to go on with."""
    whole = train(tmp_path / "whole", save_every=2)
    to, rename, kills = tmp_path / "killed", Path.rename, 0
    for at in range(1, 40):
        left = [at]

        def killed(path: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if not left[0]:
                raise KilledError
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", killed)
        try:
            done = train(to, resume=True, save_every=2)
        except KilledError:
            kills += 1
            continue
        break

    assert kills > 5
    assert done.looks == whole.looks
    assert same(weights(done.folder), weights(whole.folder))


def test_judges_beside_find_the_same(train: Train, tmp_path: Path):
    """Whoever judges, the looks are the same, and training stops after the same one."""
    rates = {"learning_rate": 0.0, "pooling_rate": 0.0}
    recipe = replace(POOLED, steps=9, evaluate_every=2, patience=1, **rates)

    here = train(tmp_path / "here", recipe)
    beside = train(tmp_path / "beside", recipe, judges=1)

    assert here.steps == 2, "nothing is learned at a rate of 0, so one look is enough"
    assert here.best == beside.best == 0
    assert here.looks == beside.looks
    assert same(weights(here.folder), weights(beside.folder))


def test_the_best_is_kept_and_not_the_last(train: Train, tmp_path: Path):
    """After it has learned, lessons that teach the opposite make it worse: they do not count."""

    def turned(town: Town, step: int) -> Batch:
        batch = town.batch(step)
        return batch if step < 20 else replace(batch, positive=(batch.positive + 1) % TASTES)

    recipe = replace(RECIPE, steps=60, evaluate_every=20, patience=1)

    done = train(tmp_path / "run", recipe, draw=turned)

    assert (done.best, done.steps) == (20, 40)
    assert TextEncoder.load(done.folder).dims == 32
    assert json.loads((done.folder / "metrics.json").read_text())["step"] == 20
    assert [path.name for path in sorted((tmp_path / "run").iterdir())] == ["best", "last"]


def test_without_questions_the_last_weights_are_the_best(train: Train, tmp_path: Path):
    done = train(tmp_path / "run", asked=False)

    assert (done.best, done.steps, done.looks) == (7, 7, ())
    assert (done.folder / "model.safetensors").is_file()


def test_a_training_is_not_overwritten_or_mixed(train: Train, tmp_path: Path):
    train(tmp_path / "run", asked=False)

    with pytest.raises(ConflictError, match=r"there is a training in .* after 7 steps"):
        train(tmp_path / "run", asked=False)
    with pytest.raises(ConflictError, match="another recipe: seed was 0 and is 1"):
        train(tmp_path / "run", replace(RECIPE, seed=1), asked=False, resume=True)


def test_a_seed_is_a_training_of_its_own(train: Train, tmp_path: Path):
    """The same seed ends with the same weights, whatever was drawn before."""
    one = train(tmp_path / "one", asked=False)
    torch.manual_seed(5)
    other = train(tmp_path / "other", asked=False)

    assert same(weights(one.folder), weights(other.folder))


def test_broken_checkpoints_are_refused_with_the_reason(train: Train, tmp_path: Path):
    to = tmp_path / "run"
    done = train(to, asked=False)
    (done.folder / "recipe.json").write_text('{"pooling": "middle"}')
    with pytest.raises(SetupError, match=r"recipe.json cannot be read: .*middle"):
        TextEncoder.load(done.folder)

    (to / "last" / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(SetupError, match="last cannot be used"):
        train(to, asked=False, resume=True)
