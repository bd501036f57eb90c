"""What Prometheus reads: requests by route and status, their time, and how the feed keeps up."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from millrace.feed.room import Feed

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MEDIA_TYPE = CONTENT_TYPE_LATEST

FEED_GAUGES = {
    "index_posts": "Posts that retrieval can find.",
    "freshness_waiting": "Posts whose newest text is not yet in the index.",
    "freshness_failures": "Attempts to keep the index up to date that failed, since the start.",
    "feed_degraded_pages": "Feed pages that said what could not be done, since the start.",
}


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
            "millrace_requests_running", "Requests being answered now.", registry=self.registry
        )
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
        done, total = feed.freshness.progress()
        self._feed["index_posts"].set(done)
        self._feed["freshness_waiting"].set(total - done)
        self._feed["freshness_failures"].set(feed.freshness.failures)
        self._feed["feed_degraded_pages"].set(feed.degraded_pages)
        return generate_latest(self.registry)
