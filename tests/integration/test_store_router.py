"""Goal: a token promises exactly what its bearer was given, and nothing else has any effect."""

import msgspec
import psycopg
import pytest

from millrace.store.embedded import EmbeddedServer
from millrace.store.pool import Pool
from millrace.store.programs import run_as, server_user
from millrace.store.queries import Query
from millrace.store.router import Router
from millrace.store.testing import SECRET, fresh_folder, opened
from millrace.store.tokens import sign, verify
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services

INSERT = Query(
    "test",
    "",
    "insert into community values (%(id)s, 'e' || %(id)s::text, 'n', '', 'en', '', now())",
)
COUNT = Query("test", "", "select count(*) from community")


async def insert(router: Router, number: int) -> str:
    """Write something; return the token of it."""
    async with router.write() as session:
        await session.run(INSERT, id=number)
    return await router.token()


async def test_tokens_rise_and_are_known_again(router):
    """Each commit moves the position; older tokens stay good."""
    tokens = [await insert(router, number) for number in range(1, 4)]
    found = [await router.position_of(token) for token in tokens]

    assert None not in found
    assert found == sorted(found)
    assert len(set(found)) == 3


async def test_a_read_with_a_token_sees_the_write(router):
    """At rung 0 every read does; the call is already that of the ladder."""
    token = await insert(router, 1)
    async with router.read(token) as session:
        assert await session.value(COUNT) == 1


async def test_foreign_and_impossible_positions_promise_nothing(router):
    """Signed by us, yet of another cluster or timeline, or of a future: an old backup, a lost disk."""
    now = verify(await insert(router, 1), SECRET)
    others = [
        msgspec.structs.replace(now, cluster=str(int(now.cluster) ^ 1)),
        msgspec.structs.replace(now, timeline=now.timeline + 1),
        msgspec.structs.replace(now, lsn=now.lsn + (1 << 40)),
        msgspec.structs.replace(now, lsn=(1 << 63) - 1),
    ]

    assert await router.position_of(sign(now, SECRET)) == now
    assert [await router.position_of(sign(other, SECRET)) for other in others] == [None] * 4


@pytest.mark.parametrize(
    "token",
    ["", "1", "\0", "\ud800", "1.1.1.1." + "0" * 32, "x" * 100_000, "'; drop table post; --"],
)
async def test_any_text_may_be_sent_as_a_token(router, token):
    """It is ignored: the reader only loses a promise that it never had."""
    async with router.read(token) as session:
        assert await session.value(COUNT) == 0
    assert await router.position_of(token) is None


async def test_another_installation_has_other_tokens(router, conninfo):
    """The secret tells them apart."""
    token = await insert(router, 1)
    pool = Pool(conninfo, StoreConfig(pool_size_min=1))
    await pool.open()
    stranger = Router(pool, b"the secret of somebody else, also 32")
    found = await stranger.position_of(token)
    await pool.close()

    assert found is None


async def test_after_a_promotion_old_tokens_promise_nothing():
    """A new timeline may lack what the old one had acknowledged; it is known at once, not at the
    next checkpoint."""
    with fresh_folder() as folder:
        async with (
            EmbeddedServer(folder, durable=False) as server,
            opened(server.conninfo) as router,
        ):
            before = await router.token()
        run_as(server_user(), ["touch", str(folder / "postgres" / "standby.signal")])
        async with EmbeddedServer(folder, durable=False) as server:
            async with await psycopg.AsyncConnection.connect(
                server.conninfo, autocommit=True
            ) as db:
                await db.execute("select pg_promote()")
            async with opened(server.conninfo) as router:
                old, new = (
                    await router.position_of(before),
                    await router.position_of(await router.token()),
                )

    assert old is None
    assert (verify(before, SECRET).timeline, new.timeline) == (1, 2)
