"""One run of the pipeline: the member, the candidates, and what each stage did to them."""

from datetime import datetime

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from millrace.community.types import Key, MemberCounts, PostView, Relations
from millrace.feed.features import Matrix, Subject
from millrace.feed.types import Adjustment, Removal, SourceNote

FRESH, SERVED, SEEN = 0, 1, 2
"""Tiers of a feed: new posts, then what was delivered and maybe not looked at, then what was."""


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
    liked: posts with a positive engagement; they count as seen, however long ago.
    """

    key: Key
    display_name: str
    community_name: str
    languages: frozenset[str]
    vector: NDArray[np.float32] | None
    embedding_position: str
    relations: Relations
    seen: frozenset[Key]
    served: frozenset[Key]
    hidden: frozenset[Key]
    liked: frozenset[Key]
    subject: Subject


class Candidate(Struct, kw_only=True):
    """A post on its way through the stages.

    row: where it stands in the run's matrices, -1 before scoring.
    """

    key: Key
    sources: list[SourceNote] = field(default_factory=list[SourceNote])
    view: PostView | None = None
    author_counts: MemberCounts = MemberCounts()
    tier: int = FRESH
    row: int = -1
    value: float = 0.0
    score: float = 0.0
    adjustments: list[Adjustment] = field(default_factory=list[Adjustment])
    reason: str = ""

    @property
    def shown(self) -> PostView:
        """Return the post; every candidate has one once it is hydrated."""
        assert self.view is not None, f"post {self.key} is not hydrated"
        return self.view

    def adjust(self, stage: str, reason: str, after: float) -> None:
        """Change the score, and keep that it was changed."""
        self.adjustments.append(Adjustment(stage, reason, self.score, after))
        self.score = after


class Request(Struct, frozen=True, kw_only=True):
    """What is asked for.

    follow: a post to watch on its way even where no source proposes it; for `why`.
    """

    member: Key
    surface: str
    token: str
    now: datetime
    follow: Key | None = None


class Retrieved(Struct, frozen=True):
    """Where a post stands in retrieval when everything that passes the mask is ordered."""

    rank: int
    score: float
    cutoff: int


class Run(Struct, kw_only=True):
    """The state of one run.

    candidates: those that are left; after `select` in the order of the feed.
    removed: those that are not, each with the stage and the reason.
    exhausted: whether the sources had nothing more to give than what they gave.
    """

    request: Request
    candidates: list[Candidate] = field(default_factory=list[Candidate])
    removed: list[tuple[Candidate, Removal]] = field(
        default_factory=list[tuple[Candidate, Removal]]
    )
    stages: list[StageNote] = field(default_factory=list[StageNote])
    degraded: list[str] = field(default_factory=list[str])
    features: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    probabilities: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    versions: dict[str, str] = field(default_factory=dict[str, str])
    exhausted: bool = False
    retrieved: Retrieved | None = None
    state: MemberState | None = None

    @property
    def member(self) -> MemberState:
        """Return the member's state; the first stage makes it."""
        assert self.state is not None, "hydrate_member comes first"
        return self.state

    def keep(self, judged: list[tuple[Candidate, str | None]], stage: str) -> None:
        """Keep the candidates without a reason; move the others to the removed."""
        self.candidates = [one for one, reason in judged if reason is None]
        self.removed.extend((one, Removal(stage, r)) for one, r in judged if r is not None)
