"""Fixtures: one product and browser with a fresh visitor for each test, and the command line."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from browser_site import Site, Visit, chromium, running_site, visiting
from command_line import Millrace, Ran, run
from playwright.async_api import Browser

from millrace.store.testing import TestServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(server: TestServer, tmp_path_factory) -> AsyncIterator[Site]:
    """One seeded product for all of them; each test uses other posts or members."""
    folder: Path = tmp_path_factory.mktemp("site")
    async with running_site(server.copy(), folder) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser process."""
    async with chromium() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, site: Site) -> AsyncIterator[Visit]:
    """A fresh visitor who must leave without a complaint, and without asking another host."""
    async with visiting(browser, site) as made:
        yield made
        assert made.complaints == []
        assert made.strangers() == []


@pytest.fixture
def millrace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Millrace:
    """Run commands in this process: away from any settings of this machine."""
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLRACE_STORE_DATA_DIR", str(tmp_path / "data"))

    def ran(*arguments: str) -> Ran:
        capsys.readouterr()
        status = run(arguments)
        said = capsys.readouterr()
        return Ran(status, said.out, said.err)

    return ran


@pytest.fixture
def beside(millrace: Millrace, conninfo: str, monkeypatch: pytest.MonkeyPatch) -> Millrace:
    """The same, beside a fresh migrated database."""
    monkeypatch.setenv("MILLRACE_STORE_PRIMARY", conninfo)
    return millrace
