"""Sentences for members."""

import re

import pytest

from millrace.community.types import PostKind
from millrace.feed.features import Subject, words
from millrace.feed.filters import FILTERS
from millrace.feed.reasons import REMOVED, Told, removal_sentence, sentence


def subject(**changes) -> Subject:
    fields = {
        "community_id": 1,
        "languages": frozenset(),
        "topics": {"boats": 1.0, "soup": 0.5, "rare": 0.01},
        "words": words("head gardener"),
        "follows": frozenset(),
        "affinity": {},
    }
    return Subject(**(fields | changes))


@pytest.mark.parametrize(
    ("topics", "features", "sources", "expected"),
    [
        (["boats"], {"follows_author": 1.0}, {"network"},
         "Because you liked posts about boats and you follow Gus."),
        (["soup", "boats"], {}, {"retrieval"}, "Because you liked posts about boats and soup."),
        (["rare"], {"affinity": 0.9}, {"network"}, "Because you often enjoy posts by Gus."),
        (["gardener"], {}, {"retrieval"}, "Because your profile mentions gardener."),
        (["head-of-state"], {}, {"retrieval"}, "A post from Village."),
        ([], {}, {"exploration", "network"}, "A new voice in Village."),
        ([], {"similarity": 0.6}, {"retrieval"}, "Close to your profile and to what you read."),
        ([], {"engagement_rate_percentile": 0.9}, {"network"},
         "Many members in Village liked it."),
        ([], {"recency": 0.9}, {"network"}, "New in Village: a post."),
        ([], {}, {"network"}, "A post from Village."),
    ],
)  # fmt: skip
def test_sentence(topics, features, sources, expected):
    post = Told("Gus", "Village", PostKind.NOTE, topics)

    assert sentence(subject(), post, features, frozenset(sources)) == expected


def test_every_filter_has_a_sentence_for_members():
    quiet = {"removed", "audience"}  # a member never hears of a post that they may not see
    named = {name for name, _ in FILTERS} - quiet

    assert named <= set(REMOVED)
    assert all(re.fullmatch(r"[A-Z].*\.", text) for text in REMOVED.values())
    assert removal_sentence("something new") == "It was not chosen for your feed."
