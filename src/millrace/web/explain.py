"""An explanation as people read it: bars for a member, tables for an operator."""

from collections.abc import Mapping

from msgspec import Struct

from millrace.community.types import Action, Member, PostView
from millrace.feed.types import ActionNote, Adjustment, Explanation, Nearness
from millrace.web.cards import HEADING_CHARACTERS
from millrace.web.text import excerpt

SOURCE_LABELS = {
    "network": "Your community and the people you follow",
    "retrieval": "Close to your profile and to what you liked",
    "exploration": "A new voice",
}
ACTION_LABELS = {
    Action.CLICK.value: "You open it",
    Action.LONG_DWELL.value: "You stay with it",
    Action.LIKE.value: "You like it",
    Action.COMMENT.value: "You comment",
    Action.SHARE.value: "You share it",
    Action.HIDE.value: "You hide it",
    Action.MUTE.value: "You mute the author",
    Action.BLOCK.value: "You block the author",
    Action.REPORT.value: "You report it",
}
# What a member is told of the features, in this order. Each lies between 0 and 1.
SIGNAL_LABELS = {
    "similarity": "Close to your profile and to what you liked",
    "learned_similarity": "Like what members with such a profile turned out to like",
    "learned_similarity_around": "Among posts that such members turned out to like",
    "topic_match": "About topics that you engage with",
    "affinity": "You engage with this author",
    "recency": "Fresh",
    "engagement_rate_percentile": "Worth the time of others who saw it",
    "comments_percentile": "Talked about",
    "author_reach_percentile": "From somebody many follow",
}
# What a stage did afterwards, by its name; a stage that is not here speaks for itself.
ADJUSTMENT_LABELS = {
    "author_decay": "Further down, because its author has another post above it.",
    "diversity": "Placed so that posts beside each other differ.",
    "exploration": "Further up, so that you meet somebody new.",
}
SIGNAL_MIN = 0.02
BARS_MAX = 5
SHARE_MIN = 0.01  # less than this of the whole is not worth a bar


class Bar(Struct, frozen=True):
    """One line with a bar of `percent` of the width.

    against: it counted against the post. href: of what the label names; empty for none.
    """

    label: str
    text: str
    percent: int
    against: bool = False
    href: str = ""


class WhyView(Struct, frozen=True, kw_only=True):
    """What a member reads. `shown` is false where a stage took the post out.

    reader: who "you" is, where somebody else reads it; empty for the member.
    nearness: the shares of what draws the post near; empty where nobody knows.
    """

    reader: str
    post: str
    heading: str
    author: str
    shown: bool
    sentence: str
    sources: list[str]
    nearness: list[Bar]
    chances: list[Bar]
    signals: list[Bar]
    notes: list[str]


class Table(Struct, frozen=True):
    """A table of the trace, as text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class TraceView(Struct, frozen=True, kw_only=True):
    """Everything that is known, for an operator."""

    member: str
    post: str
    served: str
    rank: str
    score: str
    removed_stage: str
    removed_reason: str
    tables: list[Table]


def why_view(found: Explanation, view: PostView, reader: Member | None = None) -> WhyView:
    """Return what a member reads about a post; `reader` is that member where another one looks."""
    return WhyView(
        reader=(reader.display_name or reader.handle) if reader else "",
        post=str(found.post),
        heading=view.post.title or excerpt(view.post.text, HEADING_CHARACTERS),
        author=view.author.display_name or view.author.handle,
        shown=found.removed is None,
        sentence=found.sentence,
        sources=[SOURCE_LABELS.get(note.source, readable(note.source)) for note in found.sources],
        nearness=nearness_of(found.nearness) if found.nearness else [],
        chances=chances_of(found.actions),
        signals=signals_of(found.features),
        notes=notes_of(found.adjustments),
    )


def nearness_of(found: Nearness) -> list[Bar]:
    """Return what draws a post near: liked posts, then the others, then the profile."""
    bars = [
        _share(excerpt(one.title, HEADING_CHARACTERS), one.share, f"/posts/{one.post}")
        for one in found.liked
    ]
    if found.posts > len(found.liked):
        bars.append(_share("Other posts that you liked", found.others))
    return [*bars, _share("What your profile says", found.profile)]


def _share(label: str, share: float, href: str = "") -> Bar:
    """Return a share of the nearness; one below zero held the post off."""
    percent = round(100 * share)
    text = f"{percent} %".replace("-", "\N{MINUS SIGN}")
    return Bar(label, text, min(100, abs(percent)), percent < 0, href)


def chances_of(actions: list[ActionNote]) -> list[Bar]:
    """Return the actions that moved the post most, each with its share of the movement."""
    moved = sum(abs(note.value) for note in actions)
    if moved <= 0:
        return []
    ranked = sorted(actions, key=lambda note: -abs(note.value))[:BARS_MAX]
    return [
        Bar(
            ACTION_LABELS.get(note.action, readable(note.action)),
            chance(note.probability),
            max(1, round(100 * abs(note.value) / moved)),
            note.value < 0,
        )
        for note in ranked
        if abs(note.value) / moved >= SHARE_MIN
    ]


def signals_of(features: Mapping[str, float]) -> list[Bar]:
    """Return the features that a member understands, those that are about nothing left out."""
    found = ((label, features.get(name, 0.0)) for name, label in SIGNAL_LABELS.items())
    return [
        Bar(label, f"{round(100 * value)} of 100", min(100, round(100 * value)))
        for label, value in found
        if value >= SIGNAL_MIN
    ]


def notes_of(adjustments: list[Adjustment]) -> list[str]:
    """Return what moved the post afterwards, each kind once."""
    found = [ADJUSTMENT_LABELS.get(one.stage, readable(one.reason)) for one in adjustments]
    return list(dict.fromkeys(found))


def chance(probability: float) -> str:
    """Return a probability in words that do not pretend to more precision than it has."""
    percent = 100 * probability
    if percent < 1:
        return "less than 1 % likely"
    if percent > 99:
        return "more than 99 % likely"
    return f"{percent:.0f} % likely"


def trace_view(found: Explanation) -> TraceView:
    """Return the full trace."""
    return TraceView(
        member=str(found.member),
        post=str(found.post),
        served="" if found.served_feed_id is None else str(found.served_feed_id),
        rank="" if found.position is None else str(found.position + 1),
        score="" if found.score is None else number(found.score),
        removed_stage=found.removed.stage if found.removed else "",
        removed_reason=found.removed.reason if found.removed else "",
        tables=[
            Table(
                "Sources",
                ["source", "rank", "score"],
                [[n.source, str(n.rank + 1), number(n.score)] for n in found.sources],
            ),
            Table(
                "Actions",
                ["action", "probability", "weight", "value"],
                [
                    [n.action, number(n.probability), number(n.weight), number(n.value)]
                    for n in found.actions
                ],
            ),
            Table(
                "Adjustments",
                ["stage", "reason", "before", "after"],
                [[n.stage, n.reason, number(n.before), number(n.after)] for n in found.adjustments],
            ),
            *nearness_tables(found.nearness),
            Table(
                "Features",
                ["feature", "value"],
                [[name, number(value)] for name, value in sorted(found.features.items())],
            ),
            Table(
                "Flags",
                ["flag", "variant, or why it was not obeyed"],
                [list(v) for v in sorted((found.variants | found.faults).items())],
            ),
            Table(
                "Versions", ["part", "version"], [list(v) for v in sorted(found.versions.items())]
            ),
        ],
    )


def nearness_tables(found: Nearness | None) -> list[Table]:
    """Return where the nearness comes from, as a table; none where nobody knows."""
    if found is None:
        return []
    rows = [
        [str(one.post), f"{one.engaged_at:%Y-%m-%d %H:%M}", number(one.share)]
        for one in found.liked
    ]
    others = [f"others of {found.posts} liked posts", "", number(found.others)]
    rows += [others, ["the profile", "", number(found.profile)]]
    title = f"Nearness {number(found.similarity)}"
    return [Table(title, ["of", "engaged with at", "share"], rows)]


def number(value: float) -> str:
    """Return a number with four significant digits and no noise behind them."""
    return f"{value:.4g}"


def readable(name: str) -> str:
    """Return the name of a part as words: `author_decay` is "Author decay"."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
