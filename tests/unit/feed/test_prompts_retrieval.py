"""Prompts and the packaged encoder together: a member's posts of interest come first."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from millrace.feed.prompts import v2
from millrace.feed.prompts.types import MemberFacts, PostFacts
from millrace.feed.testing import packaged_encoder

START = datetime(2026, 3, 1, tzinfo=UTC)
TOPICS = {
    "trains": [
        ("Night train to the coast", "The sleeper leaves at nine and has a buffet car again."),
        ("New signals on the branch line", "Trains may now run every twenty minutes."),
        ("Old steam engine restored", "The museum railway fired it up for the first time."),
        ("Which seat reservation?", "The express to the capital is full at weekends."),
    ],
    "gardens": [
        ("When to prune roses", "I cut mine back hard in late winter and feed them after."),
        ("Slugs ate my lettuce", "Beer traps and copper tape did not help this spring."),
        ("Compost that smells", "Too much grass; mix in straw and turn the heap."),
        ("Tomatoes on a balcony", "Pots of forty litres, a stake, and water every evening."),
    ],
    "music": [
        ("Choir looks for tenors", "We rehearse on Tuesdays and sing a requiem in autumn."),
        ("A used violin", "Fine tone, new strings, with bow and case."),
        ("Jazz in the cellar", "A quartet plays standards this Friday at eight."),
        ("Learning the piano at sixty", "My teacher starts with scales and a little Bach."),
    ],
}


def facts(title: str, text: str, number: int) -> PostFacts:
    return PostFacts(
        kind="note",
        author_name="Ada Bell",
        headline="Neighbour",
        community="Riverside",
        topics=[],
        title=title,
        text=text,
        created_at=START + timedelta(hours=number),
        age_percentile=number * 7 % 101,
        view_percentile=number * 31 % 101,
        like_percentile=number * 17 % 101,
    )


POSTS = {
    topic: [facts(title, text, n) for n, (title, text) in enumerate(rows)]
    for topic, rows in TOPICS.items()
}


def member(headline: str, history: list[PostFacts]) -> MemberFacts:
    return MemberFacts(
        display_name="Sam Reed",
        headline=headline,
        about="",
        skills=[],
        place="Riverside",
        languages=["en"],
        history=history,
    )


def nearness(who: MemberFacts, posts: list[PostFacts]) -> np.ndarray:
    """Return how near each post is to a member."""
    encoder = packaged_encoder()
    prompt = v2.member_prompt(who, encoder.tokens_max, encoder.count)
    vectors = encoder.encode([prompt, *(v2.post_prompt(post) for post in posts)])
    return vectors[1:] @ vectors[0]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_history_leads_to_more_of_its_topic(topic: str):
    """Untrained: the nearest is of the topic, and its posts are nearer on the whole."""
    others = [post for name, posts in POSTS.items() if name != topic for post in posts[2:]]
    own = POSTS[topic][2:]

    found = nearness(member("", POSTS[topic][:2]), own + others)

    assert int(np.argmax(found)) < len(own)
    assert found[: len(own)].mean() > found[len(own) :].mean() + 0.02


@pytest.mark.parametrize(
    ("headline", "topic"),
    [("Railway engineer", "trains"), ("Gardener", "gardens"), ("Violin teacher", "music")],
)
def test_a_headline_alone_leads_to_its_topic(headline: str, topic: str):
    """Cold start: no history, no about."""
    others = [post for name, posts in POSTS.items() if name != topic for post in posts]
    own = POSTS[topic]

    found = nearness(member(headline, []), own + others)

    assert int(np.argmax(found)) < len(own)
    assert found[: len(own)].mean() > found[len(own) :].mean() + 0.02
