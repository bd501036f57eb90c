"""One sentence for a member: why a post is in the feed, in plain words. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from millrace.community.types import PostKind
from millrace.feed.features import Subject, mentions

LIKED_SHARE = 0.2  # a topic of fewer liked posts than this share is not worth naming
NAMED_MAX = 2
NEAR = 0.35  # cosine; from here on two texts are about the same
NEAR_POOLED = 0.2  # the averages are taken away; as many posts are as near as that (docs/LOG.md)
AFFINITY = 0.45
RECENT = 0.7
POPULAR = 0.85
KINDS = {
    PostKind.QUESTION: "a question",
    PostKind.EVENT: "an event",
    PostKind.LISTING: "a listing",
    PostKind.ALERT: "an alert",
}


class Told(Struct, frozen=True):
    """What holds of one post for one member.

    liked: its topics that the member likes, as words; named: those that the profile mentions.
    """

    author: str
    community: str
    kind: PostKind
    liked: str
    named: str
    follows: bool
    enjoys: bool
    new_voice: bool
    near: bool
    popular: bool
    recent: bool


def sentence(post: Told) -> str:
    """Return one sentence: the two strongest reasons that hold."""
    if post.liked or post.follows or post.enjoys or post.named:
        return _closed(f"Because {' and '.join(_because(post)[:NAMED_MAX])}")
    if post.new_voice:
        return _closed(f"A new voice in {post.community}")
    if post.near:
        return "Close to your profile and to what you read."
    if post.popular:
        return f"Many members in {post.community} liked it."
    what = KINDS.get(post.kind, "a post")
    if post.recent:
        return f"New in {post.community}: {what}."
    return _closed(f"{what.capitalize()} from {post.community}")


def _closed(words: str) -> str:
    """End a sentence; a name that ends in a full stop, such as `Valentin T.`, has ended it."""
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."


def _because(post: Told) -> list[str]:
    """Return reasons that begin with "you", the strongest first."""
    found: list[str] = []
    if post.liked:
        found.append(f"you liked posts about {post.liked}")
    if post.follows:
        found.append(f"you follow {post.author}")
    elif post.enjoys:
        found.append(f"you often enjoy posts by {post.author}")
    if post.named and not post.liked:
        found.append(f"your profile mentions {post.named}")
    return found


class Tastes:
    """What a member likes and names, topic by topic; each topic is looked at once."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._named: dict[str, bool] = {}

    def liked(self, topics: Sequence[str]) -> str:
        """Return the topics that the member likes most, as words; empty for none."""
        shares = self._subject.topics
        found = [topic for topic in topics if shares.get(topic, 0.0) >= LIKED_SHARE]
        found.sort(key=lambda topic: -shares[topic])
        return " and ".join(found[:NAMED_MAX])

    def named(self, topics: Sequence[str]) -> str:
        """Return the topics that the profile mentions, as words; empty for none."""
        return " and ".join([topic for topic in topics if self._is_named(topic)][:NAMED_MAX])

    def _is_named(self, topic: str) -> bool:
        found = self._named.get(topic)
        if found is None:
            found = self._named[topic] = mentions(self._subject.words, topic)
        return found


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
