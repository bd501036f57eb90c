"""Statements that come often are planned once, and a migration beneath them is survived."""

import psycopg
import pytest

from millrace.kernel.errors import UnavailableError
from millrace.store.queries import Query
from millrace.store.testing import opened

pytestmark = pytest.mark.services

PREPARED = Query("prepared", "", "select count(*) from pg_prepared_statements where not from_sql")
EVERYTHING = Query("everything", "", "select * from community")


async def ask(router, query: Query) -> object:
    async with router.read() as session:
        return await session.value(query)


async def test_a_statement_that_comes_often_is_planned_once(router):
    """The pool lends the same connection while nobody else asks."""
    for _ in range(20):
        await ask(router, EVERYTHING)

    assert await ask(router, PREPARED) >= 1


async def test_a_changed_table_costs_one_request_and_no_more(conninfo):
    """The old plan is refused once, in words that say to try again; then there is a new one."""
    async with opened(conninfo) as router:
        for _ in range(20):
            await ask(router, EVERYTHING)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("alter table community add column more text")
        refused = []
        for _ in range(20):
            try:
                await ask(router, EVERYTHING)
            except UnavailableError as error:
                refused.append(error)

    assert 1 <= len(refused) <= 2  # one for each connection that the pool keeps ready
    assert all("changed by a migration" in error.message for error in refused)
    assert all(error.next_step.startswith("try again") for error in refused)
