"""What a post is about that the town has not written: by its tags, else by its words.

Only for posts of real visitors and of earlier lives; what the town wrote is known.
"""

import re
from collections import Counter
from functools import cache

from millrace.world.simulator.grammar import Choice, Template
from millrace.world.simulator.topic import Topic, topics

WORD = re.compile(r"[a-z]{4,}")
TOPICS_MAX = 3
"""A word that belongs to more topics than these says nothing."""
WORDS_MIN = 2


def topics_of(tags: list[str], text: str) -> tuple[int, ...]:
    """Return the topics of a post, the main one first: one or two, or none where nothing tells."""
    slugs = {topic.name: topic.index for topic in topics()}
    tagged = tuple(dict.fromkeys(slugs[tag] for tag in tags if tag in slugs))
    if tagged:
        return tagged[:2]
    votes: Counter[int] = Counter()
    for word in sorted(set(WORD.findall(text.lower()))):
        known = _vocabulary().get(word, ())
        for topic in known:
            votes[topic] += 1
    ranked = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))
    return tuple(topic for topic, count in ranked[:2] if count >= WORDS_MIN)


@cache
def _vocabulary() -> dict[str, tuple[int, ...]]:
    """Return the words that tell a topic, each with its topics."""
    found: dict[str, list[int]] = {}
    for topic in topics():
        for word in sorted(_words(topic)):
            found.setdefault(word, []).append(topic.index)
    return {word: tuple(known) for word, known in found.items() if len(known) <= TOPICS_MAX}


def _words(topic: Topic) -> set[str]:
    """Return every word of a topic's phrases."""
    phrases = (*topic.profile.values(), *topic.post.values(), *topic.shared.values())
    texts = (text for group in phrases for phrase in group for text in _texts(phrase))
    return {word for text in texts for word in WORD.findall(text.lower())}


def _texts(template: Template) -> list[str]:
    """Return the plain pieces of a template."""
    found: list[str] = []
    for part in template:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, Choice):
            found += [text for option in part.options for text in _texts(option)]
    return found
