"""Questions about a later part: nothing is asked that was known, and all that counts is there."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from examples_folder import STATES, tables, write
from msgspec.structs import replace

from millrace.feed.examples.batch import ABSENT
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.questions import Questions, questions_of
from millrace.feed.examples.reading import Examples, Part
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.prompts import v2
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import save_tiny_llama
from millrace.feed.vocabulary import Vocabulary

RECIPE = EncoderRecipe(post_tokens_max=200)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """A third of the posts change after everything that happens."""
    made = tables(moments=120)
    for state, post in enumerate(made["posts"]["post"]):
        if state % STATES and post % 3 == 0:
            made["posts"]["known_at"][state] += timedelta(days=59)
    return Examples(write(tmp_path_factory.mktemp("examples"), made))


@pytest.fixture(scope="module")
def prompted(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Prompted:
    from transformers import AutoTokenizer

    folder: Path = save_tiny_llama(tmp_path_factory.mktemp("llama"))
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return Prompted(examples, Vocabulary(tokenizer, v2.MARKERS, "tiny"), RECIPE, 200)


@pytest.fixture(scope="module")
def behind(examples: Examples) -> Part:
    whole = examples.whole()
    return whole.split(whole.time_at(0.6))[1]


def post_of(examples: Examples, prompted: Prompted, questions: Questions) -> list[int]:
    """Return which post each text is of: a title names one, whatever its numbers."""
    by_text = {
        tuple(prompted.post(state).tolist()): int(examples.post_of[state])
        for state in range(len(examples.post_of))
    }
    texts = questions.posts
    return [by_text[tuple(texts.row(place).tolist())] for place in range(texts.rows)]


def test_what_is_asked_is_what_members_did_then(examples, prompted, behind: Part):
    """Each member once, at their first moment; what they had engaged with is not a candidate."""
    questions = questions_of(behind, prompted)
    posts = post_of(examples, prompted, questions)
    owner = examples.member_of[examples.member_state]
    asked: dict[tuple[int, ...], tuple[set[int], set[int], int]] = {}
    for member in np.unique(owner[behind.rows]).tolist():
        moments = behind.rows[owner[behind.rows] == member]
        first = int(moments[0])
        before = set(examples.post_of[examples.positives[first]].tolist())
        then = {
            int(examples.post_of[state])
            for moment in moments.tolist()
            for state in examples.shown[moment][examples.engaged[moment]].tolist()
        }
        home = int(examples.member_community[examples.member_state[first]])
        asked[tuple(prompted.member(first).tolist())] = (before, then - before, home)

    assert questions.members.rows == sum(bool(then) for _, then, _ in asked.values())
    assert len(posts) == len(set(posts))
    for row in range(questions.members.rows):
        before, then, home = asked[tuple(questions.members.row(row).tolist())]
        allowed = {posts[at] for at in np.flatnonzero(questions.allowed[row]).tolist()}
        assert {posts[at] for at in np.flatnonzero(questions.relevant[row]).tolist()} == then
        assert then <= allowed
        assert not before & allowed
        assert home in {post % 2 for post in allowed}


def test_posts_are_as_they_were_when_the_part_began(examples, prompted, behind: Part):
    """Or as they first were: numbers of later tell who will be liked."""
    changes_later = examples.post_of % 3 == 0
    texts = {tuple(prompted.post(state).tolist()): state for state in range(len(changes_later))}

    questions = questions_of(behind, prompted)

    rows = questions.posts
    asked = [texts[tuple(rows.row(place).tolist())] for place in range(rows.rows)]
    assert any(changes_later[asked])
    for state in asked:
        assert state % STATES == (0 if changes_later[state] else STATES - 1)


def test_pooled_histories_are_of_the_moment(examples, prompted, behind: Part, monkeypatch):
    """Places of what was engaged with, with its age; members' texts are those of profiles."""
    how = PooledHistory(posts_max=3)
    words = questions_of(behind, prompted)
    questions = questions_of(behind, prompted, pooled=how)
    posts = post_of(examples, prompted, questions)
    more = post_of(examples, prompted, replace(questions, posts=questions.others))
    owner = examples.member_of[examples.member_state]
    seen = 0

    assert np.array_equal(questions.relevant, words.relevant)
    for row in range(questions.members.rows):
        member = [one for one in range(len(owner)) if texts_equal(prompted, one, questions, row)]
        first = min(one for one in member if one in behind.rows)
        before = examples.post_of[examples.positives[first]].tolist()[-3:]
        places = questions.history[row][questions.history[row] != ABSENT].tolist()
        assert [(posts + more)[place] for place in places] == before
        ages = (examples.at[first] - examples.positives_at(first)[-3:]) / 86_400e6
        assert np.allclose(questions.ages_days[row][: len(places)], ages)
        seen += len(places)
    assert seen > 10
    monkeypatch.setattr("millrace.feed.examples.questions.OTHERS_MAX", 2)
    few = questions_of(behind, prompted, pooled=how, posts_max=1)
    assert few.others.rows <= 2
    assert 0 < few.members.rows < questions.members.rows
    assert few.allowed.shape == (few.members.rows, few.posts.rows)


def texts_equal(prompted: Prompted, moment: int, questions: Questions, row: int) -> bool:
    return prompted.member(moment, history=False).tolist() == questions.members.row(row).tolist()


def test_limits_draw_the_same_and_keep_what_counts(prompted, behind: Part):
    whole = questions_of(behind, prompted)
    few = questions_of(behind, prompted, seed=3, members_max=4, posts_max=5)
    again = questions_of(behind, prompted, seed=3, members_max=4, posts_max=5)

    assert few.members.rows <= 4 < whole.members.rows
    assert few.posts.rows < whole.posts.rows
    assert few.relevant.any(axis=1).all()
    assert not (few.relevant & ~few.allowed).any()
    for one, other in ((few.members, again.members), (few.posts, again.posts)):
        assert np.array_equal(one.numbers, other.numbers)
    assert np.array_equal(few.relevant, again.relevant)
