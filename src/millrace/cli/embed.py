"""`millrace embed`: makes vectors, and does nothing else.

A server starts it beside itself and hands it its settings over a pipe, which is also the leash:
when the server is gone, however it went, the pipe closes, and so does this. The same command by
hand makes the vectors of a database whose servers have `feed.embedding` set to `elsewhere`.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import click
import msgspec
import uvloop

from millrace.cli.frame import Frame, data_dir_option, pass_frame, say
from millrace.cli.signals import run_until_signal
from millrace.feed.wire import Line, Refused, Report, failure_of, question, written
from millrace.kernel.errors import SetupError
from millrace.settings import Settings
from millrace.wiring import embedding

PROGRESS_SECONDS = 5.0
LEASH_SECONDS = 1.0  # after which it ends without taking leave


@click.command(
    epilog="\b\nExamples:\n  millrace embed\n  MILLRACE_FEED_EMBEDDING=elsewhere millrace serve\n"
)
@click.option(
    "--beside", is_flag=True, hidden=True, help="A server started it, and asks over pipes."
)
@data_dir_option
@pass_frame
def embed(frame: Frame, beside: bool, data_dir: str | None) -> None:
    """Make the vectors of posts and members, and nothing else.

    `millrace up` and `millrace serve` do that by themselves, in a process beside them. By hand it is
    for servers whose setting feed.embedding is `elsewhere`: on another machine, with store.primary
    set to the same database and the same model. Several may run; one works, and another takes over
    when it ends. Ctrl-C or SIGTERM ends it.
    """
    if beside:
        _beside()
    else:
        run_until_signal(_by_hand(frame.settings(store__data_dir=data_dir)))


async def _by_hand(settings: Settings) -> None:
    """Embed until cancelled, and say now and then how much is left."""
    told: list[Report] = []

    def tell(line: Line) -> None:
        if isinstance(line, Report):
            told[:] = [line]

    async with embedding(settings, tell, say):
        say("embedding, until it is ended")
        left = 0
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            before, left = left, told[0].waiting if told else 0
            if left or before:
                say(f"embedding posts: {left:,} wait")


# ------------------------------------------------- beside a server


def _beside() -> None:
    """Work for the server at the other end of the pipes, and end with it.

    Raises:
        SetupError: nobody is there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's; the pipe tells the rest
    heard = sys.stdin.buffer
    said = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no line of ours
    brief = heard.readline()
    if not brief:
        raise SetupError(
            "there is no server at the other end", next_step="run `millrace embed` by itself"
        )
    settings = msgspec.json.decode(brief, type=Settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_on_a_leash(settings, heard, said))


async def _on_a_leash(settings: Settings, heard: BinaryIO, said: BinaryIO) -> None:
    """Embed and answer until the pipe closes; what cannot be mended here is told."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[bytes] = asyncio.Queue()
    work = asyncio.create_task(_answering(settings, asked, said))

    def take(line: bytes) -> None:
        loop.call_soon_threadsafe(asked.put_nowait, line)

    def let_go() -> None:
        loop.call_soon_threadsafe(work.cancel)

    threading.Thread(target=_hold, args=(heard, take, let_go), daemon=True).start()
    with suppress(asyncio.CancelledError):
        try:
            await work
        except Exception as exc:
            with suppress(OSError):
                said.write(written(Refused(failure=failure_of(exc))))
            if not isinstance(exc, SetupError):
                raise


def _hold(heard: BinaryIO, take: Callable[[bytes], None], let_go: Callable[[], None]) -> None:
    """Read from the pipe until it closes; then leave a moment, and end whatever holds on."""
    with suppress(OSError, RuntimeError):  # the loop may be closed already
        for line in heard:
            take(line)
        let_go()
    threading.Event().wait(LEASH_SECONDS)
    os._exit(0)


async def _answering(settings: Settings, asked: "asyncio.Queue[bytes]", said: BinaryIO) -> None:
    """Do what the server asks."""

    def tell(line: Line) -> None:
        with suppress(BrokenPipeError):  # it has gone; the other pipe says so too
            said.write(written(line))

    async with embedding(settings, tell) as desk:
        while True:
            desk.hear(question(await asked.get()))
