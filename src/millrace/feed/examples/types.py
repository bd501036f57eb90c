"""Nouns of the examples that an encoder learns from, and the tables they are kept in.

A folder of examples is four tables and a manifest. What a post says is a *wording*; what was true of
it from a moment on, its wording with its numbers, is a *state*. A *moment* is a member who is shown
some posts, with the states that were in force then and what the member had done until then. Every
reference is the number of a row. Nothing in a row may come from later than its moment (leaks.py).

In rows a time is an `Instant`: microseconds since 1970, UTC.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any, TypeAlias

from msgspec import Struct

Instant: TypeAlias = int
FORMAT = "millrace-examples-1"
MANIFEST = "manifest.json"
WORDINGS, POSTS, MEMBERS, MOMENTS = TABLES = ("wordings", "posts", "members", "moments")

NUMBERS = ("age_hours", "views", "likes", "comments", "engagements", "author_followers")
"""What the numbers of a state count, in the order of the prompt's markers of percentiles."""
UNKNOWN = -1  # in place of a number or a percentile that nobody knows

POSITIVES_MAX = 60  # posts that a member engaged with before a moment: the newest
PAST_MAX = 200  # impressions before a moment: the newest
LABEL_HOURS = 24.0
"""How long after a post was shown an engagement with it counts as an answer to that."""


class Counts(Struct, frozen=True, kw_only=True):
    """How much there is in a folder, and what was left out.

    moments: all; replayed: of them those of an import; lone: of these the engagements that no
        impression goes with.
    shown, engaged: posts of all moments.
    unripe: moments whose answers are not complete at the cut.
    unlogged: served feeds of which nobody knows the prompt.
    unsaid: shown posts that had no prompt then, or that are gone.
    repeated: shown posts that the member had engaged with before: no answer to learn from.
    """

    wordings: int = 0
    posts: int = 0
    members: int = 0
    moments: int = 0
    replayed: int = 0
    lone: int = 0
    shown: int = 0
    engaged: int = 0
    unripe: int = 0
    unlogged: int = 0
    unsaid: int = 0
    repeated: int = 0


class Manifest(Struct, frozen=True, kw_only=True):
    """What a folder of examples says of itself.

    tables: the file of each table, by the table's name.
    encoding: arrow or parquet.
    cut_at: nothing that happened then or later is in it.
    label_hours: how long after a moment engagements count as its answers.
    fingerprint: blake2b of the tables' bytes; the same examples have the same one.
    feature_names: the columns of `features` of a moment.
    assumed: what no log tells and is taken as true, in words.
    """

    format: str
    made_at: datetime
    cut_at: datetime
    label_hours: float
    prompt_version: str
    encoding: str
    tables: dict[str, str]
    fingerprint: str
    counts: Counts
    feature_names: list[str]
    assumed: list[str]


class Wording(Struct, frozen=True, kw_only=True):
    """What a post says: one row of `wordings`. post: the number of the post."""

    post: int
    kind: str
    author_name: str
    headline: str
    community: str
    topics: list[str]
    title: str
    text: str


class PostState(Struct, frozen=True, kw_only=True):
    """What was true of a post from a moment on: one row of `posts`.

    post, author: numbers of the post and of the member who wrote it.
    wording: a row of `wordings`.
    known_at: from when on it was true.
    percentiles: in the order of the prompt's markers, UNKNOWN where the prompt leaves one out.
    numbers: what the percentiles are of, see NUMBERS.
    """

    post: int
    community_id: int
    post_id: int
    author: int
    wording: int
    known_at: Instant
    percentiles: list[int]
    numbers: list[int]


class MemberState(Struct, frozen=True, kw_only=True):
    """What a member said of themself from a moment on: one row of `members`.

    member: the number of the member; those who write posts are counted in the same row of numbers.
    """

    member: int
    community_id: int
    member_id: int
    known_at: Instant
    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]


class Moment(Struct, frozen=True, kw_only=True):
    """A member is shown some posts: one row of `moments`. Moments are in the order of `at`.

    member_state: a row of `members`.
    positives: rows of `posts`, engaged with before, oldest engagement first. Of a served feed those
        that the member's prompt was made of, or that their vector was pooled from.
    positives_at: when each was engaged with last, as far as was known then.
    past: rows of `posts`, of all impressions before, oldest first. past_engaged: whether the member
        had engaged with it before this moment.
    shown: rows of `posts`, in force when they were shown; never a post of `positives`.
    engaged: whether the member then engaged with it, within the manifest's label_hours.
    positions: where each was shown; UNKNOWN where nobody knows.
    features: as they were logged when the feed was served, a row per shown post; else empty.
    encoder: the version of the encoder whose vectors chose; empty where replayed.
    replayed: whether it is of an import; then no feed was logged.
    lone: whether all that is known is the engagement: nobody knows what else was shown.
    known_until: when the latest thing happened that anything but `engaged` and `features` says.
    labelled_until: when `engaged` was complete; to learn before that is to look ahead.
    """

    at: Instant
    member_state: int
    positives: list[int]
    positives_at: list[Instant]
    past: list[int]
    past_engaged: list[bool]
    shown: list[int]
    engaged: list[bool]
    positions: list[int]
    features: list[float]
    served_feed_id: int
    encoder: str
    replayed: bool
    lone: bool
    known_until: Instant
    labelled_until: Instant


class Progress(Struct, frozen=True):
    """How far an export is: moments written, and the time of the last one."""

    moments: int
    at: datetime


Watch = Callable[[Progress], None]


class ExportPlan(Struct, frozen=True, kw_only=True):
    """What is exported.

    until: nothing that happened then or later is in it.
    label_hours: how long after a moment engagements count as its answers.
    positives_max, past_max: how much of a member's past stands beside a moment.
    """

    until: datetime
    label_hours: float = LABEL_HOURS
    positives_max: int = POSITIVES_MAX
    past_max: int = PAST_MAX

    @property
    def label_window(self) -> timedelta:
        """Return how long answers are waited for."""
        return timedelta(hours=self.label_hours)


def schemas() -> dict[str, Any]:
    """Return the Arrow schema of each table, by its name. Loads pyarrow."""
    arrow: Any = import_module("pyarrow")
    moment = arrow.timestamp("us", tz="UTC")
    text, texts = arrow.utf8(), arrow.list_(arrow.utf8())
    rows, flags = arrow.list_(arrow.int32()), arrow.list_(arrow.bool_())
    columns: dict[str, list[tuple[str, Any]]] = {
        WORDINGS: [
            ("post", arrow.int32()),
            *((name, text) for name in ("kind", "author_name", "headline", "community")),
            ("topics", texts),
            ("title", text),
            ("text", text),
        ],
        POSTS: [
            ("post", arrow.int32()),
            ("community_id", arrow.int64()),
            ("post_id", arrow.int64()),
            ("author", arrow.int32()),
            ("wording", arrow.int32()),
            ("known_at", moment),
            ("percentiles", arrow.list_(arrow.int16(), len(NUMBERS))),
            ("numbers", arrow.list_(arrow.int32(), len(NUMBERS))),
        ],
        MEMBERS: [
            ("member", arrow.int32()),
            ("community_id", arrow.int64()),
            ("member_id", arrow.int64()),
            ("known_at", moment),
            *((name, text) for name in ("display_name", "headline", "about")),
            ("skills", texts),
            ("place", text),
            ("languages", texts),
        ],
        MOMENTS: [
            ("at", moment),
            ("member_state", arrow.int32()),
            ("positives", rows),
            ("positives_at", arrow.list_(moment)),
            ("past", rows),
            ("past_engaged", flags),
            ("shown", rows),
            ("engaged", flags),
            ("positions", arrow.list_(arrow.int16())),
            ("features", arrow.list_(arrow.float32())),
            ("served_feed_id", arrow.int64()),
            ("encoder", text),
            ("replayed", arrow.bool_()),
            ("lone", arrow.bool_()),
            ("known_until", moment),
            ("labelled_until", moment),
        ],
    }
    fields = {
        name: [arrow.field(column, kind, nullable=False) for column, kind in listed]
        for name, listed in columns.items()
    }
    return {name: arrow.schema(listed) for name, listed in fields.items()}
