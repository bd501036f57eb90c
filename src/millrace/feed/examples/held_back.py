"""Examples in two folders: all of them, and those up to a time, which alone are learned from.

What is judged by then lies behind everything that a training has ever seen, because it is not in
what the training reads.
"""

from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from millrace.feed.examples.exporting import export
from millrace.feed.examples.reading import Examples
from millrace.feed.examples.types import MANIFEST, ExportPlan, Manifest
from millrace.kernel.clock import Clock
from millrace.store.router import Router


class HeldBack(Struct, frozen=True, kw_only=True):
    """What was cut. engaged: answers to learn from. behind: those to judge by.

    cut_at: nothing later is learned from. data: fingerprint of what is learned from.
    """

    engaged: int
    behind: int
    cut_at: datetime
    data: str


async def hold_back(
    router: Router, clock: Clock, folders: tuple[Path, Path], until: datetime, share: float
) -> HeldBack:
    """Cut examples up to a time, and once more up to when all but a share of the moments was over.

    What is there already is not cut again: the same times make the same folders.

    Args:
        router: of the database.
        clock: tells when folders were made.
        folders: for all of them, and for those to learn from.
        until: nothing later is in either.
        share: of the moments, the last ones.
    """
    whole, taught = folders
    whole_manifest = await _cut(router, clock, whole, until)
    if not whole_manifest.counts.moments:
        return HeldBack(engaged=0, behind=0, cut_at=until, data="")
    cut_at = Examples(whole).whole().time_at(1 - share)
    found = await _cut(router, clock, taught, cut_at)
    return HeldBack(
        engaged=found.counts.engaged,
        behind=whole_manifest.counts.engaged - found.counts.engaged,
        cut_at=cut_at,
        data=found.fingerprint,
    )


async def _cut(router: Router, clock: Clock, folder: Path, until: datetime) -> Manifest:
    """Cut examples up to a time, where that has not been done."""
    file = folder / MANIFEST
    if file.is_file():
        found = msgspec.json.decode(file.read_bytes(), type=Manifest)
        if found.cut_at == until:
            return found
    return (await export(router, clock, folder, ExportPlan(until=until))).manifest
