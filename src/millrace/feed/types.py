"""Nouns of the feed."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from millrace.community.types import Key, PostView
from millrace.feed.pooled_history import PooledHistory

LIMIT_MAX = 100
APP_TRACKS = ("android", "ios", "desktop")
SERVER_TRACK = "server"


class App(Struct, frozen=True):
    """What a request says of the app that asks: version, platform and country; empty is unknown.

    version: a semantic version. country: ISO 3166 alpha-2, upper case; counts where the member's
        community has named none.
    """

    version: str = ""
    platform: str = ""
    country: str = ""

    @property
    def track(self) -> str:
        """Return the track of releases that the app belongs to; a browser has the server's."""
        return self.platform if self.platform in APP_TRACKS else SERVER_TRACK


UNKNOWN_APP = App()


class SourceNote(Struct, frozen=True):
    """That a source proposed a post: its name, the post's rank there (from 0) and its score."""

    source: str
    rank: int
    score: float


class ActionNote(Struct, frozen=True):
    """One term of the value: how likely the action is, what it counts, and their product."""

    action: str
    probability: float
    weight: float
    value: float


class Adjustment(Struct, frozen=True):
    """What a stage did to a score after the value: its name, the reason, before and after."""

    stage: str
    reason: str
    before: float
    after: float


class Removal(Struct, frozen=True):
    """The stage that took a post out, and why."""

    stage: str
    reason: str


class FeedItem(Struct, frozen=True, kw_only=True):
    """One post of a page. `reason` is one sentence for the member."""

    view: PostView
    position: int
    score: float
    reason: str
    seen: bool = False


class FeedPage(Struct, frozen=True, kw_only=True):
    """One page of a served feed.

    next_cursor: empty at the end.
    caught_up: nothing new was left; items with `seen` follow, or none.
    degraded: what could not be done as intended, in words; empty when all is well.
    variants: of each flag that decided something of it, by the flag's key.
    """

    served_feed_id: int
    items: list[FeedItem]
    next_cursor: str
    caught_up: bool
    degraded: list[str]
    variants: dict[str, str] = {}


class LikedNote(Struct, frozen=True, kw_only=True):
    """A post that the member had liked, and that draws another one near.

    title: or the beginning of its text. engaged_at: when the member last did something with it.
    share: of the nearness.
    """

    post: Key
    title: str
    engaged_at: datetime
    share: float


class Nearness(Struct, frozen=True, kw_only=True):
    """Where the nearness of a post to its member comes from; all shares together are 1.

    similarity: the nearness. profile: the share of what the member says of themself.
    liked: the posts that give most, and that the member may see now; others: the share of all that
        they had liked besides, below zero where it held the post off.
    posts: how many liked posts counted at all.
    """

    similarity: float
    profile: float
    liked: list[LikedNote]
    others: float
    posts: int


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a member was, or was not, shown a post.

    position: where it stands in the feed, from 0; None when it was removed or not proposed.
    sentence: for the member; everything else is for the operator.
    variants: of each flag that was in force, by its key; faults: why a flag was not obeyed.
    nearness: None where nothing draws the post near, or nobody knows what does.
    """

    member: Key
    post: Key
    shown: bool
    position: int | None
    sentence: str
    sources: list[SourceNote]
    features: dict[str, float]
    actions: list[ActionNote]
    adjustments: list[Adjustment]
    score: float | None
    removed: Removal | None
    served_feed_id: int | None
    versions: dict[str, str]
    variants: dict[str, str] = {}
    faults: dict[str, str] = {}
    nearness: Nearness | None = None


class VariantOutcome(Struct, frozen=True, kw_only=True):
    """What members did with the feeds of one variant.

    members: who were served such a feed; one who changed over counts in both.
    impressions: posts that a feed showed, each once per feed. engaged: those with an engagement for
        the post. kinds: those with each kind of engagement.
    engaged_rate, rates: shares of the impressions; None where there are none.
    engaged_rate_error: standard error of the first; None for fewer than two members.
    """

    variant: str
    members: int
    feeds: int
    impressions: int
    engaged: int
    kinds: dict[str, int]
    engaged_rate: float | None
    engaged_rate_error: float | None
    rates: dict[str, float | None]


class FlagOutcomes(Struct, frozen=True, kw_only=True):
    """What members did with their feeds in a period, by the variant of a flag.

    share: of the members, drawn by a hash; 1 where all were counted. Counts are of those, rates of
    all as far as one can know.
    """

    flag: str
    since: datetime
    until: datetime
    share: float
    variants: list[VariantOutcome]


class VariantTotals(Struct, frozen=True, kw_only=True):
    """What flags did to feeds.

    served: feeds since the start, by flag and variant. faults: how often a flag was not obeyed, by
    flag and fault. outcomes: of the last day, by flag, as they were counted last.
    """

    served: dict[tuple[str, str], int]
    faults: dict[tuple[str, str], int]
    outcomes: dict[str, FlagOutcomes]


class StageTotal(Struct, frozen=True, kw_only=True):
    """What one stage did since the start of the process; every number only grows.

    removed: how many candidates went out, by the name of the filter or stage. The names are few.
    """

    stage: str
    runs: int = 0
    seconds: float = 0.0
    taken: int = 0
    left: int = 0
    removed: dict[str, int] = {}


class Embedding(StrEnum):
    """Where vectors are made, of a program that stays.

    BESIDE: in a process of its own, which the server starts, watches and ends.
    HERE: in the server's process.
    ELSEWHERE: by a `millrace embed` that somebody else runs; the server only makes what a request
        waits for.
    """

    BESIDE = "beside"
    HERE = "here"
    ELSEWHERE = "elsewhere"


class Training(StrEnum):
    """Whether the encoder is trained by itself, of a program that stays.

    OFF: by hand alone (`millrace train`).
    BACKGROUND: in a process of its own beside the server, at a low priority; what comes of it serves
        where a gate lets it pass.
    """

    OFF = "off"
    BACKGROUND = "background"


class HistoryForm(StrEnum):
    """How what a member liked comes into their vector, with a model that was trained with neither.

    POOLED: from the vectors of the posts, beside that of the profile, in each request.
    PROMPT: in the words of the member's prompt, which is embedded again after a visit.
    """

    POOLED = "pooled"
    PROMPT = "prompt"


class IndexKind(StrEnum):
    """How vectors are searched; filters and deletes hold in each.

    EXACT: all of them, first in eight bits.
    TORCH: all of them, on a GPU where there is one; the same answers.
    APPROXIMATE: through lists of neighbours where there are very many, which may miss some.
    """

    EXACT = "exact"
    TORCH = "torch"
    APPROXIMATE = "approximate"


class FeedConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the feed behaves. Everything has a default that runs on a laptop.

    serve: whether this process embeds, keeps the index and serves feeds.
    embedding: where vectors are made: beside, here or elsewhere.
    model_dir: a Hugging Face text model; empty means the packaged MiniLM.
    history: how what a member liked comes into their vector: pooled or prompt. A model that was trained
        here has its own say.
    threads: how many threads the encoder may use.
    index: how vectors are searched: exact, torch or approximate.
    value_file: action weights as TOML; empty means feed/value.toml of the package.
    network_max, retrieval_max, exploration_max: candidates per source.
    ranked_max: how long a served feed is; its pages end there.
    age_days_max: older posts are left out; 0 means that age only lowers a score.
    seen_days: for so long a post that was shown does not come again as new.
    served_minutes: for so long a post that was delivered, and maybe not looked at, does not.
    reload_minutes: within so many minutes a feed that is asked for again keeps what was not seen.
    affinity_days: how far back engagement with an author counts.
    diversity: how much nearness to a post above costs, as a share of the spread of scores.
    diverse_max: how many of the best are judged for diversity.
    exploration_every, exploration_slot: one new author in so many posts, at that place (from 0).
    new_followers_max, new_posts_max, new_views_max: who is a new author, and which posts are unknown.
    cursor_hours: how long a cursor is good.
    retention_days: how long served feeds are kept.
    embed_seconds_max: how long a request waits for a new member's embedding.
    embed_batch: posts of the backlog that are embedded and stored in one step.
    coalesce_seconds: engagements of one member within this time make one new embedding.
    catch_up_seconds: how often the tables are searched for what nobody said.
    fit_minutes: how often the scorer is fitted; 0 means never.
    fit_examples_max, fit_moments_max: bounds of one fit: logged examples, replayed moments.
    training: whether the encoder is trained by itself: off or background.
    training_minutes: how long a training may take, from its export until it serves, on two cores.
    training_engagements: how many there are before the first training; later ones wait for more.
    """

    serve: bool = True
    embedding: Embedding = Embedding.BESIDE
    model_dir: str = ""
    history: HistoryForm = HistoryForm.POOLED
    threads: int = 1
    index: IndexKind = IndexKind.EXACT
    value_file: str = ""
    network_max: int = 120
    retrieval_max: int = 400
    exploration_max: int = 20
    ranked_max: int = 300
    age_days_max: float = 0.0
    seen_days: float = 30.0
    served_minutes: float = 30.0
    reload_minutes: float = 2.0
    affinity_days: float = 365.0
    diversity: float = 0.05
    diverse_max: int = 150
    exploration_every: int = 20
    exploration_slot: int = 10
    new_followers_max: int = 5
    new_posts_max: int = 5
    new_views_max: int = 100
    cursor_hours: float = 24.0
    retention_days: int = 30
    embed_seconds_max: float = 5.0
    embed_batch: int = 16
    coalesce_seconds: float = 1.0
    catch_up_seconds: float = 600.0
    fit_minutes: float = 60.0
    fit_examples_max: int = 50_000
    fit_moments_max: int = 1_500
    training: Training = Training.OFF
    training_minutes: float = 8.0
    training_engagements: int = 1_000

    @property
    def pooled(self) -> PooledHistory | None:
        """Return how a history is pooled where a model does not say; None for one in the prompt."""
        return PooledHistory() if self.history is HistoryForm.POOLED else None


class ActionFit(Struct, frozen=True, kw_only=True):
    """How well one action is predicted on the later part of the examples.

    A figure is None where the later part has only one outcome; then the prior serves.
    """

    action: str
    positives: int
    log_loss: float | None
    log_loss_prior: float | None
    auc: float | None
    auc_prior: float | None
    fitted: bool


class FitReport(Struct, frozen=True, kw_only=True):
    """What a fit did.

    logged: examples of served feeds; replayed: examples made from what an import brought.
    saved: whether a new scorer serves now; `reason` says why or why not.
    """

    scorer_version: str
    logged: int
    replayed: int
    actions: list[ActionFit]
    saved: bool
    reason: str
    seconds: float
