"""One run of the pipeline: the member, the candidates, and what each stage did to them."""

from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from millrace.community.types import Key, Relations
from millrace.feed.features import Matrix, Subject
from millrace.feed.history import PostList
from millrace.feed.index import Mask, PostIndex, Slots
from millrace.feed.linear import Linear
from millrace.feed.pooled_history import Parts, Pool
from millrace.feed.scorer import Scorer
from millrace.feed.types import App
from millrace.feed.variants import Plan

FRESH, SERVED, SEEN = 0, 1, 2
"""Tiers of a feed: new posts, then what was delivered and maybe not looked at, then what was."""


NETWORK, RETRIEVAL, EXPLORATION = "network", "retrieval", "exploration"
SOURCES = (NETWORK, EXPLORATION, RETRIEVAL)

BY_RECENCY = -2
"""In place of a place: the whole feed is in the order of time."""

Column: TypeAlias = NDArray[np.float64]
GRID = 16_384.0  # steps of nearness from 0 to 1


def on_grid(near: NDArray[Any]) -> NDArray[Any]:
    """Return nearness in steps that a record holds in two bytes: what is kept is what was scored.

    A step is far below what any nearness of texts means.
    """
    return np.rint(near * near.dtype.type(GRID)) / near.dtype.type(GRID)


class StageNote(Struct, frozen=True):
    """What a stage did: candidates in and out, removed ones by reason, and its time."""

    stage: str
    taken: int
    left: int
    removed: dict[str, int]
    milliseconds: float


class MemberState(Struct, frozen=True, kw_only=True):
    """All that a run needs to know of its member.

    vector: None while the encoder has not answered.
    pool: what the vector was made of, where the history is pooled.
    liked: posts with a positive engagement; they count as seen, however long ago.
    """

    key: Key
    display_name: str
    community_name: str
    languages: frozenset[str]
    vector: NDArray[np.float32] | None
    embedding_position: str
    relations: Relations
    seen: PostList
    served: list[PostList]
    hidden: frozenset[Key]
    liked: PostList
    subject: Subject
    pool: Pool | None = None


class Candidates(Struct, kw_only=True):
    """Posts on their way through the stages, one array per quantity, one row per post.

    slots: where a post is in the catalogue; ids: its id and that of its community.
    births: when its slot was given to it; a slot that was given again since is another post's.
    authors: the number of its author.
    ranks, scores_there: what each source of SOURCES said of it; rank -1 where it did not.
    tier: FRESH, SERVED or SEEN.
    row: where it stands in the run's matrices, -1 before scoring.
    value: the sum over actions; score: what is left of it after the adjustments below.
    behind: how many posts of its author stood before it; decayed: the score after that.
    near: how near the nearest post above is, where that lowered the score; below zero it is minus
        the number of the best posts, which it may not pass; NaN where nothing changed.
    spread: the score after that.
    lifted: the place that it was lifted to as a new author's; -1 for none, or BY_RECENCY.
    """

    slots: Slots
    ids: NDArray[np.int64]
    births: Slots
    authors: Slots
    ranks: NDArray[np.int32]
    scores_there: NDArray[np.float32]
    tier: NDArray[np.int8]
    row: NDArray[np.int32]
    value: Column
    score: Column
    behind: NDArray[np.int32]
    decayed: Column
    near: Column
    spread: Column
    lifted: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.slots)

    def take(self, rows: Slots | Mask | slice) -> "Candidates":
        """Return some of the posts, in the order of `rows`."""
        return Candidates(**{name: getattr(self, name)[rows] for name in self.__struct_fields__})

    def keys(self) -> list[Key]:
        """Return the posts, in their order."""
        return [Key(community, post) for post, community in self.ids.tolist()]

    def place(self, key: Key) -> int | None:
        """Return where a post stands, or None."""
        found = ((self.ids[:, 0] == key.id) & (self.ids[:, 1] == key.community_id)).nonzero()[0]
        return int(found[0]) if len(found) else None


def candidates(
    slots: Slots,
    index: PostIndex,
    ranks: NDArray[np.int32],
    scores_there: NDArray[np.float32],
) -> Candidates:
    """Return posts as sources propose them; nothing else is known yet."""
    count = len(slots)
    zeros = np.zeros(count)
    return Candidates(
        slots=slots,
        ids=index.ids(slots),
        births=index.born(slots),
        authors=index.authors_of(slots),
        ranks=ranks,
        scores_there=scores_there,
        tier=np.zeros(count, dtype=np.int8),
        row=np.full(count, -1, dtype=np.int32),
        value=zeros,
        score=zeros,
        behind=np.zeros(count, dtype=np.int32),
        decayed=zeros,
        near=np.full(count, np.nan),
        spread=zeros,
        lifted=np.full(count, -1, dtype=np.int32),
    )


NO_INDEX = PostIndex(1)


def nothing() -> Candidates:
    """Return no posts."""
    return candidates(
        np.empty(0, np.int64),
        NO_INDEX,
        np.empty((0, len(SOURCES)), np.int32),
        np.empty((0, len(SOURCES)), np.float32),
    )


NOTHING = nothing()


class Removed(Struct, frozen=True):
    """Posts that one stage took out, each with its reason."""

    stage: str
    posts: Candidates
    reasons: list[str]


class Request(Struct, frozen=True, kw_only=True):
    """What is asked for.

    follow: a post to watch on its way even where no source proposes it; for `why`.
    app: what asks.
    """

    member: Key
    surface: str
    token: str
    now: datetime
    follow: Key | None = None
    app: App = App()


class Known(Struct, frozen=True, kw_only=True):
    """The slots of the posts that the member knows: looked up once, asked for by every stage.

    seen: shown, or engaged with. served: delivered lately. hidden: hidden or reported.
    """

    seen: Slots = np.empty(0, np.int64)
    served: Slots = np.empty(0, np.int64)
    hidden: Slots = np.empty(0, np.int64)

    @property
    def every(self) -> Slots:
        """Return all of them."""
        return np.concatenate([self.seen, self.served, self.hidden])


class Retrieved(Struct, frozen=True):
    """Where a post stands in retrieval when everything that passes the mask is ordered."""

    rank: int
    score: float
    cutoff: int


class Run(Struct, kw_only=True):
    """The state of one run.

    candidates: those that are left; after `select` in the order of the feed.
    removed: those that are not, with the stage and the reasons.
    plan: how this feed is made; the first stage asks the flags.
    ages: milliseconds since each scored post was written, by `row`.
    scorer: which one; the first stage finds it.
    model, weights: what made probabilities of features, and a value of probabilities.
    encoder, index: whose vectors are compared, and where they are; the first stage chooses, and
        nothing of another encoder comes in until the end.
    reasons: one sentence for each candidate at the end.
    parts: where the nearness of each candidate at the end comes from, if the history is pooled.
    exhausted: whether the sources had nothing more to give than what they gave.
    unknown: why the post that is followed is not among the candidates at all; empty where it is.
    """

    request: Request
    plan: Plan = Plan()
    encoder: str = ""
    index: PostIndex = field(default_factory=lambda: NO_INDEX)
    candidates: Candidates = field(default_factory=lambda: NOTHING)
    removed: list[Removed] = field(default_factory=list[Removed])
    reasons: list[str] = field(default_factory=list[str])
    parts: Parts | None = None
    stages: list[StageNote] = field(default_factory=list[StageNote])
    degraded: list[str] = field(default_factory=list[str])
    features: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    probabilities: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    ages: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    scorer: Scorer | None = None
    model: Linear | None = None
    weights: tuple[float, ...] = ()
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    versions: dict[str, str] = field(default_factory=dict[str, str])
    exhausted: bool = False
    known: Known = Known()
    retrieved: Retrieved | None = None
    unknown: str = ""
    state: MemberState | None = None

    @property
    def member(self) -> MemberState:
        """Return the member's state; the first stage makes it."""
        assert self.state is not None, "hydrate_member comes first"
        return self.state
