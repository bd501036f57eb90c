"""The model of the encoder that serves is broken when a process starts, and no other is ready."""

import asyncio
import os
import shutil

import pytest
from encoder_town import village
from waiting import until

from millrace.api.serve import free_address
from millrace.cli import failures, main
from millrace.cli.ports import Doors
from millrace.community.testing import Rooms
from millrace.feed.encoder_versions import EncoderVersions, NewVersion, State
from millrace.feed.testing import save_tiny_llama
from millrace.feed.types import Embedding, FeedConfig
from millrace.kernel.clock import SystemClock
from millrace.settings import Settings
from millrace.store.types import StoreConfig
from millrace.wiring import build, encoder_loader, opened

pytestmark = pytest.mark.services
FIRST, SECOND = "first", "second"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small models."""
    made = tmp_path_factory.mktemp("models")
    return [save_tiny_llama(made / name, dims) for name, dims in ((FIRST, 32), (SECOND, 16))]


@pytest.fixture
def folders(models, tmp_path):
    """The same, to be broken."""
    return [shutil.copytree(one, tmp_path / one.name) for one in models]


def settings_of(conninfo, folder, tmp_path) -> Settings:
    """A program that embeds by itself."""
    return Settings(
        store=StoreConfig(primary=conninfo, data_dir=str(tmp_path / "data")),
        feed=FeedConfig(
            model_dir=str(folder), embedding=Embedding.HERE, coalesce_seconds=0.0, fit_minutes=0.0
        ),
    )


def damage(folder) -> None:
    """Lose the end of the weights, as where a disk was full."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])


async def serve_first(settings: Settings, *, beside: NewVersion | None = None) -> None:
    """Let the model of the settings be the one that serves, and another one ready."""
    load = encoder_loader(settings.feed)
    loaded = await load(settings.feed.model_dir)
    async with opened(settings) as domain:
        versions = EncoderVersions(domain.router, domain.clock)
        await versions.propose(
            NewVersion(
                version=loaded.version,
                name=FIRST,
                directory=settings.feed.model_dir,
                dims=loaded.dims,
                history=loaded.history,
            )
        )
        if beside is not None:
            await versions.add(beside, "olga")
            await versions.take_up(beside.version)
            await versions.finish(beside.version)


@pytest.fixture
def millrace(capsys, monkeypatch, tmp_path, conninfo, folders):
    """Run commands on a fresh database, with the first model."""
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLRACE_STORE_PRIMARY", conninfo)
    monkeypatch.setenv("MILLRACE_STORE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MILLRACE_FEED_MODEL_DIR", str(folders[0]))
    monkeypatch.setenv("MILLRACE_FEED_EMBEDDING", "here")  # a process beside says it by its server

    def ran(*arguments):
        capsys.readouterr()
        status = main.run(Doors(free_address, None), list(arguments))
        return status, capsys.readouterr().err

    return ran


def test_whatever_needs_the_model_says_which_and_what_to_do(millrace, conninfo, folders, tmp_path):
    """`embed`, `serve` and `up` end at once with the same words; nothing is changed by that."""
    settings = settings_of(conninfo, folders[0], tmp_path)
    asyncio.run(serve_first(settings))
    damage(folders[0])

    for command in ("embed", "serve", "up"):
        status, said = millrace(command)

        assert status == failures.WRONG_SETUP, said
        assert f"encoder 'first' serves, and the model at {folders[0]} cannot be used" in said
        assert "next: put its files back, or set feed.model_dir to another model" in said


def test_one_that_is_ready_is_named(millrace, conninfo, folders, tmp_path):
    """It can serve without the files of the broken one, and the command for it is told."""
    settings = settings_of(conninfo, folders[0], tmp_path)
    other = NewVersion(version="another", name=SECOND, directory=str(folders[1]), dims=16)
    asyncio.run(serve_first(settings, beside=other))
    damage(folders[0])

    _, said = millrace("embed")
    promoted, _ = millrace("models", "promote", SECOND)

    assert "or let another one serve: millrace models promote second," in said
    assert promoted == failures.DONE


async def test_with_another_model_in_the_settings_the_old_vectors_serve_meanwhile(
    router, conninfo, folders, tmp_path
):
    """What the error says is so: no feed loses its nearness, and the other one takes over by itself."""
    rooms = Rooms(router, SystemClock())
    rita, _, _ = await village(rooms)
    async with build(settings_of(conninfo, folders[0], tmp_path)) as program:
        await program.feed.settled()
        await program.feed.page(rita.member)
        first = program.feed.catalogue.version
    damage(folders[0])
    versions = EncoderVersions(router, SystemClock())
    async with build(settings_of(conninfo, folders[1], tmp_path)) as program:
        pages = [await program.feed.page(rita.member)]
        await until(lambda: program.feed.catalogue.version != first)
        pages.append(await program.feed.page(rita.member))
    states = {one.name: one.state for one in await versions.all()}

    assert [page.degraded for page in pages] == [[], []]
    assert states[SECOND] is State.SERVING
