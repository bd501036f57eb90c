"""Fixtures that every folder may use: a real PostgreSQL, a fresh database per test."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from millrace.store.router import Router
from millrace.store.testing import TestServer, opened


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """One embedded server per test process."""
    made = TestServer()
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture
def conninfo(server: TestServer) -> Iterator[str]:
    """The address of a fresh, migrated database, which goes when the test ends."""
    made = server.copy()
    yield made
    server.drop(made)


@pytest.fixture
async def router(conninfo: str) -> AsyncIterator[Router]:
    """A router on a fresh, migrated database."""
    async with opened(conninfo) as made:
        yield made
