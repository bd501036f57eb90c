"""Figures with units, as the operator page and its pictures show them. Pure: no reads, no markup.

What has no source yet, or none on this machine, is `UNKNOWN` and never a zero.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from millrace.feed.types import StageTotal
from millrace.store.cache import CacheStatistics
from millrace.store.changes.slots import SlotState
from millrace.store.changes.types import StreamState
from millrace.store.sizes import DatabaseSize
from millrace.web.explain import readable

UNKNOWN = "not known"
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
LAG_SECONDS_WATCHED = 5.0  # a stream or a post that waits for longer is worth a look
LAG_SECONDS_BAD = 60.0
LOSS_LABELS = {"select": "Beyond the length of a feed", "hydrate_candidates": "Gone meanwhile"}
FUNNEL_WIDTH = 100.0  # of the drawing; the page stretches it to its column
HALF = FUNNEL_WIDTH / 2
NARROWEST = 0.6  # so that one candidate of many is still a line


class Health(StrEnum):
    """How a figure is to be taken; each has a word and a sign, so colour is never alone."""

    FINE = "fine"
    WATCH = "watch"
    BAD = "bad"
    NONE = "none"


HEALTH_WORDS = {Health.FINE: "in order", Health.WATCH: "worth a look", Health.BAD: "behind",
                Health.NONE: ""}  # fmt: skip
SLOT_HEALTH = {"reserved": Health.FINE, "extended": Health.WATCH, "unreserved": Health.BAD,
               "lost": Health.BAD}  # fmt: skip
SLOT_WORDS = {"reserved": "in order", "extended": "holds much", "unreserved": "may be lost",
              "lost": "lost"}  # fmt: skip
STAGE_LABELS = {
    "hydrate_member": "Know the member",
    "sources": "Gather candidates",
    "hydrate_candidates": "Read what they are",
    "filters": "Filter",
    "score": "Score",
    "value": "Weigh",
    "select": "Select",
    "explain": "Explain",
}


class Tile(Struct, frozen=True, kw_only=True):
    """One figure: `value` with its `unit`, and a word on how it is to be taken."""

    label: str
    value: str
    unit: str = ""
    note: str = ""
    health: str = Health.NONE.value
    health_word: str = ""


class Loss(Struct, frozen=True):
    """What a stage removed per feed, by the name of the filter."""

    label: str
    value: str


class StageRow(Struct, frozen=True, kw_only=True):
    """A stage of the pipeline, per feed.

    flows: whether candidates pass it; the first stages work before there are any.
    shape: the corners of its part of the channel, which narrows from what came in to what is left.
    share: its part of the whole time, in percent of the width.
    """

    label: str
    flows: bool
    taken: str
    left: str
    losses: list[Loss]
    milliseconds: str
    share: int
    shape: str


class Funnel(Struct, frozen=True, kw_only=True):
    """The pipeline as a channel, since the start of the process."""

    runs: str
    milliseconds: str
    stages: list[StageRow]


class StreamRow(Struct, frozen=True, kw_only=True):
    """A stream of the river."""

    name: str
    about: str
    health: str
    health_word: str
    applied: str
    lag: str
    behind: str
    changes: str
    batches: str
    restarts: str


class Gauge(Struct, frozen=True, kw_only=True):
    """A part of a whole: `percent` of the width, `value` in words."""

    label: str
    value: str
    percent: float
    note: str = ""


class SlotRow(Gauge, frozen=True, kw_only=True):
    """A slot with the log that the server keeps because of it."""

    health: str
    health_word: str


class Ring(Struct, frozen=True, kw_only=True):
    """A part of a whole as a ring: `dash` of its circumference of 100 is drawn."""

    percent: str
    dash: str
    words: str


def amount(number: float) -> str:
    """Return a number as people read it: 0.4, 7, 12,345."""
    if number == 0 or number >= 10:
        return f"{number:,.0f}"
    return f"{number:.1f}".removesuffix(".0")


def size_of(number: int) -> tuple[str, str]:
    """Return a number of bytes as a value and its unit."""
    value, place = float(number), 0
    while value >= 1024 and place < len(BYTE_UNITS) - 1:
        value, place = value / 1024, place + 1
    return (f"{value:.1f}" if place and value < 100 else f"{value:.0f}"), BYTE_UNITS[place]


def bytes_text(number: int) -> str:
    """Return a number of bytes with its unit."""
    return " ".join(size_of(number))


def seconds_text(seconds: float) -> str:
    """Return a time as people read it: 12 ms, 3.4 s, 5 min, 2 h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def health_of(lag_seconds: float, *, connected: bool = True) -> Health:
    """Return how a lag is to be taken."""
    if not connected or lag_seconds >= LAG_SECONDS_BAD:
        return Health.BAD
    return Health.WATCH if lag_seconds >= LAG_SECONDS_WATCHED else Health.FINE


def funnel_of(totals: Sequence[StageTotal]) -> Funnel:
    """Draw the pipeline: each stage as wide as the candidates of an average feed in it."""
    runs = max((one.runs for one in totals), default=0)
    seconds = sum(one.seconds for one in totals)
    widest = max((max(one.taken, one.left) / one.runs for one in totals if one.runs), default=0.0)
    return Funnel(
        runs=amount(runs),
        milliseconds=milliseconds(seconds / runs) if runs else UNKNOWN,
        stages=[_stage(one, widest, seconds) for one in totals if one.runs],
    )


def milliseconds(seconds: float) -> str:
    """Return a short time in milliseconds with its unit."""
    value = seconds * 1000
    return (
        f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
    )


def _stage(total: StageTotal, widest: float, seconds: float) -> StageRow:
    taken, left = total.taken / total.runs, total.left / total.runs
    losses = sorted(total.removed.items(), key=lambda pair: -pair[1])
    return StageRow(
        label=STAGE_LABELS.get(total.stage, readable(total.stage)),
        flows=bool(taken or left),
        taken=amount(taken),
        left=amount(left),
        losses=[Loss(_loss(name), amount(count / total.runs)) for name, count in losses if count],
        milliseconds=milliseconds(total.seconds / total.runs),
        share=round(100 * total.seconds / seconds) if seconds else 0,
        shape=shape_of(_width(taken, widest), _width(left, widest)),
    )


def _loss(name: str) -> str:
    return LOSS_LABELS.get(name, readable(name))


def _width(candidates: float, widest: float) -> float:
    if not candidates or not widest:
        return 0.0
    return max(NARROWEST, FUNNEL_WIDTH * candidates / widest)


def shape_of(above: float, below: float) -> str:
    """Return the corners of a piece of channel that is so wide above and so wide below."""
    corners = ((HALF - above / 2, 0), (HALF + above / 2, 0),
               (HALF + below / 2, 100), (HALF - below / 2, 100))  # fmt: skip
    return " ".join(f"{x:.2f},{y}" for x, y in corners)


def stream_row(state: StreamState, about: str) -> StreamRow:
    """Show a stream of the river."""
    health = health_of(state.lag_seconds, connected=state.connected)
    words = HEALTH_WORDS[health] if state.connected else "not connected"
    return StreamRow(
        name=readable(state.name),
        about=about,
        health=health.value,
        health_word=words,
        applied=UNKNOWN if state.applied is None else log_place(state.applied.lsn),
        lag=seconds_text(state.lag_seconds),
        behind=bytes_text(state.lag_bytes),
        changes=amount(state.changes),
        batches=amount(state.batches),
        restarts=amount(state.restarts),
    )


def log_place(lsn: int) -> str:
    """Return a place in the log as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def ring_of(done: int, total: int) -> Ring:
    """Show how many posts can be found by meaning."""
    share = 100 * done / total if total else 100.0
    percent = f"{share:.0f}" if share in (0, 100) else f"{min(share, 99.9):.1f}"
    return Ring(
        percent=f"{percent} %",
        dash=f"{share:.2f} {100 - share:.2f}",
        words=f"{done:,} of {total:,} posts" if total else "no posts yet",
    )


def table_gauges(size: DatabaseSize) -> list[Gauge]:
    """Show the largest tables beside the largest of them."""
    largest = max((one.bytes for one in size.tables), default=0)
    return [
        Gauge(
            label=one.name,
            value=bytes_text(one.bytes),
            percent=100 * one.bytes / largest if largest else 0.0,
        )
        for one in size.tables
    ]


def slot_rows(found: Sequence[SlotState], cap: int | None) -> list[SlotRow]:
    """Show the log that each slot holds, beside what it may hold at most."""
    largest = cap or max((one.held_bytes for one in found), default=0)
    rows: list[SlotRow] = []
    for one in found:
        health = SLOT_HEALTH.get(one.wal_status, Health.WATCH)
        state = "read from now" if one.active else "nobody reads from it"
        kind = "ends with its process" if one.temporary else "stays"
        rows.append(
            SlotRow(
                label=one.name,
                value=bytes_text(one.held_bytes)
                + (f" of at most {bytes_text(cap)}" if cap else ", without a limit"),
                percent=min(100.0, 100 * one.held_bytes / largest) if largest else 0.0,
                note=f"{state}; {kind}",
                health=health.value,
                health_word=SLOT_WORDS.get(one.wal_status, one.wal_status),
            )
        )
    return rows


def hit_gauges(found: Mapping[str, CacheStatistics]) -> list[Gauge]:
    """Show how many reads each cache answered without the database."""
    rows: list[Gauge] = []
    for name, one in found.items():
        reads = one.hits + one.misses
        rows.append(
            Gauge(
                label=readable(name),
                value=f"{100 * one.hits / reads:.1f} %" if reads else "no reads yet",
                percent=100 * one.hits / reads if reads else 0.0,
                note=f"{one.hits:,} of {reads:,} reads; {one.entries:,} entries",
            )
        )
    return rows
