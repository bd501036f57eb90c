"""`millrace train background` and `train status`: the encoder is trained by itself."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import BinaryIO

import click
import msgspec
from msgspec import Struct

from millrace.cli.flag_desk import ago, row, table, worked
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    json_option,
    pass_frame,
    print_json,
    run,
    say,
)
from millrace.cli.signals import run_until_signal
from millrace.feed.encoder_trainings import EncoderTraining, EncoderTrainings, Stage
from millrace.feed.examples.types import LABEL_HOURS
from millrace.feed.trainer_plan import Due, due
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import SetupError
from millrace.settings import Settings
from millrace.wiring import Domain, training

NICE = 10  # what serves goes before
LEASH_SECONDS = 1.0  # after which it ends without taking leave


@click.command(
    epilog="\b\nExamples:\n  millrace train background\n  millrace train background --once\n"
)
@click.option("--once", is_flag=True, help="End after one training.")
@click.option("--beside", is_flag=True, hidden=True, help="A server started it, on a leash.")
@data_dir_option
@pass_frame
def background(frame: Frame, once: bool, beside: bool, data_dir: str | None) -> None:
    """Train the encoder by itself, and promote what is surely better.

    `millrace up` does so by itself, in a process beside it, where the setting feed.training is
    `background`: by default where it runs for a demonstration. By hand it is for servers on which
    that is `off`. It waits for feed.training_engagements engagements, learns for as long as
    feed.training_minutes allow, and asks the new encoder and the one that serves the same questions,
    of a time that neither learned from. The new one serves where it surely finds more, and is kept
    out where it does not; `millrace train status` tells, and the next training waits for a quarter
    more engagements. Several may run; one trains. Ctrl-C or SIGTERM ends it, and it goes on there
    the next time. On another machine than the one that embeds, both need the same data directory.
    """
    os.nice(NICE)
    if beside:
        _beside()
    else:
        run_until_signal(_by_hand(frame.settings(store__data_dir=data_dir), once=once))


@click.command(epilog="\b\nExamples:\n  millrace train status\n  millrace train status --json\n")
@data_dir_option
@json_option
@pass_frame
def status(frame: Frame, data_dir: str | None, as_json: bool) -> None:
    """List the trainings that came by themselves, and what their gates said."""

    found = worked(frame, data_dir, as_json, _standing)
    if as_json:
        print_json(found)
        return
    if found.trainings:
        _show(found.trainings)
    else:
        click.echo("nothing was trained by itself yet")
    if found.waits is not None:
        late = "" if found.waits.at is None else f", not before {found.waits.at:%Y-%m-%d %H:%M} UTC"
        click.echo(
            f"the next one waits for {found.waits.engagements:,} engagements that are "
            f"{LABEL_HOURS:g} hours old{late}; there are {found.engagements:,}"
        )


class Standing(Struct, frozen=True, kw_only=True):
    """The newest trainings, and what the next one waits for; None while one goes on.

    engagements: how many are old enough by now, counted up to what is waited for.
    """

    trainings: list[EncoderTraining]
    waits: Due | None
    engagements: int


async def _standing(domain: Domain) -> Standing:
    trainings = EncoderTrainings(domain.router, domain.clock, domain.ids)
    found = await trainings.newest()
    if any(one.goes_on for one in found):
        return Standing(trainings=found, waits=None, engagements=0)
    waits = due(found, domain.settings.feed.training_engagements)
    before = domain.clock.now() - timedelta(hours=LABEL_HOURS)
    count = await trainings.engagements(before, waits.engagements)
    return Standing(trainings=found, waits=waits, engagements=count)


def _show(found: list[EncoderTraining]) -> None:
    shown = table("began", "state", "steps", "engagements", "recall@10", "instead of", "encoder")
    now = SystemClock().now()
    for one in found:
        gate = one.judgement
        row(
            shown,
            ago(one.began_at, now),
            one.state.value,
            _steps(one),
            f"{one.engagements:,}",
            "" if gate is None else f"{gate.candidate:.4f}",
            "" if gate is None else f"{gate.serving:.4f}",
            one.candidate_name,
        )
    console().print(shown)
    if found[0].reason:
        click.echo(f"the newest: {found[0].reason}")


def _steps(one: EncoderTraining) -> str:
    if one.way is None:
        return ""
    return f"{one.step} of {one.way.steps}" if one.state is Stage.TRAINING else str(one.way.steps)


async def _by_hand(settings: Settings, *, once: bool) -> None:
    """Train, again and again, until cancelled."""
    while True:
        async with training(settings, say) as trainer:
            await trainer.run()
        if once:
            return


# ------------------------------------------------- beside a server


def _beside() -> None:
    """Train once for the server at the other end of the pipe, and end with it.

    Raises:
        SetupError: nobody is there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's; the pipe tells the rest
    heard = sys.stdin.buffer
    brief = heard.readline()
    if not brief:
        raise SetupError(
            "there is no server at the other end", next_step="run `millrace train background`"
        )
    run(_on_a_leash(msgspec.json.decode(brief, type=Settings), heard))


async def _on_a_leash(settings: Settings, heard: BinaryIO) -> None:
    """Train once; end at once when the pipe closes, whatever a thread is computing."""
    loop = asyncio.get_running_loop()
    work = asyncio.current_task()
    assert work is not None, "it runs in one"

    def let_go() -> None:
        loop.call_soon_threadsafe(work.cancel)

    threading.Thread(target=_hold, args=(heard, let_go), daemon=True).start()
    with suppress(asyncio.CancelledError):
        async with training(settings, say) as trainer:
            await trainer.run()


def _hold(heard: BinaryIO, let_go: Callable[[], None]) -> None:
    """Read from the pipe until it closes; then leave a moment, and end whatever holds on.

    What is written meanwhile is written beside its place and renamed, so nothing is left half done.
    """
    with suppress(OSError, RuntimeError):  # the loop may be closed already
        for _ in heard:
            pass
        let_go()
    threading.Event().wait(LEASH_SECONDS)
    os._exit(0)
