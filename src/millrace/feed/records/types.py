"""What is known of a served feed, whichever format it was stored in."""

from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed.features import Matrix
from millrace.feed.pooled_history import NO_PLACE
from millrace.feed.run import SEEN

Note: TypeAlias = tuple[str, int, float]
Change: TypeAlias = tuple[str, str, float, float]


class RankedPost(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One post of a served feed, in its place."""

    community_id: int
    post_id: int
    tier: int
    value: float
    score: float
    reason: str
    sources: list[Note]
    adjustments: list[Change] = []

    @property
    def key(self) -> Key:
        """Return the post's key."""
        return Key(self.community_id, self.post_id)

    @property
    def seen(self) -> bool:
        """Return whether the member had seen it when the feed was made."""
        return self.tier == SEEN


class RemovedPost(Struct, frozen=True, kw_only=True):
    """One post that a stage took out; the later stages have no numbers of it.

    row: its row in the matrices behind those of the ranked posts; -1 where it was not scored.
    """

    community_id: int
    post_id: int
    stage: str
    reason: str
    sources: list[Note]
    score: float
    row: int = -1

    @property
    def key(self) -> Key:
        """Return the post's key."""
        return Key(self.community_id, self.post_id)


class StageLine(Struct, frozen=True):
    """What a stage did, and how long it took."""

    stage: str
    taken: int
    left: int
    removed: dict[str, int]
    milliseconds: float


class Pooled(Struct, frozen=True, kw_only=True, eq=False):
    """What the member's vector of a served feed was pooled from.

    posts: that the member had liked, the newest engagement first. at: when each was engaged with,
        in microseconds since 1970.
    averages_at: when the averages that were taken away had been made, likewise; 0 for none.
    profile: what it gives to the nearness of each ranked post. Shape: (ranked,).
    places, amounts: the liked posts that give most to it, NO_PLACE where there are no more, and
        what each gives. Shape: (ranked, few).
    """

    posts: list[Key]
    at: list[int]
    averages_at: int
    profile: NDArray[np.float64]
    places: NDArray[np.uint8]
    amounts: NDArray[np.float64]

    def nearest(self, row: int) -> list[tuple[int, float]]:
        """Return which liked posts give most to the nearness of a ranked post, and how much."""
        lines: list[tuple[int, float]] = list(
            zip(self.places[row].tolist(), self.amounts[row].tolist(), strict=True)
        )
        return [(place, amount) for place, amount in lines if place != NO_PLACE]


class Record(Struct, frozen=True, kw_only=True):
    """Everything that is known of a served feed.

    features, probabilities: one row per ranked post, then one per scored removed post.
    exhausted: whether no new post was left behind when it was made.
    variants: of each flag that was in force; faults: why a flag was not obeyed.
    app: version, platform and country of what asked. weights: what each action counted; empty
        where a format does not say.
    pooled: what the member's vector was made of; None where a prompt showed the history.
    """

    format: int
    surface: str
    versions: dict[str, str]
    degraded: list[str]
    exhausted: bool
    stages: list[StageLine]
    ranked: list[RankedPost]
    removed: list[RemovedPost]
    feature_names: list[str]
    action_names: list[str]
    features: bytes
    probabilities: bytes
    variants: dict[str, str] = {}
    faults: dict[str, str] = {}
    app: tuple[str, str, str] = ("", "", "")
    weights: list[float] = []
    pooled: Pooled | None = None

    @property
    def fresh(self) -> int:
        """Return how many posts stand before the first seen one."""
        return next((i for i, one in enumerate(self.ranked) if one.seen), len(self.ranked))

    def feature_matrix(self) -> Matrix:
        """Return the features, one row per scored post."""
        return _matrix(self.features, len(self.feature_names))

    def probability_matrix(self) -> Matrix:
        """Return the probabilities, one row per scored post."""
        return _matrix(self.probabilities, len(self.action_names))


def _matrix(content: bytes, columns: int) -> Matrix:
    return np.frombuffer(content, dtype=np.float32).reshape(-1, columns).astype(np.float64)
