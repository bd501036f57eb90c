"""One sentence for a member: why a post is in the feed, in plain words. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from millrace.community.types import PostKind
from millrace.feed.features import Subject, mentions

LIKED_SHARE = 0.2  # a topic of fewer liked posts than this share is not worth naming
NAMED_MAX = 2
NEAR = 0.35  # cosine; from here on two texts are about the same
AFFINITY = 0.45
RECENT = 0.7
POPULAR = 0.85
KINDS = {"question": "a question", "event": "an event", "listing": "a listing", "alert": "an alert"}


class Told(Struct, frozen=True):
    """What a sentence may say of a post."""

    author: str
    community: str
    kind: PostKind
    topics: Sequence[str]


def sentence(
    subject: Subject, post: Told, features: Mapping[str, float], sources: frozenset[str]
) -> str:
    """Return one sentence: the two strongest reasons that hold."""
    because = _because(subject, post, features)
    if because:
        return f"Because {' and '.join(because[:NAMED_MAX])}."
    if "exploration" in sources:
        return f"A new voice in {post.community}."
    return _otherwise(post, features)


def _because(subject: Subject, post: Told, features: Mapping[str, float]) -> list[str]:
    """Return reasons that begin with "you", the strongest first."""
    found: list[str] = []
    topics = liked_topics(subject, post.topics)
    if topics:
        found.append(f"you liked posts about {topics}")
    if features.get("follows_author", 0.0) > 0:
        found.append(f"you follow {post.author}")
    elif features.get("affinity", 0.0) >= AFFINITY:
        found.append(f"you often enjoy posts by {post.author}")
    named = [] if topics else [one for one in post.topics if mentions(subject.words, one)]
    if named:
        found.append(f"your profile mentions {' and '.join(named[:NAMED_MAX])}")
    return found


def _otherwise(post: Told, features: Mapping[str, float]) -> str:
    if features.get("similarity", 0.0) >= NEAR:
        return "Close to your profile and to what you read."
    if features.get("engagement_rate_percentile", 0.0) >= POPULAR:
        return f"Many members in {post.community} liked it."
    what = KINDS.get(post.kind.value, "a post")
    if features.get("recency", 0.0) >= RECENT:
        return f"New in {post.community}: {what}."
    return f"{what.capitalize()} from {post.community}."


def liked_topics(subject: Subject, topics: Sequence[str]) -> str:
    """Return the post's topics that the member likes most, as words; empty for none."""
    liked = [topic for topic in topics if subject.topics.get(topic, 0.0) >= LIKED_SHARE]
    liked.sort(key=lambda topic: -subject.topics[topic])
    return " and ".join(liked[:NAMED_MAX])


REMOVED = {
    "own_post": "You wrote this post yourself.",
    "muted": "You muted its author.",
    "blocked": "A block stands between you and its author.",
    "hidden_post": "You hid or reported this post.",
    "age": "It is older than your feed goes back.",
    "language": "It is in a language that your profile does not name.",
    "seen": "You have seen it already.",
    "served": "It was in your feed a while ago, and comes again.",
    "sources": "Other posts were nearer to what you read and to the people you follow.",
    "select": "Other posts came before it, and your feed is only so long.",
}


def removal_sentence(stage: str) -> str:
    """Return what a member reads about a post that is not in the feed."""
    return REMOVED.get(stage, "It was not chosen for your feed.")
