"""What Prometheus reads: requests by route and status, their time, and how the feed keeps up."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millrace.api.metrics_trainings import TrainingGauges
from millrace.feed.encoder_trainings import EncoderTraining
from millrace.feed.room import Feed
from millrace.feed.types import StageTotal, VariantTotals
from millrace.release.flags.room import Flags
from millrace.store.cache import CacheStatistics
from millrace.store.changes.slots import SlotState
from millrace.store.changes.types import StreamState

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MEDIA_TYPE = CONTENT_TYPE_LATEST

STAGE_COUNTERS = (
    ("runs", "Runs of a stage of the feed.", ["stage"]),
    ("seconds", "Time in a stage of the feed.", ["stage"]),
    ("candidates_in", "Candidates that came to a stage.", ["stage"]),
    ("candidates_out", "Candidates that a stage left.", ["stage"]),
    ("removed", "Candidates that a stage removed, by filter.", ["stage", "filter"]),
)
FEED_GAUGES = {
    "index_posts": "Posts that retrieval can find.",
    "index_encoders": "Encoders whose vectors are held: two or more while one can be tried.",
    "index_bytes": "Memory that the vectors of all of them take, at the least.",
    "freshness_waiting": "Posts whose newest text is not yet in the index.",
    "freshness_lag_seconds": "How long the oldest change of a post has waited to be in the index.",
    "freshness_failures": "Attempts to keep the index up to date that failed, since the start.",
    "feed_degraded_pages": "Feed pages that said what could not be done, since the start.",
}
STREAM_GAUGES: dict[str, tuple[str, Callable[[StreamState], float]]] = {
    "connected": ("Whether changes flow to this process.", lambda state: state.connected),
    "lag_bytes": (
        "Log that the server has sent word of and is not applied.",
        lambda s: s.lag_bytes,
    ),
    "lag_seconds": (
        "Age of the oldest commit that is being applied, or how long the stream is interrupted.",
        lambda state: state.lag_seconds,
    ),
}
STREAM_COUNTERS = {
    "changes": "Changes that were applied.",
    "batches": "Batches that were applied; some only move the position.",
    "failures": "Times that the stream was interrupted.",
    "restarts": "Times that it began to flow again.",
}


CACHE_COUNTERS = {
    "hits": "Reads that the cache answered.",
    "misses": "Reads that it did not.",
    "loads": "Loads from the tables.",
    "joins": "Reads that shared a load which somebody else had begun.",
    "refused": "Loaded values that were not kept, because something newer had been heard.",
    "dropped": "Entries that a change let go.",
    "evictions": "Entries that were let go for want of room.",
}
VARIANT_GAUGES = {
    "members": "Members with feeds of a variant in the last day, of those who were counted.",
    "feeds": "Feeds of a variant in the last day, of the members who were counted.",
    "impressions": "Impressions of those feeds.",
    "engaged": "Impressions with an engagement for the post.",
}
VARIANTS_SHOWN, OTHERS = 20, "(others)"
CACHE_GAUGES = {
    "entries": "Keys that the cache holds.",
    "weight": "What they weigh: events of histories, bytes of searches, else keys.",
}


class _Stages(Collector):
    """The totals of the feed's stages, as counters: the feed counts, this only shows."""

    def __init__(self) -> None:
        self.totals: list[StageTotal] = []

    def collect(self) -> Iterable[Metric]:
        """Yield the counters."""
        runs, seconds, taken, left, removed = (
            CounterMetricFamily(f"millrace_feed_stage_{name}", about, labels=labels)
            for name, about, labels in STAGE_COUNTERS
        )
        for one in self.totals:
            runs.add_metric([one.stage], one.runs)
            seconds.add_metric([one.stage], one.seconds)
            taken.add_metric([one.stage], one.taken)
            left.add_metric([one.stage], one.left)
            for reason, count in one.removed.items():
                removed.add_metric([one.stage, reason], count)
        return runs, seconds, taken, left, removed


class _Flags(Collector):
    """How flags do in this process: the room counts, this only shows."""

    flags: Flags | None = None

    def collect(self) -> Iterable[Metric]:
        """Yield how many there are, and which could not be decided."""
        if self.flags is None:
            return
        count = len(self.flags.live.texts)
        yield GaugeMetricFamily("millrace_flags", "Flags that decide in this process.", count)
        failures = CounterMetricFamily(
            "millrace_flag_failures",
            "Evaluations that gave the caller's own default for an error; unknown flags are one.",
            labels=["flag"],
        )
        for key, failed in self.flags.usage_book.failures.items():
            failures.add_metric([key], failed)
        yield failures


class _Variants(Collector):
    """What flags did to feeds: the feed counts, this only shows.

    Labels stay few: flags are of a closed table, and of each some variants are shown.
    """

    def __init__(self) -> None:
        self.totals = VariantTotals(served={}, faults={}, outcomes={})

    def collect(self) -> Iterable[Metric]:
        """Yield counters since the start, and gauges of the last day."""
        served = CounterMetricFamily(
            "millrace_feed_variant_served",
            "Feeds by the variant of a flag.",
            labels=["flag", "variant"],
        )
        for (flag, variant), count in few(self.totals.served).items():
            served.add_metric([flag, variant], count)
        faults = CounterMetricFamily(
            "millrace_feed_flag_faults",
            "Times that a flag was not obeyed.",
            labels=["flag", "fault"],
        )
        for (flag, fault), count in self.totals.faults.items():
            faults.add_metric([flag, fault], count)
        return served, faults, *self._last_day()

    def _last_day(self) -> Iterable[Metric]:
        gauges = {
            name: GaugeMetricFamily(
                f"millrace_feed_variant_{name}", about, labels=["flag", "variant"]
            )
            for name, about in VARIANT_GAUGES.items()
        }
        engagements = GaugeMetricFamily(
            "millrace_feed_variant_engagements",
            "Impressions of the last day with an engagement, by its kind.",
            labels=["flag", "variant", "kind"],
        )
        share = GaugeMetricFamily(
            "millrace_feed_variant_share", "Share of the members who were counted.", labels=["flag"]
        )
        for flag, outcomes in self.totals.outcomes.items():
            share.add_metric([flag], outcomes.share)
            most = sorted(outcomes.variants, key=lambda one: (-one.feeds, one.variant))[
                :VARIANTS_SHOWN
            ]
            for one in most:
                for name, gauge in gauges.items():
                    gauge.add_metric([flag, one.variant], getattr(one, name))
                for kind, count in one.kinds.items():
                    engagements.add_metric([flag, one.variant, kind], count)
        return share, *gauges.values(), engagements


def few(served: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Return counts by flag and variant: of each flag those that came first, and all others as one."""
    found: dict[tuple[str, str], int] = {}
    shown: dict[str, int] = {}
    for (flag, variant), count in served.items():
        shown[flag] = shown.get(flag, 0) + 1
        name = variant if shown[flag] <= VARIANTS_SHOWN else OTHERS
        found[flag, name] = found.get((flag, name), 0) + count
    return found


class _Streams(Collector):
    """How each change stream does: the streams count, this only shows."""

    def __init__(self) -> None:
        self.states: list[StreamState] = []

    def collect(self) -> Iterable[Metric]:
        """Yield gauges and counters, labelled by stream."""
        for name, (about, value) in STREAM_GAUGES.items():
            gauge = GaugeMetricFamily(f"millrace_stream_{name}", about, labels=["stream"])
            for state in self.states:
                gauge.add_metric([state.name], value(state))
            yield gauge
        for name, about in STREAM_COUNTERS.items():
            counter = CounterMetricFamily(f"millrace_stream_{name}", about, labels=["stream"])
            for state in self.states:
                counter.add_metric([state.name], getattr(state, name))
            yield counter


class _Caches(Collector):
    """How the caches do: they count, this only shows."""

    def __init__(self) -> None:
        self.statistics: Mapping[str, CacheStatistics] = {}

    def collect(self) -> Iterable[Metric]:
        """Yield counters and gauges, labelled by cache."""
        for names, family in (
            (CACHE_COUNTERS, CounterMetricFamily),
            (CACHE_GAUGES, GaugeMetricFamily),
        ):
            for name, about in names.items():
                shown = family(f"millrace_cache_{name}", about, labels=["cache"])
                for cache, found in self.statistics.items():
                    shown.add_metric([cache], getattr(found, name))
                yield shown


class _Slots(Collector):
    """What each slot holds of the log, and what a slot may hold."""

    def __init__(self) -> None:
        self.slots: list[SlotState] = []

    def collect(self) -> Iterable[Metric]:
        """Yield gauges, labelled by slot."""
        held = GaugeMetricFamily(
            "millrace_slot_held_bytes", "Log that the server keeps for a slot.", labels=["slot"]
        )
        active = GaugeMetricFamily(
            "millrace_slot_active", "Whether a process reads from a slot.", labels=["slot"]
        )
        for slot in self.slots:
            if not slot.temporary:  # its name is another in each process: a label without end
                held.add_metric([slot.name], slot.held_bytes)
                active.add_metric([slot.name], slot.active)
        return held, active


class Metrics:
    """The program's numbers, in a registry of its own: two programs in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "millrace_requests_total",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "millrace_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge(
            "millrace_requests_running",
            "Requests being answered now, open streams too.",
            registry=self.registry,
        )
        self.streams = Gauge(
            "millrace_streams_open", "Streams of events that are open now.", registry=self.registry
        )
        self._stages = _Stages()
        self.registry.register(self._stages)
        self._variants = _Variants()
        self.registry.register(self._variants)
        self._streams, self._slots, self._caches = _Streams(), _Slots(), _Caches()
        self.registry.register(self._streams)
        self._flags = _Flags()
        self.registry.register(self._flags)
        self.registry.register(self._slots)
        self.registry.register(self._caches)
        self._trainings = TrainingGauges()
        self.registry.register(self._trainings)
        self._feed = {
            name: Gauge(f"millrace_{name}", about, registry=self.registry)
            for name, about in FEED_GAUGES.items()
        }

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the template, so that labels stay few."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)

    def text(
        self,
        feed: Feed,
        flags: Flags,
        slots: Sequence[SlotState] = (),
        trainings: Sequence[EncoderTraining] = (),
    ) -> bytes:
        """Return everything in Prometheus' text form; feed and flags are asked how they keep up."""
        self._feed["index_posts"].set(len(feed.index))
        held = feed.holding.bytes_held()
        self._feed["index_encoders"].set(len(held))
        self._feed["index_bytes"].set(sum(held.values()))
        self._feed["freshness_waiting"].set(feed.freshness.waiting())
        self._feed["freshness_lag_seconds"].set(feed.freshness.lag())
        self._feed["freshness_failures"].set(feed.freshness.failures)
        self._feed["feed_degraded_pages"].set(feed.degraded_pages)
        self._stages.totals = feed.stages()
        self._variants.totals = feed.variants()
        self._streams.states = [feed.stream.state(), feed.freshness.stream(), flags.state()]
        self._flags.flags = flags
        self._slots.slots = list(slots)
        self._trainings.newest = trainings
        self._caches.statistics = feed.caches()
        return generate_latest(self.registry)
