"""The only place that knows every room: builds the program from settings.

Rooms that need torch are imported inside the builder, so that a command that needs none of them
does not pay for it.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from millrace.community.activity import Activity
from millrace.community.communities import Communities
from millrace.community.identity import Identity
from millrace.community.members import Members
from millrace.community.moderation import Moderation
from millrace.community.percentile_keeper import PercentileKeeper
from millrace.community.percentiles import Percentiles
from millrace.community.posts import Posts
from millrace.community.provider import IdentityProvider
from millrace.community.reactions import Reactions
from millrace.community.relations import RelationBook
from millrace.community.search import Search
from millrace.community.threads import Threads
from millrace.community.types import Key
from millrace.feed.desk import Desk
from millrace.feed.embeddings import Embeddings
from millrace.feed.encoder_shelf import EncoderShelf
from millrace.feed.encoder_trainings import EncoderTrainings
from millrace.feed.encoder_versions import EncoderVersions
from millrace.feed.first_encoder import first_encoder
from millrace.feed.freshness import ended
from millrace.feed.models import Models
from millrace.feed.parts import FeedParts
from millrace.feed.ports import Encoder, Switches
from millrace.feed.process import EmbeddingProcess, FarEncoder
from millrace.feed.prompt_log import PromptBelongings
from millrace.feed.room import Feed
from millrace.feed.scorers import Scorers
from millrace.feed.trainer_process import TrainerProcess
from millrace.feed.types import App, Embedding, FeedConfig
from millrace.feed.wire import Line
from millrace.kernel.clock import Clock, SystemClock
from millrace.kernel.errors import ConflictError
from millrace.kernel.hashing import hash64
from millrace.kernel.ids import NODE_MAX, IdMaker
from millrace.kernel.rng import rng
from millrace.release.flags.belongings import MemberBelongings
from millrace.release.flags.contexts import App as FlagApp
from millrace.release.flags.room import FlagParts, Flags
from millrace.settings import DoorConfig, Settings
from millrace.store.embedded import EmbeddedServer, default_data_dir
from millrace.store.migrate import migrate
from millrace.store.pool import Pool
from millrace.store.router import Router
from millrace.store.secret import secret_of

if TYPE_CHECKING:
    from millrace.feed.trainer import School, Trainer

Say = Callable[[str], None]
OWN_SECONDS_MAX = 60.0
OWN_POLL_SECONDS = 1.0


def silent(_: str) -> None:
    """Say nothing: the default of a program that nobody watches."""


class Domain(Struct, kw_only=True):
    """The community and what it stands on: enough for commands that need no feed.

    secret: signs cursors and consistency tokens.
    conninfo: the address of the primary.
    """

    settings: Settings
    clock: Clock
    ids: IdMaker
    data_dir: Path
    secret: bytes
    conninfo: str
    router: Router
    communities: Communities
    members: Members
    posts: Posts
    threads: Threads
    reactions: Reactions
    relations: RelationBook
    activity: Activity
    moderation: Moderation
    search: Search
    percentiles: Percentiles
    identity: Identity
    flags: Flags


class Program(Domain, kw_only=True):
    """The whole program: one object per room, with its ports fitted."""

    feed: Feed


def data_dir_of(settings: Settings) -> Path:
    """Return the folder of the installation: the database, the secret, the lock of `up`."""
    return Path(settings.store.data_dir or default_data_dir()).absolute()


def node_number() -> int:
    """Return this process's part of new ids; two live processes rarely share one.

    If they do, and both make an id in the same millisecond, the primary key refuses the second.
    """
    return hash64(f"{socket.gethostname()}:{os.getpid()}") & NODE_MAX


class Ground(Struct, kw_only=True):
    """What stands before any room: the database and the secret."""

    data_dir: Path
    secret: bytes
    conninfo: str
    router: Router


@asynccontextmanager
async def reached(
    settings: Settings, *, keep: bool = False, say: Say = silent
) -> AsyncGenerator[Ground]:
    """Start or reach the database as it is, and lend it until the block ends.

    Args:
        settings: as loaded.
        keep: whether to wait until the embedded server is ours: that of another process would
            end with it. For programs that stay.
        say: told, in a few words, what is being waited for.

    A data directory, a database or a setting that does not allow it is a SetupError.
    """
    async with AsyncExitStack() as stack:
        data_dir = data_dir_of(settings)
        conninfo = settings.store.primary
        if not conninfo:
            say("opening the database")
            server = await stack.enter_async_context(
                EmbeddedServer(data_dir, slot_wal_mib_max=settings.store.slot_wal_mib_max)
            )
            if keep:
                await _own(server, say)
            conninfo = server.conninfo
        secret = secret_of(data_dir, settings.secret)
        pool = Pool(conninfo, settings.store)
        stack.push_async_callback(pool.close)
        await pool.open()
        yield Ground(
            data_dir=data_dir, secret=secret, conninfo=conninfo, router=Router(pool, secret)
        )


async def _own(server: EmbeddedServer, say: Say) -> None:
    """Wait until whoever owns the server has left, and own it.

    Raises:
        ConflictError: the other process stays.
    """
    for _ in range(int(OWN_SECONDS_MAX / OWN_POLL_SECONDS)):
        if server.owns:
            return
        say(f"waiting for another command of millrace on {server.data_dir} to end")
        await server.stop()
        await asyncio.sleep(OWN_POLL_SECONDS)
        await server.start()
    raise ConflictError(
        f"another process uses the database in {server.data_dir}",
        value=str(server.data_dir),
        limit=f"{OWN_SECONDS_MAX:g} s",
        next_step="wait until it has ended, or choose another --data-dir",
    )


@asynccontextmanager
async def opened(
    settings: Settings, *, clock: Clock | None = None, keep: bool = False, say: Say = silent
) -> AsyncGenerator[Domain]:
    """Migrate the database and lend the community on it until the block ends.

    Args:
        settings: as loaded.
        clock: a fake in tests; the machine's own by default.
        keep: as in `reached`.
        say: told, in a few words, what is being waited for.

    What does not allow it is a SetupError, as in `reached`.
    """
    async with reached(settings, keep=keep, say=say) as ground:
        for name in await migrate(ground.router):
            say(f"migrated the database: {name}")
        yield _domain(settings, clock or SystemClock(), ground)


def _domain(settings: Settings, clock: Clock, ground: Ground) -> Domain:
    """Build the rooms of the community; nothing starts here."""
    ids = IdMaker(clock, node_number())
    router = ground.router
    kept = [MemberBelongings(ids), PromptBelongings()]
    return Domain(
        settings=settings,
        clock=clock,
        ids=ids,
        data_dir=ground.data_dir,
        secret=ground.secret,
        conninfo=ground.conninfo,
        router=router,
        communities=Communities(router=router, clock=clock),
        members=Members(router=router, clock=clock, ids=ids, belongings=kept),
        posts=Posts(router=router, clock=clock, ids=ids),
        threads=Threads(router=router, clock=clock, ids=ids),
        reactions=Reactions(router=router, clock=clock),
        relations=RelationBook(router=router, clock=clock),
        activity=Activity(router=router, clock=clock),
        moderation=Moderation(router=router, clock=clock, ids=ids, belongings=kept),
        search=Search(router=router, clock=clock),
        percentiles=Percentiles(router=router, clock=clock),
        identity=Identity(router=router, clock=clock, provider=_provider(settings.door, clock)),
        flags=Flags(
            FlagParts(
                router=router,
                clock=clock,
                ids=ids,
                conninfo=ground.conninfo,
                config=settings.flags,
            )
        ),
    )


def _provider(door: DoorConfig, clock: Clock) -> IdentityProvider | None:
    """Return the identity provider of the settings, if they name one."""
    if not door.jwks_url:
        return None
    return IdentityProvider(
        jwks_url=door.jwks_url,
        issuer=door.issuer,
        community=door.identity_community,
        clock=clock,
    )


def without_feed(program: Program) -> Domain:
    """Return the program without its feed: what is written through it waits to be learned from."""
    return Domain(**{name: getattr(program, name) for name in Domain.__struct_fields__})


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    encoder: Encoder | None = None,
    keep: bool = False,
    say: Say = silent,
) -> AsyncGenerator[Program]:
    """Build the whole program and lend it until the block ends.

    Args:
        settings: as loaded.
        clock: a fake in tests; the machine's own by default.
        encoder: a fake in tests; the model of the settings by default.
        keep: as in `reached`; only a program that stays has a process of its own that embeds.
        say: told, in a few words, what is being waited for.

    What does not allow it is a SetupError, as in `reached`.
    """
    config = settings.feed
    beside = keep and encoder is None and config.serve and config.embedding is Embedding.BESIDE
    async with (
        opened(settings, clock=clock, keep=keep, say=say) as domain,
        AsyncExitStack() as stack,
    ):
        process = None
        if encoder is None:
            say("loading the encoder")
        if beside:
            process = _process(domain)
            stack.push_async_callback(process.stop)
            encoder = FarEncoder(await process.start())
        feed = Feed(
            parts_of(
                domain,
                encoder or await serving_encoder(domain),
                process,
                FeedSwitches(domain.flags),
            )
        )
        tasks: list[asyncio.Task[None]] = []
        try:
            await (domain.flags.start() if keep or config.serve else domain.flags.load())
            if settings.feed.serve:
                tasks.append(asyncio.create_task(_keeper(domain).run()))
                await feed.start()
            yield Program(**asdict(domain), feed=feed)
        finally:
            await ended(tasks)
            await feed.stop()
            await domain.flags.stop()


def _keeper(domain: Domain) -> PercentileKeeper:
    """Return what keeps the percentiles; processes draw their pauses from different seeds."""
    return PercentileKeeper(
        percentiles=domain.percentiles, clock=domain.clock, rng=rng(node_number())
    )


async def serving_encoder(domain: Domain) -> Encoder:
    """Load the model whose vectors serve; that of the settings where there is none, or it is broken.

    That of the settings, where it is the one that serves and broken, is a SetupError.
    """
    config = domain.settings.feed
    known = await EncoderVersions(domain.router, domain.clock).all()
    return await first_encoder(known, config.model_dir, encoder_loader(config))


def encoder_loader(config: FeedConfig) -> Callable[[str], Awaitable[Encoder]]:
    """Return what loads the model of a directory, beside whatever else is done meanwhile."""

    async def load(directory: str) -> Encoder:
        return await asyncio.to_thread(_encoder, replace(config, model_dir=directory))

    return load


def _encoder(config: FeedConfig) -> Encoder:
    """Load the model of the settings; torch is imported only here, because it takes seconds."""
    from millrace.feed.encoder import TextEncoder

    folder = Path(config.model_dir) if config.model_dir else None
    return TextEncoder.load(folder, config.threads, history=config.pooled)


def _process(domain: Domain) -> EmbeddingProcess:
    """Return the process that embeds beside this one."""
    command = [sys.executable, "-m", "millrace", "embed", "--beside"]
    return EmbeddingProcess(command, _brief(domain), domain.clock)


def trainer_process(domain: Domain) -> TrainerProcess:
    """Return the process that trains beside this one."""
    command = [sys.executable, "-m", "millrace", "train", "background", "--beside"]
    return TrainerProcess(command, _brief(domain), domain.clock)


def _brief(domain: Domain) -> bytes:
    """Return what a process beside this one is told: the settings, and its database."""
    settings = domain.settings
    store = replace(settings.store, primary=domain.conninfo, data_dir=str(domain.data_dir))
    return msgspec.json.encode(replace(settings, store=store))


@asynccontextmanager
async def embedding(
    settings: Settings, tell: Callable[[Line], None], say: Say = silent
) -> AsyncGenerator[Desk]:
    """Lend what embeds, and does nothing else, until the block ends.

    Args:
        settings: as loaded.
        tell: hears how it does, line by line.
        say: told, in a few words, what is being waited for.

    What does not allow it is a SetupError, as in `reached`.
    """
    async with opened(settings, say=say) as domain:
        say("loading the encoder")
        desk = Desk(parts_of(domain, await serving_encoder(domain)), tell)
        try:
            await desk.start()
            yield desk
        finally:
            await desk.stop()


@asynccontextmanager
async def training(settings: Settings, say: Say = silent) -> AsyncGenerator["Trainer"]:
    """Lend what trains the encoder by itself until the block ends.

    Args:
        settings: as loaded.
        say: told, in a few words, how far it is.

    What does not allow it is a SetupError, as in `reached`.
    """
    from millrace.feed.trainer import Trainer, TrainerParts  # late: it brings pyarrow

    async with opened(settings, say=say) as domain:
        parts = TrainerParts(
            router=domain.router,
            clock=domain.clock,
            conninfo=domain.conninfo,
            config=settings.feed,
            shelf=EncoderShelf(domain.data_dir),
            trainings=EncoderTrainings(domain.router, domain.clock, domain.ids),
            versions=EncoderVersions(domain.router, domain.clock),
            school=partial(_school, domain.clock),
            load=encoder_loader(settings.feed),
            fit=_fitter(domain),
        )
        yield Trainer(parts, say)


def _school(clock: Clock) -> "School":
    """Return what trains and judges; torch is imported only here, because it takes memory."""
    from millrace.feed.encoder.school import School as Torch

    return Torch(clock=clock)


def _fitter(domain: Domain) -> Callable[[Encoder], Awaitable[str]]:
    """Return what fits a scorer for an encoder that does not serve yet."""

    async def fit(encoder: Encoder) -> str:
        parts = parts_of(domain, encoder)
        report = await Models(parts, Embeddings(parts), Scorers(parts)).fit()
        return f"scorer {report.scorer_version}: {report.reason}"

    return fit


class FeedSwitches:
    """Flags and rings, as the feed asks them (feed/ports.py)."""

    def __init__(self, flags: Flags) -> None:
        self.flagset = flags.flagset
        self.evaluate = flags.evaluate
        self.note_app = flags.note_app
        self._context_of = flags.context_of

    def context_of(self, member: Key, app: App) -> Mapping[str, Any]:
        """Return what is known of a member and of the app that asks."""
        known = FlagApp(track=app.track, version=app.version, platform=app.platform)
        return self._context_of(member, known, country=app.country)


def parts_of(
    domain: Domain,
    encoder: Encoder,
    process: EmbeddingProcess | None = None,
    switches: Switches | None = None,
) -> FeedParts:
    """Fit the feed's surroundings to it; without switches every feed is as the settings say."""
    return FeedParts(
        router=domain.router,
        clock=domain.clock,
        ids=domain.ids,
        secret=domain.secret,
        conninfo=domain.conninfo,
        encoder=encoder,
        posts=domain.posts,
        relations=domain.relations,
        activity=domain.activity,
        percentiles=domain.percentiles,
        config=domain.settings.feed,
        process=process,
        switches=switches,
        load=encoder_loader(domain.settings.feed) if process is None else None,
    )
