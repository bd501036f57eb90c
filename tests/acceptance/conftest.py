"""Fixtures of the browser tests: one product, one browser, a fresh visitor for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from browser_site import Site, Visit, chromium, running_site, visiting
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
