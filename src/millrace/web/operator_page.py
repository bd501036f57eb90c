"""The operator's page: freshness, the pipeline, the river, caches and sizes, as pictures."""

from asyncio import gather, to_thread

from litestar import Response, get
from msgspec import Struct

from millrace.store.changes.slots import cap_bytes, slots
from millrace.store.sizes import database_size, resident_memory, server_memory
from millrace.web.asked import Asked, page, program_of, wants_fragment
from millrace.web.figures import (
    HEALTH_WORDS,
    UNKNOWN,
    Funnel,
    Gauge,
    Health,
    Ring,
    SlotRow,
    StreamRow,
    Tile,
    amount,
    bytes_text,
    funnel_of,
    health_of,
    hit_gauges,
    ring_of,
    seconds_text,
    size_of,
    slot_rows,
    stream_row,
    table_gauges,
)
from millrace.web.shell import drawn, renderer, shell_for
from millrace.wiring import Program

STREAMS = {
    "memory": "index, columns, histories and caches of this process",
    "embedding": "vectors of posts and members, in tables",
    "flags": "flags and rings of this process",
}


class OperatorView(Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    at: str
    tiles: list[Tile]
    ring: Ring
    funnel: Funnel
    streams: list[StreamRow]
    slots: list[SlotRow]
    caches: list[Gauge]
    database: str
    tables: list[Gauge]
    memory: list[Tile]


@get("/operator", include_in_schema=False)
async def show_operator(request: Asked) -> Response[str]:
    """Show how the installation does; as a fragment, the figures alone, for the module."""
    view = await _view(program_of(request))
    if wants_fragment(request):
        return page(renderer().text("_figures.html", view=view))
    return drawn("operator.html", await shell_for(request, "operator"), view=view)


async def _view(program: Program) -> OperatorView:
    size, memory, held, cap = await gather(
        database_size(program.router),
        _memory(program),
        slots(program.router),
        cap_bytes(program.router),
    )
    feed = program.feed
    done, total = feed.freshness.progress()
    states = [feed.stream.state(), feed.freshness.stream(), program.flags.state()]
    return OperatorView(
        at=program.clock.now().strftime("%H:%M:%S UTC"),
        tiles=_tiles(program),
        ring=ring_of(done, total),
        funnel=funnel_of(feed.stages()),
        streams=[stream_row(state, STREAMS.get(state.name, "")) for state in states],
        slots=slot_rows(held, cap),
        caches=hit_gauges(feed.caches()),
        database=bytes_text(size.bytes),
        tables=table_gauges(size),
        memory=memory,
    )


def _tiles(program: Program) -> list[Tile]:
    """Return the figures that are looked at first."""
    fresh = program.feed.freshness
    lag = fresh.lag()
    health = health_of(lag)
    failed = Health.WATCH if fresh.failures else Health.FINE
    degraded = program.feed.degraded_pages
    return [
        Tile(label="Waiting posts", value=amount(fresh.waiting()), unit="posts",
             note="no vector yet of what they say now"),
        Tile(label="Freshness lag", value=seconds_text(lag).split()[0],
             unit=seconds_text(lag).split()[1], note="the oldest change that waits",
             health=health.value, health_word=HEALTH_WORDS[health]),
        Tile(label="Index", value=amount(len(program.feed.index)), unit="posts",
             note="found by meaning, in memory"),
        Tile(label="Degraded pages", value=amount(degraded), unit="since the start",
             note="feeds that said what could not be done",
             health=(Health.WATCH if degraded else Health.FINE).value,
             health_word=HEALTH_WORDS[Health.WATCH if degraded else Health.FINE]),
        Tile(label="Embedding failures", value=amount(fresh.failures), unit="since the start",
             note="each is tried again", health=failed.value, health_word=HEALTH_WORDS[failed]),
    ]  # fmt: skip


async def _memory(program: Program) -> list[Tile]:
    """Return the memory of this process, of the one that embeds beside it, and of the database's."""
    own = await to_thread(resident_memory)
    beside = program.feed.embedder_pid
    apart = None if beside is None else await to_thread(resident_memory, pid=beside)
    embedded = not program.settings.store.primary
    server = await server_memory(program.router) if embedded else None
    now = ("", "") if own is None else size_of(own[0])
    there = ("", "") if server is None else size_of(server)
    beside_now = ("", "") if apart is None else size_of(apart[0])
    tiles = [
        Tile(label="This process", value=now[0] or UNKNOWN, unit=now[1],
             note="" if own is None else f"at most {bytes_text(own[1])} since the start"),
        Tile(label="Database processes", value=there[0] or UNKNOWN, unit=there[1],
             note="shared pages counted once" if server else "the database runs elsewhere"
             if not embedded else "the system does not tell"),
    ]  # fmt: skip
    if beside is not None:
        tiles.insert(1, Tile(label="Embedding process", value=beside_now[0] or UNKNOWN,
                             unit=beside_now[1], note="beside this one, with the model"))  # fmt: skip
    return tiles
