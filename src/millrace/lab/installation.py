"""A whole installation for one measurement: a database of its own, which goes at the end."""

import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec.structs import replace

from millrace.feed.types import HistoryForm
from millrace.kernel.clock import Clock
from millrace.settings import Settings
from millrace.wiring import Program, build


@contextmanager
def own_folder() -> Generator[str]:
    """Lend a fresh folder that the server's own user may enter."""
    with tempfile.TemporaryDirectory(prefix="millrace-lab-") as folder:
        Path(folder).chmod(0o755)
        yield folder


@asynccontextmanager
async def installation(
    clock: Clock, age_days_max: float, history: HistoryForm, say: Callable[[str], None]
) -> AsyncGenerator[Program]:
    """Lend a program on a fresh database. It fits when it is told to, and not by itself.

    Args:
        clock: its time.
        age_days_max: how old a post may be that a feed shows; 0 is for ever.
        history: how what members liked comes into their vectors.
        say: told what is being waited for.
    """
    with own_folder() as folder:
        settings = Settings()
        settings = replace(
            settings,
            store=replace(settings.store, data_dir=folder),
            feed=replace(
                settings.feed,
                fit_minutes=0.0,
                threads=2,
                age_days_max=age_days_max,
                history=history,
            ),
        )
        async with build(settings, clock=clock, say=say) as program:
            yield program
