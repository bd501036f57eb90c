"""Goal: without common words a reader of meaning finds the posts for a profile, and BM25 does not."""

from datetime import UTC, datetime

import bm25s
import numpy as np
import pytest

from millrace.community.types import PostKind
from millrace.feed.encoder import TextEncoder
from millrace.feed.prompts.types import MemberFacts, PostFacts
from millrace.feed.prompts.v2 import member_prompt, post_prompt
from millrace.kernel.rng import rng as seeded
from millrace.world.simulator.topic import topics
from millrace.world.simulator.writing import PostText, ProfileText, Writer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load(None, threads=1)


def area(scores: np.ndarray, wanted: np.ndarray) -> float:
    """Probability that a wanted post stands above another; a tie counts half."""
    above = scores[wanted][:, None] - scores[~wanted][None, :]
    return float(np.mean(above > 0) + np.mean(above == 0) / 2)


def asked(profile: ProfileText, name: str) -> MemberFacts:
    return MemberFacts(
        display_name=name, headline=profile.headline, about=profile.about,
        skills=profile.skills, place=profile.place, languages=[], history=[],
    )  # fmt: skip


def shown(post: PostText, name: str) -> PostFacts:
    return PostFacts(
        kind="note", author_name=name, headline="", community="", topics=[],
        title=post.title, text=post.text, created_at=NOON,
    )  # fmt: skip


async def test_meaning_carries_and_words_do_not(encoder):
    """One profile without history and four posts of every topic, overlap 0."""
    rng, writer, known = seeded(909), Writer(), topics()
    profiles = [writer.profile(rng, [(topic.index, 1.0)], 0.0) for topic in known]
    about = np.array([topic.index for topic in known for _ in range(4)])
    posts = [
        writer.post(rng, int(topic), None, PostKind.NOTE, 0.0, writer.voice(rng)) for topic in about
    ]
    members = await encoder.embed(
        [
            member_prompt(asked(profile, writer.name(rng)[0]), encoder.tokens_max, encoder.count)
            for profile in profiles
        ]
    )
    near = (
        members
        @ (await encoder.embed([post_prompt(shown(post, writer.name(rng)[0])) for post in posts])).T
    )
    engine = bm25s.BM25()
    engine.index(
        bm25s.tokenize([f"{post.title} {post.text}" for post in posts], show_progress=False),
        show_progress=False,
    )
    by_meaning: list[float] = []
    by_words: list[float] = []
    for topic, profile in enumerate(profiles):
        text = f"{profile.headline} {profile.about} {' '.join(profile.skills)}"
        query = bm25s.tokenize(text, return_ids=False, show_progress=False)[0]
        by_meaning.append(area(near[topic], about == topic))
        by_words.append(area(engine.get_scores(query), about == topic))

    assert np.mean(by_meaning) > 0.8
    assert np.mean(by_words) < 0.6
