"""Nouns of the town: what it is made from, who lives there, what was written, shown and done."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from millrace.community.types import Action, Audience, PostKind
from millrace.kernel.errors import InvalidError
from millrace.world.simulator.draws import Floats, Whole

VERSION = "town v1"
"""Frozen: the same version, seed and parameters give the same town for ever."""

DAY = 86_400
START = datetime(2026, 1, 5, tzinfo=UTC)
STARTS = (datetime(1975, 1, 1, tzinfo=UTC), datetime(2500, 1, 1, tzinfo=UTC))
"""Communities are older than the first day, and no moment of the platform is before 1970."""
LIVE_SECONDS = 7 * DAY
"""How long a post can be shown after it was written."""
SEEN_SHARE_MAX = 0.25
"""How much of its community's posts the average member may have been shown."""
TABLE_BYTES_MAX = 1 << 29
"""Who saw what, and who keeps clear of whom, are kept as tables while the past goes by."""
ACTIONS = tuple(Action)
"""An engagement's kind is a place in here."""
KINDS = tuple(PostKind)

LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, (1 << 63) - 1),
    "communities": (1, 40),
    "members": (8, 20_000),
    "posts": (20, 200_000),
    "impressions": (0, 5_000_000),
    "days": (2, 120),
    "overlap": (0.0, 1.0),
    "drift": (0.0, 1.0),
    "noise": (0.0, 1.0),
    "popularity": (0.0, 1.0),
}


class TownConfig(Struct, frozen=True, kw_only=True):
    """What a town is made from.

    impressions: how many posts were shown to members before the end; where nobody is left who
        could be shown another one, a few less.
    overlap: share of words that profiles and posts about one topic may have in common.
    drift: how fast interests move on: 0 never, 1 about every five days.
    noise: share of engagement that has nothing to do with taste.
    popularity: how much early engagement raises later exposure.
    start: when day 0 begins, in UTC.
    """

    seed: int = 1
    communities: int = 4
    members: int = 2_000
    posts: int = 20_000
    impressions: int = 1_000_000
    days: int = 28
    overlap: float = 0.3
    drift: float = 0.5
    noise: float = 0.3
    popularity: float = 0.5
    start: datetime = START

    def __post_init__(self) -> None:
        """Refuse what is no town with an InvalidError: what is outside its bounds, or does not fit."""
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                _refuse(name, value, f"{low:,} to {high:,}")
        if self.members < 4 * self.communities:
            least = f"{4 * self.communities} or more, 4 for each of {self.communities} communities"
            _refuse("members", self.members, least)
        if self.posts < 10 * self.communities:
            least = (
                f"{10 * self.communities} or more, 10 for each of {self.communities} communities"
            )
            _refuse("posts", self.posts, least)
        most = int(SEEN_SHARE_MAX * self.members * self.posts / self.communities)
        if self.impressions > most:
            _refuse(
                "impressions",
                self.impressions,
                f"{most:,}: a quarter of the posts of their community for each member",
            )
        table = self.members * (self.posts + 4 * self.members) // self.communities
        if table > TABLE_BYTES_MAX:
            _refuse(
                "members",
                self.members,
                f"what keeps who saw what under {TABLE_BYTES_MAX >> 20} MiB, here {table >> 20}",
            )
        if self.start.utcoffset() != timedelta(0):
            _refuse("start", str(self.start), "a moment in UTC")
        if not STARTS[0] <= self.start <= STARTS[1]:
            first, last = (one.date() for one in STARTS)
            _refuse("start", self.start.date(), f"{first} to {last}")

    @property
    def end(self) -> datetime:
        """Return when the past of the town ends."""
        return self.start + timedelta(days=self.days)


def _refuse(name: str, value: object, limit: str) -> None:
    """Say which parameter does not allow a town.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"a town with {name} {f'{value:,}' if isinstance(value, int) else value} cannot be made",
        field=f"--{name}",
        value=value,
        limit=limit,
        next_step=f"choose --{name} within the limit",
    )


class Place(Struct, frozen=True):
    """A community of the town. `nearby` holds external ids."""

    external_id: str
    name: str
    description: str
    place: str
    nearby: list[str]


class Person(Struct, frozen=True, kw_only=True):
    """A member of the town. `community` is a place in `Town.places`; times are seconds of the town."""

    external_id: str
    community: int
    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]
    moderates: bool
    joined: int


class Written(Struct, frozen=True, kw_only=True):
    """A post of the town. `author` is a place in `Town.people`."""

    external_id: str
    community: int
    author: int
    kind: PostKind
    title: str
    text: str
    link: str
    topics: list[str]
    audience: Audience
    created: int


class Remark(Struct, frozen=True, kw_only=True):
    """A comment of the town. `parent` is a place in `Town.remarks`, or -1."""

    external_id: str
    author: int
    post: int
    parent: int
    text: str
    created: int


class Bond(Struct, frozen=True):
    """One member follows another, both as places in `Town.people`."""

    member: int
    target: int
    created: int


class Shown(Struct, frozen=True):
    """What was shown: one column each, in order of time.

    member, post: places in `Town.people` and `Town.posts`.
    at: seconds of the town.
    position: place in the page, from 0.
    explored: 1 where the old feed showed it by chance alone.
    """

    member: Whole
    post: Whole
    at: Whole
    position: Whole
    explored: Whole

    def __len__(self) -> int:
        return len(self.member)


class Done(Struct, frozen=True):
    """What was done with what was shown: one column each, in order of time.

    kind: a place in `ACTIONS`.
    dwell_ms: how long the member stayed; -1 where that was not measured.
    """

    member: Whole
    post: Whole
    at: Whole
    kind: Whole
    position: Whole
    dwell_ms: Whole

    def __len__(self) -> int:
        return len(self.member)


class Judged(Struct, frozen=True):
    """Posts shown by chance alone after a split, for an unbiased judgement.

    split: seconds of the town; everything here is later.
    appeal: the true probability of positive engagement with a post that is looked at.
    engaged: 1 where it happened.
    """

    split: int
    member: Whole
    post: Whole
    at: Whole
    appeal: Floats
    engaged: Whole

    def __len__(self) -> int:
        return len(self.member)
