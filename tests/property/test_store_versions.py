"""Goal: for every key of every table, each committed write has a higher version than all before.

Sequences are generated; two connections take part. In the first test they take turns and a model
says the exact version. In the second they run at once and only what was promised is checked.
"""

import asyncio
import itertools
from collections import defaultdict

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, errors

pytestmark = pytest.mark.services

# Per table: the columns and values of an insert, what an update sets, the key after community_id.
ROWS = {
    "post": ("external_id, author_id, text, created_at", "'x' || %(k)s::text, 100, 't', now()", "text = text || 'x'", "post_id"),
    "member": (
        "external_id, handle, display_name, joined_at", "'x' || %(k)s::text, 'x' || %(k)s::text, 'x', now()", "about = 'x'", "member_id",
    ),
    "comment": (
        "external_id, author_id, post_community_id, post_id, text, created_at", "'x' || %(k)s::text, 100, 1, 1, 't', now()",
        "text = 'x'", "comment_id",
    ),
    "follow": (
        "member_id, target_community_id, created_at", "100, 7, now()", "created_at = now()", "target_id",
    ),
    "block": ("member_id, target_community_id, created_at", "100, 7, now()", "created_at = now()", "target_id"),
    "mute": ("member_id, target_community_id, created_at", "100, 7, now()", "created_at = now()", "target_id"),
    "reaction": (
        "member_id, post_community_id, kind, created_at", "100, 7, 'like', now()", "created_at = now()", "post_id",
    ),
    "post_counter": ("views", "1", "views = views + 1", "post_id"),
    "member_counter": ("views", "1", "views = views + 1", "member_id"),
    "nearby": ("created_at", "now()", "created_at = now()", "neighbour_id"),
}  # fmt: skip
OPERATIONS = ("insert", "update", "delete")
keys = st.tuples(st.sampled_from(sorted(ROWS)), st.integers(1, 2))
operations = st.tuples(st.sampled_from(OPERATIONS), keys)
# Few keys, so that the two connections meet.
meeting = st.sampled_from(sorted(ROWS)).flatmap(
    lambda table: st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["insert", "delete", "delete", "update"]), st.just((table, 1))
            ),
            min_size=1,
            max_size=2,
        ),
        min_size=5,
        max_size=20,
    )
)
transactions = st.tuples(st.lists(operations, min_size=1, max_size=4), st.booleans())
communities = itertools.count(1)

PROPERTY = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def statement(operation: str, table: str) -> str:
    """The SQL of one write; it answers with the version that the write gave the key."""
    columns, values, change, key = ROWS[table]
    where = f"where community_id = %(c)s and {key} = %(k)s"
    if operation == "insert":
        return (
            f"insert into {table} (community_id, {key}, {columns})"
            f" values (%(c)s, %(k)s, {values}) returning system_version"
        )
    if operation == "update":
        return f"update {table} set {change} {where} returning system_version"
    return f"delete from {table} {where} returning system_version + 1"


def write(db: psycopg.Connection, operation: str, table: str, params: dict[str, int]) -> int | None:
    """Do one write; return the key's new version, or None where there was nothing to do."""
    line = db.execute(statement(operation, table), params).fetchone()
    return None if line is None else line[0]


def prepare(db: psycopg.Connection, community: int) -> None:
    """The author that posts and comments refer to."""
    params = {"c": community, "k": 100}
    write(db, "insert", "member", params)
    db.commit()


@given(steps=st.lists(st.tuples(st.booleans(), transactions), max_size=12))
@PROPERTY
def test_versions_follow_the_model(conninfo, steps):
    """Two connections take turns; some transactions are rolled back."""
    community = next(communities)
    alive: set[tuple[str, int]] = set()
    versions: dict[tuple[str, int], int] = defaultdict(int)
    with psycopg.connect(conninfo) as one, psycopg.connect(conninfo) as two:
        prepare(one, community)
        for second, (writes, commits) in steps:
            db = two if second else one
            before = (set(alive), dict(versions))
            for operation, key in writes:
                if (operation == "insert") == (key in alive):
                    continue  # a second insert, or a change of what is not there
                got = write(db, operation, key[0], {"c": community, "k": key[1]})
                versions[key] += 1
                assert got == versions[key], f"{operation} {key}"
                (alive.discard if operation == "delete" else alive.add)(key)
            if commits:
                db.commit()
            else:
                db.rollback()
                alive, versions = before[0], defaultdict(int, before[1])


class History:
    """What two concurrent connections were told, and whether it keeps the promise."""

    def __init__(self) -> None:
        self.acknowledged: dict[object, int] = defaultdict(int)
        self.given: dict[object, list[int]] = defaultdict(list)

    async def transact(self, db: AsyncConnection, community: int, writes: list) -> None:
        """Run one transaction; a lost one leaves no trace."""
        told = []
        try:
            for operation, (table, number) in writes:
                floor = self.acknowledged[table, number]
                cursor = await db.execute(
                    statement(operation, table), {"c": community, "k": number}
                )
                line = await cursor.fetchone()
                if line is not None:
                    told.append(((table, number), line[0], floor))
            await db.commit()
        except (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation):
            await db.rollback()
            return
        for key, version, floor in told:
            assert version > floor, f"{key} went from {floor} to {version}"
            assert version not in self.given[key], f"{key} had {version} twice"
            self.given[key].append(version)
            self.acknowledged[key] = max(self.acknowledged[key], version)


@given(plan=meeting)
@PROPERTY
def test_versions_rise_under_concurrency(conninfo, plan):
    """Two connections at once: no version twice, none below one that was acknowledged before."""
    community = next(communities)
    history = History()

    async def run(writes_in_order: list) -> None:
        async with await AsyncConnection.connect(conninfo) as db:
            for writes in writes_in_order:
                await history.transact(db, community, writes)

    async def both() -> None:
        await asyncio.gather(run(plan), run(plan[::-1]))

    with psycopg.connect(conninfo) as db:
        prepare(db, community)
    asyncio.run(both())
