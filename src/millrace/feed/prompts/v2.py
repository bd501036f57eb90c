"""Prompts, version 2. Frozen once vectors made from it are stored: a change is a `v3.py`.

A post is its fields, each behind its marker, with the text last, so that a budget cuts the text
and nothing else. A member is an instruction, the profile, then the posts that the member engaged
with positively, oldest first; where the budget is short the newest are kept. Every number is a
percentile between an opening and a closing marker, `<view_percentile>71</view_percentile>`,
because raw counts teach an encoder nothing (arXiv 2510.14223, LinkedIn: correlation of popularity
and cosine -0.004 with raw numbers, 0.116 with percentiles).

Version 1 gave members 256 tokens and each post of a history 160 characters of its text. Half of
that with more and shorter posts finds as much, in half the time (docs/decisions/0120).
"""

from collections.abc import Callable, Sequence

from millrace.feed.prompts.types import PERCENTILE_MAX, Marker, MemberFacts, PostFacts, Prompt

VERSION = "v2"
INSTRUCTION = "A member of a community and the posts that they engaged with."

# Characters. They keep one long field from pushing the others out of the budget.
NAME_MAX = 80
HEADLINE_MAX = 160
LIST_MAX = 200
TITLE_MAX = 300
TEXT_MAX = 8_000
HISTORY_TITLE_MAX = 160
HISTORY_POST_MAX = 60  # title and text together; a title is shown whole, and says the most
HISTORY_UNTITLED_MAX = 80

MEMBER_TOKENS_MAX = 126  # with the two of a usual frame 128, which a processor reads in one go
PROFILE_SHARE = 0.5  # of the budget; more only where the history leaves it
HISTORY_POST_TOKENS_MIN = 12  # a cut post of fewer tokens says nothing

FIELDS = (
    "post_kind", "author_name", "author_headline", "community", "topics", "title", "text",
    "instruction", "member_name", "member_headline", "about", "skills", "place", "languages",
    "history", "history_post",
)  # fmt: skip
PERCENTILES = (
    "age_percentile", "view_percentile", "like_percentile", "comment_percentile",
    "engagement_percentile", "author_reach_percentile",
)  # fmt: skip
MARKERS: tuple[Marker, ...] = (
    *(Marker(name) for name in FIELDS),
    *(Marker(name) for name in PERCENTILES),
    *(Marker(f"/{name}") for name in PERCENTILES),
)

Count = Callable[[str], int]


def post_prompt(facts: PostFacts) -> Prompt:
    """Return what the encoder reads of a post. The text comes last and is what a budget cuts."""
    return (
        *_field("post_kind", _cut(facts.kind, NAME_MAX)),
        *_field("author_name", _cut(facts.author_name, NAME_MAX)),
        *_field("author_headline", _cut(facts.headline, HEADLINE_MAX)),
        *_field("community", _cut(facts.community, NAME_MAX)),
        *_field("topics", _cut(", ".join(facts.topics), LIST_MAX)),
        *_percentile("age_percentile", facts.age_percentile),
        *_percentile("view_percentile", facts.view_percentile),
        *_percentile("like_percentile", facts.like_percentile),
        *_percentile("comment_percentile", facts.comment_percentile),
        *_percentile("engagement_percentile", facts.engagement_percentile),
        *_percentile("author_reach_percentile", facts.author_reach_percentile),
        *_field("title", _cut(facts.title, TITLE_MAX)),
        *_field("text", _cut(facts.text, TEXT_MAX)),
    )


def member_prompt(facts: MemberFacts, tokens_max: int, count: Count) -> Prompt:
    """Return what the encoder reads of a member, never more than `tokens_max` tokens.

    Args:
        facts: the member; the history newest last.
        tokens_max: the encoder's budget; a marker takes one token. No more than
            MEMBER_TOKENS_MAX are used.
        count: how many tokens a piece of text takes.

    Returns:
        Instruction, profile, then history, oldest first. The newest posts are kept.
    """
    tokens_max = min(tokens_max, MEMBER_TOKENS_MAX)
    share = int(tokens_max * PROFILE_SHARE)
    reserved = cost(_profile(facts, share, count), count)
    history = _history(facts.history, tokens_max - reserved, count)
    profile = _profile(facts, tokens_max - cost(history, count), count)
    return (*profile, *history)


def posts_shown(prompt: Prompt) -> int:
    """Return how many posts of the history a member's prompt shows."""
    return sum(part == Marker("history_post") for part in prompt)


def posts_with_words(posts: Sequence[PostFacts]) -> int:
    """Return how many of these posts a history would show if there were room."""
    return sum(len(_history_post(facts)) > 1 for facts in posts)


def cost(prompt: Prompt, count: Count) -> int:
    """Return how many tokens a prompt takes."""
    return sum(1 if isinstance(part, Marker) else count(part) for part in prompt)


def _profile(facts: MemberFacts, room: int, count: Count) -> Prompt:
    """Return instruction and profile in at most `room` tokens; what comes first has precedence."""
    fields = (
        ("instruction", INSTRUCTION),
        ("member_name", _cut(facts.display_name, NAME_MAX)),
        ("member_headline", _cut(facts.headline, HEADLINE_MAX)),
        ("skills", _cut(", ".join(facts.skills), LIST_MAX)),
        ("place", _cut(facts.place, NAME_MAX)),
        ("languages", _cut(", ".join(facts.languages), LIST_MAX)),
        ("about", _cut(facts.about, TEXT_MAX)),
    )
    kept: list[Marker | str] = []
    for name, text in fields:
        part = _field(name, _fit(text, room - 1, count))
        kept.extend(part)
        room -= cost(part, count)
    return tuple(kept)


def _history(posts: list[PostFacts], room: int, count: Count) -> Prompt:
    """Return the newest posts that fit into `room` tokens, oldest first, without a gap."""
    room -= 1  # the marker before them
    kept: list[Prompt] = []
    for facts in reversed(posts):
        whole = _history_post(facts)
        if len(whole) == 1:  # a post of no words
            continue
        part = _shortened(whole, room, count)
        if not part:
            break
        kept.append(part)
        room -= cost(part, count)
    if not kept:
        return ()
    return (Marker("history"), *(part for prompt in reversed(kept) for part in prompt))


def _history_post(facts: PostFacts) -> Prompt:
    """Return how a history shows a post: topics, title and how the text begins."""
    title = _cut(facts.title, HISTORY_TITLE_MAX)
    text_max = max(HISTORY_POST_MAX - len(title), 0) if title else HISTORY_UNTITLED_MAX
    return (
        Marker("history_post"),
        *_field("topics", _cut(", ".join(facts.topics), LIST_MAX)),
        *_field("title", title),
        *_field("text", _cut(facts.text, text_max)),
    )


def _shortened(whole: Prompt, room: int, count: Count) -> Prompt:
    """Return a prompt with its last text cut to `room` tokens; empty when too little is left."""
    if cost(whole, count) <= room:
        return whole
    head, last = whole[:-1], whole[-1]
    assert isinstance(last, str), "a post ends with text"
    shown = _fit(last, room - cost(head, count), count)
    return (*head, shown) if shown and room >= HISTORY_POST_TOKENS_MIN else ()


def _field(name: str, text: str) -> Prompt:
    """Return a marker and its text, or nothing where there is no text."""
    return (Marker(name), text) if text else ()


def _percentile(name: str, value: int | None) -> Prompt:
    """Return `<name>value</name>`, or nothing where the number is unknown."""
    if value is None:
        return ()
    assert 0 <= value <= PERCENTILE_MAX, f"{name} {value} is outside 0..{PERCENTILE_MAX}"
    return (Marker(name), str(value), Marker(f"/{name}"))


def _cut(text: str, characters_max: int) -> str:
    """Return the text on one line, at most so many characters, ending with a whole word."""
    line = " ".join(text[: characters_max * 2].split())
    return line if len(line) <= characters_max else _whole_words(line[:characters_max], line)


def _whole_words(start: str, line: str) -> str:
    """Return the start of a line without the word that was cut, unless that is most of it."""
    if len(start) == len(line) or line[len(start)] == " ":
        return start.rstrip()
    space = start.rfind(" ")
    return start[:space].rstrip() if space > len(start) // 2 else start


def _fit(text: str, tokens_max: int, count: Count) -> str:
    """Return the longest start of the text, in whole words, of at most so many tokens.

    Every answer was counted, so a tokenizer whose counts do not grow evenly costs length and
    never the budget.
    """
    if tokens_max <= 0:
        return ""
    if count(text) <= tokens_max:
        return text
    low, high = 0, len(text)  # the start of `low` characters fits, that of `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        if count(text[:middle]) <= tokens_max:
            low = middle
        else:
            high = middle
    shorter = _whole_words(text[:low], text)
    return shorter if count(shorter) <= tokens_max else ""
