"""What Prometheus reads: requests by route and status, their time, and how the feed keeps up."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from millrace.feed.room import Feed
from millrace.feed.types import StageTotal

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
    "freshness_waiting": "Posts whose newest text is not yet in the index.",
    "freshness_lag_seconds": "How long the oldest change of a post has waited to be in the index.",
    "freshness_failures": "Attempts to keep the index up to date that failed, since the start.",
    "feed_degraded_pages": "Feed pages that said what could not be done, since the start.",
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
        self._feed = {
            name: Gauge(f"millrace_{name}", about, registry=self.registry)
            for name, about in FEED_GAUGES.items()
        }

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the template, so that labels stay few."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)

    def text(self, feed: Feed) -> bytes:
        """Return everything in Prometheus' text form; the feed is asked how it keeps up."""
        self._feed["index_posts"].set(len(feed.index))
        self._feed["freshness_waiting"].set(feed.freshness.waiting())
        self._feed["freshness_lag_seconds"].set(feed.freshness.lag())
        self._feed["freshness_failures"].set(feed.freshness.failures)
        self._feed["feed_degraded_pages"].set(feed.degraded_pages)
        self._stages.totals = feed.stages()
        return generate_latest(self.registry)
