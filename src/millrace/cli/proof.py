"""`millrace doctor --deep`: is what is derived what a rebuild would make?

One snapshot of the database, read only. Where Millrace is up, a difference may be work that has
just been heard of, so what differs is looked at again a moment later. What the program holds in
memory is compared by its size, which it tells.
"""

import re

import httpx

from millrace.cli import lock
from millrace.cli.checks import Check, State
from millrace.cli.lock import Holder
from millrace.cli.rebuild import Progress
from millrace.community.recount import Compared
from millrace.feed.proof import proved
from millrace.settings import Settings
from millrace.wiring import Say, data_dir_of, opened, parts_of, serving_encoder

LOOKS = 3
METRICS_SECONDS_MAX = 5.0
NUMBER = r"(?:\{[^}]*\})? ([0-9.e+]+)$"
INDEX = re.compile(f"^millrace_index_posts{NUMBER}", re.MULTILINE)
WAITING = re.compile(f"^millrace_freshness_waiting{NUMBER}", re.MULTILINE)


async def of_contents(settings: Settings, tell: Say) -> tuple[list[Check], list[Compared]]:
    """Compare everything derived with what a rebuild would make."""
    up = None if settings.store.primary else lock.holder(data_dir_of(settings))
    async with opened(settings, say=tell) as domain:
        tell("loading the encoder")
        parts = parts_of(domain, await serving_encoder(domain))
        found = await proved(parts, Progress(tell), looks=1 if up is None else LOOKS)
    checks = [judged(one) for one in found]
    if up is not None:
        vectors = next(one for one in found if one.part == "vectors of posts")
        checks.append(await _in_memory(up, vectors))
    return checks, found


def judged(one: Compared) -> Check:
    """Judge a comparison: what differs is a failure, what waits is not."""
    detail = f"{one.compared:,} compared"
    waiting = f", {one.waiting:,} wait to be made" if one.waiting else ""
    if one.differing:
        first = "; ".join(
            f"{each.key} {each.field}: {each.live}, rebuilt {each.rebuilt}" for each in one.first
        )
        part = one.part.partition(" ")[0]
        step = f"millrace rebuild --part {'percentiles' if part == 'percentile' else part}"
        detail = f"{one.differing:,} of {detail} differ: {first}{waiting}"
        return Check(one.part, State.FAIL, detail, step)
    return Check(one.part, State.OK, f"{detail}, all as a rebuild would make them{waiting}")


async def _in_memory(up: Holder, vectors: Compared) -> Check:
    """Compare the size of the index of the program that is up with the vectors in the table."""
    name = "index in memory"
    try:
        async with httpx.AsyncClient(timeout=METRICS_SECONDS_MAX) as client:
            text = (await client.get(f"{up.address}/metrics")).raise_for_status().text
    except httpx.HTTPError as exc:
        return Check(name, State.WARN, f"{up.address}/metrics does not answer: {exc}")
    index, waiting = INDEX.search(text), WAITING.search(text)
    if index is None or waiting is None:
        return Check(name, State.WARN, f"{up.address}/metrics does not tell its size")
    held = int(float(index.group(1)))
    if held == vectors.compared or float(waiting.group(1)) or vectors.waiting:
        return Check(name, State.OK, f"{held:,} posts, {vectors.compared:,} vectors in the table")
    detail = f"{held:,} posts, and {vectors.compared:,} vectors in the table"
    return Check(name, State.WARN, detail, "run it again; if it stays so, restart Millrace")
