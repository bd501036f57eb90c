"""`millrace models`: the encoders of an installation, and which of them serves."""

import asyncio
from pathlib import Path
from typing import Any, cast

import click
import msgspec
from msgspec import Struct

from millrace.cli.flag_desk import ago, row, sitting_here, table, worked
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    hushed,
    json_option,
    pass_frame,
    print_json,
)
from millrace.feed.encoder_versions import (
    EncoderVersion,
    EncoderVersions,
    Made,
    NewVersion,
    State,
    named,
)
from millrace.feed.gate import judgement_of
from millrace.feed.short_encoder import ShortEncoder
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import ConflictError, SetupError
from millrace.wiring import Domain, Say, encoder_loader

METRICS, LINEAGE = "metrics.json", "data.json"
LOOK_SECONDS = 1.0
SAID_SECONDS = 5.0
BYTES_EACH = 5  # of a number in memory: four, and one for the first look of a search

name_argument = click.argument("name")


@click.group(
    epilog="\b\nExamples:\n  millrace models list\n  millrace models add runs/encoder/best --name "
    "spring\n  millrace models promote spring\n  millrace models rollback\n"
)
def models() -> None:
    """See the encoders, add one, and say which serves.

    An added encoder is embedded beside the one that serves, by whoever embeds (`millrace up`,
    `millrace serve`), behind everything that somebody waits for. When it is ready it can be
    promoted, at once and everywhere, and the one before it stays ready until it is retired. The
    flag feed.encoder gives some members another one that is ready.
    """


class Standing(Struct, frozen=True):
    """An encoder, and how far its vectors are; memory: of a server that holds them, in bytes."""

    encoder: EncoderVersion
    posts: int
    members: int
    posts_in_all: int
    members_in_all: int
    memory: int


@models.command(
    "list", epilog="\b\nExamples:\n  millrace models list\n  millrace models list --json\n"
)
@data_dir_option
@json_option
@pass_frame
def list_them(frame: Frame, data_dir: str | None, as_json: bool) -> None:
    """List the encoders, the newest first, and how far each one is."""
    found = worked(frame, data_dir, as_json, _standings)
    if as_json:
        print_json({"models": found})
        return
    if not found:
        click.echo("there are no encoders yet: the first one is noted when Millrace is up")
        return
    shown = table("name", "state", "posts", "members", "dims", "memory", "since", "version")
    now = SystemClock().now()
    for one in found:
        encoder = one.encoder
        row(
            shown,
            encoder.name,
            encoder.state.value,
            f"{one.posts:,} of {one.posts_in_all:,}",
            f"{one.members:,} of {one.members_in_all:,}",
            str(encoder.dims),
            f"{one.memory / (1 << 20):.0f} MiB",
            ago(encoder.changed_at, now),
            encoder.version,
        )
    console().print(shown)
    for one in found:
        if one.encoder.fault:
            click.echo(f"{one.encoder.name}: {one.encoder.fault}")
        gate = judgement_of(one.encoder.metrics)
        if gate is not None:
            click.echo(
                f"{one.encoder.name}: its gate, by {one.encoder.added_by}: {gate.sentence}; "
                f"examples {one.encoder.metrics.get('data', '')}"
            )


@models.command(
    epilog="\b\nExamples:\n  millrace models add runs/encoder/best --name spring\n  millrace models add runs/encoder/best --dims 128 --name short\n"
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--name", help="What people call it. Default: the name of the directory.")
@click.option(
    "--dims",
    type=click.IntRange(min=8),
    help="Use the first so many numbers of a vector: a model that was trained for it (--matryoshka)"
    " finds nearly as much, and each server needs less memory. Default: all.",
)
@click.option("--promote", is_flag=True, help="Wait until it is ready, and promote it then.")
@data_dir_option
@json_option
@pass_frame
def add(frame: Frame, directory: Path, data_dir: str | None, as_json: bool, **wanted: Any) -> None:
    """Add the encoder of a DIRECTORY, as a training or save_pretrained writes it.

    It is loaded and tried first: a broken or wrong-shaped one is refused with the reason, and
    nothing changes. The directory has to stay where it is, where whoever embeds can read it.
    """
    tell = hushed(as_json=as_json)

    folder = directory.absolute()

    async def work(domain: Domain) -> EncoderVersion:
        versions = _versions(domain)
        tell("loading the encoder")
        new = await _tried(domain, folder, wanted["name"], wanted["dims"])
        found = await versions.add(new, _me())
        if wanted["promote"]:
            await _until_ready(versions, found.version, tell)
            found = await versions.promote(found.version, _me())
        return found

    found = worked(frame, data_dir, as_json, work)
    _tell(found, as_json, "is embedded beside the one that serves: millrace models list")


@models.command(epilog="\b\nExamples:\n  millrace models promote spring\n")
@name_argument
@data_dir_option
@json_option
@pass_frame
def promote(frame: Frame, name: str, data_dir: str | None, as_json: bool) -> None:
    """Let the encoder NAME serve from now on; the one before it stays ready.

    Servers that are up change over as they hear of it, each from one feed to the next.
    """
    found = worked(frame, data_dir, as_json, lambda d: _versions(d).promote(name, _me()))
    _tell(found, as_json, "serves")


@models.command(epilog="\b\nExamples:\n  millrace models rollback\n")
@data_dir_option
@json_option
@pass_frame
def rollback(frame: Frame, data_dir: str | None, as_json: bool) -> None:
    """Let the encoder serve again that served before this one."""
    found = worked(frame, data_dir, as_json, lambda d: _versions(d).rollback(_me()))
    _tell(found, as_json, "serves again")


@models.command(epilog="\b\nExamples:\n  millrace models retire spring\n")
@name_argument
@data_dir_option
@json_option
@pass_frame
def retire(frame: Frame, name: str, data_dir: str | None, as_json: bool) -> None:
    """Let the encoder NAME go: its vectors are dropped by and by. The one that serves stays."""
    found = worked(frame, data_dir, as_json, lambda d: _versions(d).retire(name, _me()))
    _tell(found, as_json, "is retired")


@models.command(
    epilog="\b\nExamples:\n  millrace models compare packaged spring\n  millrace models compare packaged spring --data examples\n"
)
@click.argument("one")
@click.argument("other")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Ask both the same questions: of the moments in this folder of examples (`millrace train "
    "export`) that are later than what either learned from.",
)
@data_dir_option
@json_option
@pass_frame
def compare(
    frame: Frame, one: str, other: str, data: Path | None, data_dir: str | None, as_json: bool
) -> None:
    """Put what was measured of two encoders beside each other.

    The figures are those that their trainings wrote (metrics.json). They compare only where both
    were trained and measured on the same examples, and the last line says whether they were. With
    --data both are measured now, on one processor core.
    """

    async def work(domain: Domain) -> list[EncoderVersion]:
        known = await _versions(domain).all()
        return [named(known, one), named(known, other)]

    first, second = worked(frame, data_dir, as_json, work)
    if data is None:
        figures = _beside(first.metrics, second.metrics)
        same = _questions(first) is not None and _questions(first) == _questions(second)
    else:
        figures, same = _asked(data, first, second, hushed(as_json=as_json)), True
    if as_json:
        print_json(
            {
                "models": [first.name, second.name],
                "figures": {name: list(values) for name, values in figures.items()},
                "same_questions": same,
            }
        )
        return
    shown = table("figure", first.name, second.name, "difference")
    for name, (mine, theirs) in figures.items():
        apart = "" if mine is None or theirs is None else f"{theirs - mine:+.4f}"
        row(shown, name, _figure(mine), _figure(theirs), apart)
    console().print(shown)
    unmeasured = [each.name for each in (first, second) if not each.metrics and data is None]
    if unmeasured:
        click.echo(f"nothing was measured of {' and '.join(unmeasured)}")
    elif not same:
        click.echo("they were measured on different examples: the figures do not compare")


def _versions(domain: Domain) -> EncoderVersions:
    return EncoderVersions(domain.router, domain.clock)


def _me() -> str:
    return sitting_here().name


async def _standings(domain: Domain) -> list[Standing]:
    versions = _versions(domain)
    known, made = await versions.all(), await versions.made()
    nothing = Made(version="", posts=0, members=0, posts_in_all=0, members_in_all=0)
    return [_standing(one, made.get(one.version, nothing)) for one in known]


def _standing(one: EncoderVersion, made: Made) -> Standing:
    held = one.state in (State.READY, State.SERVING)
    return Standing(
        encoder=one,
        posts=made.posts,
        members=made.members,
        posts_in_all=made.posts_in_all,
        members_in_all=made.members_in_all,
        memory=made.posts * one.dims * BYTES_EACH if held else 0,
    )


async def _tried(domain: Domain, folder: Path, name: str | None, dims: int | None) -> NewVersion:
    """Load a model and see that it works; what does not is refused.

    Passes on:
        SetupError: it cannot be used; says why.
        InvalidError: its vectors are not longer than asked for.
    """
    encoder = await encoder_loader(domain.settings.feed)(str(folder))
    if dims is not None:
        encoder = ShortEncoder(encoder, dims)
    return NewVersion(
        version=encoder.version,
        name=folder.name if name is None else name,
        directory=str(folder),
        dims=encoder.dims,
        history=encoder.history,
        metrics=_measured(folder),
    )


def _measured(folder: Path) -> dict[str, Any]:
    """Return what a training measured of its model; nothing where it is no trained one.

    Raises:
        SetupError: the file is there and cannot be read.
    """
    file = folder / METRICS
    if not file.exists():
        return {}
    try:
        found = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        lineage = folder / LINEAGE
        if lineage.exists():
            found["data"] = msgspec.json.decode(lineage.read_bytes(), type=dict[str, Any])["data"]
        return found
    except (OSError, msgspec.DecodeError, KeyError) as exc:
        raise SetupError(
            f"the figures in {file} cannot be read: {exc}",
            field="directory",
            value=str(folder),
            next_step="write them anew, or take the file away",
        ) from exc


async def _until_ready(versions: EncoderVersions, version: str, tell: Say) -> None:
    """Wait until an encoder is ready, and say now and then how far it is.

    Raises:
        ConflictError: it cannot be used after all, or somebody retired it.
    """
    waited = 0.0
    while True:
        found = named(await versions.all(), version)
        if found.state is State.READY:
            return
        if found.fault or found.state is State.RETIRED:
            raise ConflictError(
                f"encoder {found.name!r} is {found.state}: {found.fault or 'it was let go'}",
                field="state",
                value=found.state.value,
                limit=State.READY.value,
                next_step="see: millrace models list",
            )
        if waited % SAID_SECONDS == 0:
            made = (await versions.made())[version]
            tell(f"{found.name}: {made.posts:,} of {made.posts_in_all:,} posts")
        await asyncio.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS


def _tell(found: EncoderVersion, as_json: bool, what: str) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found.name} {what if found.state is not State.SERVING else 'serves'}")


def _asked(
    data: Path, one: EncoderVersion, other: EncoderVersion, tell: Say
) -> dict[str, tuple[float | None, float | None]]:
    """Ask two encoders the same questions; torch is imported only here."""
    from millrace.feed.encoder.comparing import compared

    tell("asking both")
    both = (one, other)
    found = compared(
        data,
        [(each.directory, each.dims) for each in both],
        histories=[each.history for each in both],
    )
    tell(f"{found.members} members, from {found.since:%Y-%m-%d %H:%M} on")
    return _beside(*found.found)


def _beside(
    one: dict[str, Any], other: dict[str, Any]
) -> dict[str, tuple[float | None, float | None]]:
    """Return every number that either has, by its name."""
    mine, theirs = _numbers(one), _numbers(other)
    return {name: (mine.get(name), theirs.get(name)) for name in sorted(mine | theirs)}


def _numbers(found: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of nested tables by their dotted names."""
    numbers: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            numbers |= _numbers(cast("dict[str, Any]", value), f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[prefix + name] = float(value)
    return numbers


def _questions(one: EncoderVersion) -> object:
    """Return the fingerprint of the examples that an encoder was taught by and measured on."""
    return one.metrics.get("data")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
