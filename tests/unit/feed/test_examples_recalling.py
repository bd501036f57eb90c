"""What batches take from the memory of vectors: histories of the moment, and nothing of later."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from examples_folder import STATES, tables, write
from msgspec.structs import replace

from millrace.feed.examples.batch import ABSENT, Batch
from millrace.feed.examples.batches import Batches
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.reading import Examples, Part
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import packaged_encoder

RECIPE = EncoderRecipe(batch=8, hard=1, seed=3, empty_history_share=0.0, memory_negatives=40)
DAY = 86_400_000_000


def told() -> dict[str, dict[str, list]]:
    """Engagements that lie one hour apart, the newest one minute ago."""
    made = tables(moments=120)
    moments = made["moments"]
    for at, times in zip(moments["at"], moments["positives_at"], strict=True):
        for place in range(len(times)):
            back = len(times) - 1 - place
            times[place] = at - timedelta(minutes=1) - back * timedelta(hours=1)
    return made


def written_later(made: dict[str, dict[str, list]]) -> dict[str, dict[str, list]]:
    """The last ten posts are written halfway; moments before that which know of them are left out."""
    moments, late = made["moments"], (examples_posts(made) - 10) * STATES
    half = moments["at"][len(moments["at"]) // 2]
    lists = [moments[name] for name in ("positives", "past", "shown")]
    kept = [
        row
        for row, at in enumerate(moments["at"])
        if at > half or all(max(one[row], default=0) < late for one in lists)
    ]
    made["moments"] = {name: [column[row] for row in kept] for name, column in moments.items()}
    made["posts"]["known_at"][late:] = [half] * (10 * STATES)
    return made


def examples_posts(made: dict[str, dict[str, list]]) -> int:
    return max(made["posts"]["post"]) + 1


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return Examples(write(tmp_path_factory.mktemp("examples"), told()))


def batches(examples: Examples, part: Part | None = None, **changes: object) -> Batches:
    recipe = replace(RECIPE, **changes)
    encoder = packaged_encoder()
    said = Prompted(examples, encoder.vocabulary, recipe, encoder.tokens_max)
    return Batches(part or examples.whole(), said, recipe)


def epoch(made: Batches) -> list[Batch]:
    return [made.batch(step) for step in range(made.steps_per_epoch)]


def posts_of(examples: Examples, made: Batches, batch: Batch) -> np.ndarray:
    """The post of each column: those with texts have rows of the memory too, or are repeated."""
    known = made.remembered
    assert known is not None
    rows = np.concatenate((batch.columns, batch.recalled))
    return np.where(rows == ABSENT, ABSENT, examples.post_of[known.states[rows]])


def engaged_with(examples: Examples, moment: int) -> list[int]:
    return examples.post_of[examples.shown[moment][examples.engaged[moment]]].tolist()


def test_a_history_is_what_was_engaged_with_before_and_how_long_ago(examples):
    made, seen = batches(examples), 0
    for batch in epoch(made):
        posts = posts_of(examples, made, batch)
        for pair, moment in enumerate(batch.moments.tolist()):
            there = batch.history[pair] != ABSENT
            before = examples.post_of[examples.positives[moment]].tolist()
            ages = (examples.at[moment] - examples.positives_at(moment)) / DAY
            assert posts[batch.history[pair][there]].tolist() == before
            assert np.allclose(batch.ages_days[pair][there], ages)
            assert not there[len(before) :].any()
            seen += len(before)
    assert seen > 300


def test_the_newest_of_a_long_history_count(examples):
    made = batches(examples, history_posts_max=2)
    for batch in epoch(made):
        posts = posts_of(examples, made, batch)
        for pair, moment in enumerate(batch.moments.tolist()):
            newest = examples.post_of[examples.positives[moment]].tolist()[-2:]
            there = batch.history[pair][: len(newest)]
            assert posts[there].tolist() == newest


def test_without_a_history_nothing_is_pooled_and_prompts_are_of_profiles(examples):
    alone, all_of_it = batches(examples, empty_history_share=1.0), batches(examples)

    for step in range(6):
        one, other = alone.batch(step), all_of_it.batch(step)
        assert (one.history == ABSENT).all()
        assert np.array_equal(one.members.numbers, other.members.numbers)
    assert any((batch.history != ABSENT).any() for batch in epoch(all_of_it))


def test_negatives_of_the_memory_stood_and_were_never_engaged_with(tmp_path: Path):
    """Also what is there as somebody's history: it counts for those at whose moment it stood."""
    examples = Examples(write(tmp_path, written_later(told())))
    made, against, unwritten = batches(examples), 0, 0
    begin = {
        post: min(examples.post_known_at[examples.post_of == post].tolist())
        for post in range(examples.posts)
    }
    owner = examples.member_of[examples.member_state]
    for batch in epoch(made):
        posts = posts_of(examples, made, batch)
        texts = batch.posts.rows
        for pair, moment in enumerate(batch.moments.tolist()):
            theirs = np.flatnonzero(owner == owner[moment]).tolist()
            done = {post for one in theirs for post in engaged_with(examples, one)}
            for column in np.flatnonzero(~batch.barred[pair, texts:]) + texts:
                assert begin[posts[column]] < examples.at[moment]
                assert posts[column] not in done
                against += 1
            there = [begin[post] for post in posts[texts:].tolist()]
            unwritten += sum(one >= examples.at[moment] for one in there)
    assert against > 500
    assert unwritten > 20, "posts of later are in batches of before"


def test_what_was_engaged_with_later_and_stood_is_a_positive_too(examples):
    """Never one that is not barred, nor the pair's own; without the switch there is none."""
    made, found = batches(examples), 0
    owner = examples.member_of[examples.member_state]
    for batch in epoch(made):
        posts = posts_of(examples, made, batch)
        for pair, moment in enumerate(batch.moments.tolist()):
            also = np.flatnonzero(batch.also[pair])
            later = [one for one in np.flatnonzero(owner == owner[moment]) if one >= moment]
            done = {post for one in later for post in engaged_with(examples, int(one))}
            assert set(posts[also].tolist()) <= done
            assert batch.barred[pair, also].all()
            assert posts[batch.positive[pair]] not in posts[also]
            found += len(also)
    assert found > 100
    assert not any(one.also.any() for one in epoch(batches(examples, later_positives=False)))


def test_a_memory_keeps_within_its_bound_what_was_engaged_with_first(examples):
    made = batches(examples, memory_posts_max=20)
    known = made.remembered
    assert known is not None
    liked = {post for one in range(examples.moments) for post in engaged_with(examples, one)}

    assert len(known.states) == 20
    assert set(examples.post_of[known.states].tolist()) <= liked
    for batch in epoch(made):
        rows = np.concatenate((batch.columns, batch.recalled))
        assert rows.max() < 20
        assert (batch.history < len(rows)).all()
        assert (rows[batch.history[batch.history != ABSENT]] != ABSENT).all()


def test_posts_are_remembered_as_they_were_when_they_were_shown(tmp_path: Path):
    """A state of long after would tell by its numbers who was going to be liked."""
    made = told()
    known_at = made["posts"]["known_at"]
    made["posts"]["known_at"] = [
        at + timedelta(days=60) * (state % STATES) for state, at in enumerate(known_at)
    ]

    known = batches(Examples(write(tmp_path, made))).remembered

    assert known is not None
    assert (known.states % STATES == 0).all()


def test_nothing_is_taken_from_behind_a_split(examples):
    """The same memory and batches as of a folder that ends there."""
    at = examples.whole().time_at(0.6)
    before, _ = examples.split(at)
    cut = told()
    kept = [row for row, one in enumerate(cut["moments"]["labelled_until"]) if one <= at]
    cut["moments"] = {name: [col[row] for row in kept] for name, col in cut["moments"].items()}
    alone = Examples(write(Path(examples.folder) / "cut", cut))

    split, whole = batches(examples, before), batches(alone)

    for one, other in zip(epoch(split), epoch(whole), strict=True):
        for name in ("recalled", "history", "ages_days", "columns", "who", "also", "barred"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_step_takes_the_same_whatever_was_made_before(examples):
    through, resumed = batches(examples), batches(examples)

    made = [through.batch(step) for step in range(12)]

    for name in ("recalled", "history", "log_q", "barred"):
        assert np.array_equal(getattr(made[9], name), getattr(resumed.batch(9), name))
    assert (
        len(made[9].log_q)
        == made[9].barred.shape[1]
        == len(made[9].columns) + len(made[9].recalled)
    )
