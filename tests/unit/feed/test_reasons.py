"""Sentences for members."""

import re
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from millrace.community.types import Audience, Key, PostKind
from millrace.feed.catalogue import AuthorFacts, Catalogue, PostFacts
from millrace.feed.features import COLUMN, FEATURES, Subject, words
from millrace.feed.filters import FILTERS
from millrace.feed.ranking import sentences
from millrace.feed.reasons import REMOVED, Told, removal_sentence, sentence
from millrace.feed.run import SOURCES, candidates


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
    catalogue, posts, row = one_post(features, sources, topics)

    assert sentences(catalogue, subject(), posts, row) == [expected]


def test_a_pooled_vector_is_near_to_a_post_from_less_on():
    """Its averages are taken away, so that texts about the same are no longer so near."""
    catalogue, posts, row = one_post({"similarity": 0.25}, {"retrieval"}, [])

    assert sentences(catalogue, subject(), posts, row) == ["A post from Village."]
    assert sentences(catalogue, subject(), posts, row, pooled=True) == [
        "Close to your profile and to what you read."
    ]


def one_post(features, sources, topics):
    """A catalogue of one post by Gus, the post as a candidate, and its features."""
    catalogue = Catalogue(4)
    catalogue.communities[1] = "Village"
    catalogue.put_author(AuthorFacts(key=Key(1, 2), name="Gus", stands=True))
    catalogue.put(
        PostFacts(
            key=Key(1, 9), author=Key(1, 2), kind=PostKind.NOTE, topics=topics, language="en",
            audience=Audience.PUBLIC, created_at=datetime(2026, 3, 1, tzinfo=UTC),
        ),
        None,
    )  # fmt: skip
    ranks = np.array([[0 if name in sources else -1 for name in SOURCES]])
    posts = candidates(np.array([0]), catalogue.index, ranks, np.zeros((1, len(SOURCES))))
    posts.row = np.array([0])
    row = np.zeros((1, len(FEATURES)))
    for name, value in features.items():
        row[0, COLUMN[name]] = value
    return catalogue, posts, row


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"follows": True}, "Because you follow Valentin T."),
        ({"new_voice": True}, "A new voice in Mill Sq."),
        ({}, "A post from Mill Sq."),
        ({"follows": True, "author": "Who?"}, "Because you follow Who?"),
        ({"popular": True}, "Many members in Mill Sq. liked it."),
    ],
)
def test_a_name_that_ends_in_a_stop_ends_the_sentence(changes, expected):
    post = Told(
        author="Valentin T.", community="Mill Sq.", kind=PostKind.NOTE, liked="", named="",
        follows=False, enjoys=False, new_voice=False, near=False, popular=False, recent=False,
    )  # fmt: skip

    assert sentence(msgspec.structs.replace(post, **changes)) == expected


def test_every_filter_has_a_sentence_for_members():
    quiet = {"removed", "audience"}  # a member never hears of a post that they may not see
    named = {name for name, _ in FILTERS} - quiet

    assert named <= set(REMOVED)
    assert all(re.fullmatch(r"[A-Z].*\.", text) for text in REMOVED.values())
    assert removal_sentence("something new") == "It was not chosen for your feed."
