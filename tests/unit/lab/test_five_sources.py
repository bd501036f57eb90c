"""Everybody is asked the same, and whoever knows the truth wins."""

from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import pytest

from millrace.feed.pooled_history import PooledHistory
from millrace.feed.testing import FakeEncoder, save_tiny_llama
from millrace.lab import five_sources, rivals, sources
from millrace.lab.exam import World, drawn
from millrace.lab.exams import of_log, of_town
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.sources import NAMES
from millrace.lab.trained import Trained
from millrace.lab.vectors import encoded, in_both_forms, lent_encoder, prompts_at
from millrace.world.loader import silent
from millrace.world.simulator.types import TownConfig

# The published keys; a report may have more.
MEASURES = {
    "recall_100", "recall_100_new_members", "recall_100_new_posts", "recall_100_out_of_network",
}  # fmt: skip
SYSTEMS = {*NAMES, "zero_shot_pooled", "union", "union_tuned", "union_pooled", "trained"}
TOWN = TownConfig(
    seed=3, communities=1, members=40, posts=400, impressions=4_000, days=8, overlap=1.0
)


class Blind(FakeEncoder):
    """Sees no difference between one text and another."""

    def encode(self, prompts):
        return np.ones((len(prompts), self.dims), dtype=np.float32)


class Knowing(FakeEncoder):
    """Recognises everybody and everything by their prompts, and knows the town's truth."""

    def __init__(self, exam) -> None:
        world, at = World(exam.data, exam.live_days), exam.questions[0].at
        super().__init__(dims=len(world.posts))
        members, posts = range(len(world.members)), np.arange(len(world.posts))
        said = prompts_at(PromptFacts(world), at, members, posts.tolist(), self)
        likes = [exam.oracle(one, posts) for one in members]
        self._known = dict(zip(said.post_prompts, np.eye(len(posts)), strict=True))
        self._known |= dict(zip(said.member_prompts, likes, strict=True))

    def encode(self, prompts):
        return np.array([self._known[one] for one in prompts], dtype=np.float32)


@pytest.fixture(scope="module")
def exam():
    return of_town(TOWN, silent)


@pytest.fixture
def encoders(exam, monkeypatch: pytest.MonkeyPatch):
    @contextmanager
    def lent(model):
        yield Blind() if model is None else Knowing(exam)

    monkeypatch.setattr(five_sources, "lent_encoder", lent)


def test_a_report_has_its_keys_and_a_good_encoder_leads(exam, encoders, tmp_path):
    model = Trained(tmp_path, exam.questions[0].at - timedelta(days=1), elsewhere=False)

    found = five_sources.run(exam, 1, 30, model, silent_say)

    systems = found["systems"]
    assert set(systems) >= SYSTEMS
    assert all(set(figures) >= MEASURES for figures in systems.values())
    assert next(iter(found["differences"])) == "trained_minus_union_recall_100"
    led = found["differences"]["trained_minus_union_recall_100"]
    assert led["interval"][0] > 0
    assert led["value"] == pytest.approx(
        systems["trained"]["recall_100"] - systems["union"]["recall_100"], abs=2e-4
    )
    assert systems["trained"] == systems["oracle"]
    assert found["model"]["cut_at"].startswith("2026-01-11")
    assert set(found["dials"]["union_shares"]) == set(NAMES)
    assert set(found["dials"]["union_pooled_shares"]) == {*NAMES[:-1], "zero_shot_pooled"}
    times = found["differences"]["trained_to_zero_shot_pooled_recall_10"]
    assert times["value"] == pytest.approx(
        systems["trained"]["recall_10"] / systems["zero_shot_pooled"]["recall_10"], rel=0.02
    )


def test_whoever_is_asked_has_something_to_find(exam):
    """Goal: no figure stands on members to whom nothing could be given."""
    world = World(exam.data, exam.live_days)
    asked = 0
    for question in (exam.tuning, exam.rehearsal(), *exam.questions):
        for member, liked in question.relevant.items():
            assert liked
            assert liked <= set(world.candidates(member, question.at).tolist())
            asked += 1
    assert asked > 50


def test_all_that_gives_candidates_gives_equally_many_of_the_same(exam, encoders, monkeypatch):
    seen: list[dict[str, list[int]]] = []

    def judge(figures, member, parts, rankings):
        seen.append(rankings)

    for module in (rivals, sources):  # there are fewer posts here than a hundred
        monkeypatch.setattr(module, "DEPTH", 20)
    monkeypatch.setattr(five_sources, "_judge", judge)
    monkeypatch.setattr(five_sources, "_differences", lambda *_: {})
    five_sources.run(exam, 1, 12, None, silent_say)

    assert seen
    for rankings in seen:
        assert set(rankings) >= {*NAMES, "zero_shot_pooled", "union_pooled", "random"}
        sizes = {name: len(set(found)) for name, found in rankings.items()}
        assert set(sizes.values()) == {20}, sizes


def test_without_a_model_nothing_is_said_of_one(exam, encoders):
    found = five_sources.run(exam, 1, 10, None, silent_say)

    assert found["systems"]["trained"] is None
    assert found["model"] is None
    assert not [name for name in found["differences"] if "trained" in name]
    assert "zero_shot_minus_union_recall_100_new_members" in found["differences"]


def test_a_log_is_asked_at_several_moments(exam, encoders):
    found = five_sources.run(of_log("log", exam.data, 2), 1, 8, None, silent_say)

    assert found["moments"] == 2
    assert "oracle" not in found["systems"]
    assert found["members"] >= 8


@pytest.mark.parametrize("history", [None, PooledHistory()])
def test_nobody_reads_what_comes_after_the_moment(exam, history):
    """Goal: what is read and pooled is the same whether or not the rest has happened."""
    question, encoder = exam.questions[0], FakeEncoder(history=history)
    cut = of_town(TOWN, silent)
    for noun, name in (
        ("posts", "created_at"), ("comments", "created_at"), ("follows", "created_at"),
        ("impressions", "shown_at"), ("engagements", "happened_at"),
    ):  # fmt: skip
        rows = getattr(cut.data, noun)
        rows[:] = [row for row in rows if getattr(row[1], name) <= question.at]
    whole, known = World(exam.data), World(cut.data)
    asked = drawn(whole, question, 1, 30)
    written = [whole.post_of[name] for name in known.posts]

    early = prompts_at(
        PromptFacts(known),
        question.at,
        asked,
        [known.post_of[name] for name in known.posts],
        encoder,
    )
    late = prompts_at(PromptFacts(whole), question.at, asked, written, encoder)

    assert len(known.posts) < len(whole.posts)
    assert early.member_prompts == late.member_prompts
    assert early.post_prompts == late.post_prompts
    assert bool(early.pools) == bool(history)
    if early.pools is not None:
        for member, liked in late.pools.liked.items():
            known_then = early.pools.liked[member]
            assert [known.posts[one] for one in known_then.posts] == [
                whole.posts[one] for one in liked.posts
            ]
            assert np.allclose(known_then.ages_days, liked.ages_days)
        assert early.pools.averaged_members == late.pools.averaged_members
        assert len(early.pools.averaged_posts) == len(late.pools.averaged_posts)


def test_a_model_is_read_by_its_path(exam, tmp_path):
    world, at = World(exam.data, exam.live_days), exam.questions[0].at
    with lent_encoder(save_tiny_llama(tmp_path)) as lent:
        assert lent.history == PooledHistory(), "as where it serves"
        encoder, _ = in_both_forms(lent, PooledHistory())
        prompts = prompts_at(PromptFacts(world), at, [3, 1], [7, 2], encoder)
        vectors = encoded(prompts, encoder)

    assert vectors.posts.shape == (8, encoder.dims)
    assert np.allclose(np.linalg.norm(vectors.posts[[7, 2]], axis=1), 1, atol=1e-5)
    assert not vectors.posts[0].any()
    near = vectors.nearness(3, np.array([2, 7]))
    assert np.allclose(near, vectors.posts[[2, 7]] @ vectors.members[3])


def silent_say(text: str) -> None:
    assert text
