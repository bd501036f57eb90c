"""Goal: a row's version never goes back, whatever is done to the row."""

import threading
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import errors

pytestmark = pytest.mark.services

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOLLOW = "insert into follow values (1, 2, 1, 3, %s) returning system_version"
VERSIONED = {
    "community", "nearby", "member", "post", "post_counter", "member_counter", "comment",
    "reaction", "follow", "block", "mute", "moderation_case",
}  # fmt: skip


def test_version_survives_delete_and_insert(conninfo):
    """A key that is deleted and inserted again goes on counting."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        first = db.execute(FOLLOW, [NOW]).fetchone()[0]
        db.execute("update follow set created_at = now()")
        db.execute("delete from follow")
        again = db.execute(FOLLOW, [NOW]).fetchone()[0]

    assert first == 1
    assert again == 4  # insert 1, update 2, delete 3, insert 4


def test_every_table_with_a_version_has_all_its_triggers(conninfo):
    """A table that a later migration adds cannot forget one; its key begins with the shard key."""
    with psycopg.connect(conninfo) as db:
        tables = db.execute(
            "select table_name from information_schema.columns"
            " where column_name = 'system_version' and table_name <> 'tombstone'"
        ).fetchall()
        triggers = db.execute(
            "select tgrelid::regclass::text, array_agg(tgname::text order by tgname)"
            "  from pg_trigger where tgname in"
            " ('keep_key', 'keep_rows', 'raise_version', 'verify_version') group by 1"
        ).fetchall()
        first_of_key = db.execute(
            "select c.relname, a.attname from pg_index i"
            "  join pg_class c on c.oid = i.indrelid"
            "  join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]"
            " where i.indisprimary and c.relnamespace = 'public'::regnamespace"
        ).fetchall()

    assert {name for (name,) in tables} == VERSIONED
    needed = ["keep_key", "keep_rows", "raise_version", "verify_version"]
    assert {name: dict(triggers)[name] for name in VERSIONED} == dict.fromkeys(VERSIONED, needed)
    assert {name for name, column in first_of_key if column == "community_id"} >= VERSIONED


def test_ids_are_not_made_by_the_database(conninfo):
    """A sequence would tie a community to its shard."""
    with psycopg.connect(conninfo) as db:
        found = db.execute("select count(*) from pg_sequences").fetchone()[0]

    assert found == 0


def test_a_version_cannot_be_chosen(conninfo):
    """What a writer says about the version is not listened to."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        chosen = db.execute(
            "insert into mute values (1, 2, 1, 3, %s, 99) returning system_version", [NOW]
        )
        assert chosen.fetchone()[0] == 1
        raised = db.execute("update mute set system_version = -5 returning system_version")
        assert raised.fetchone()[0] == 2


def test_an_upsert_counts_like_what_it_does(conninfo):
    """On conflict, the insert's trigger runs too; only the update counts."""
    upsert = FOLLOW.replace(
        " returning", " on conflict (community_id, member_id, target_community_id, target_id)"
        " do update set created_at = excluded.created_at returning"
    )  # fmt: skip
    with psycopg.connect(conninfo, autocommit=True) as db:
        versions = [db.execute(upsert, [NOW]).fetchone()[0] for _ in range(3)]
        db.execute("delete from follow")
        versions += [db.execute(upsert, [NOW]).fetchone()[0] for _ in range(2)]

    assert versions == [1, 2, 3, 5, 6]


@pytest.mark.parametrize(
    "statement",
    [
        "truncate follow",
        "truncate member cascade",
        "update follow set target_id = 9",
        "update follow set community_id = 9",
    ],
)
def test_what_would_forget_is_refused(conninfo, statement):
    """TRUNCATE fires no row trigger, and a changed key would be born anew."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute(FOLLOW, [NOW])
        with pytest.raises(errors.FeatureNotSupported, match="would forget versions"):
            db.execute(statement)
        assert db.execute("select target_id from follow").fetchall() == [(3,)]


def test_an_insert_needs_read_committed(conninfo):
    """With an older snapshot the second look would be blind."""
    with psycopg.connect(conninfo) as db:
        db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(errors.InvalidTransactionState, match="READ COMMITTED"):
            db.execute(FOLLOW, [NOW])


def waits_for_lock(conninfo: str, waiting: int) -> bool:
    """Whether a connection stands before a lock, looked up from a third one, within bounds."""
    statement = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
    with psycopg.connect(conninfo, autocommit=True) as db:
        for _ in range(2000):
            if db.execute(statement, [waiting]).fetchone()[0]:
                return True
            db.execute("select pg_sleep(0.005)")
    return False


def overtaking(conninfo: str) -> object:
    """Insert a key while its delete is in flight; return the version or the error of the insert."""
    answers: list[object] = []
    with psycopg.connect(conninfo) as deleter, psycopg.connect(conninfo) as inserter:
        deleter.execute("delete from follow")

        def insert() -> None:
            try:
                answers.append(inserter.execute(FOLLOW, [NOW]).fetchone()[0])
                inserter.commit()
            except errors.SerializationFailure as exc:
                answers.append(exc)
                inserter.rollback()

        thread = threading.Thread(target=insert)
        thread.start()
        assert waits_for_lock(conninfo, inserter.info.backend_pid)
        deleter.commit()
        thread.join(30)
    return answers[0]


def test_an_insert_that_overtakes_a_delete_is_refused(conninfo):
    """The first look found no memory of the key, because the delete had not committed yet."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute(FOLLOW, [NOW])
        db.execute("update follow set created_at = now()")
        answer = overtaking(conninfo)
        again = db.execute(FOLLOW, [NOW]).fetchone()[0]

    assert isinstance(answer, errors.SerializationFailure)
    assert again == 4


def test_without_the_second_look_the_version_would_start_again(conninfo):
    """The race is real: this is why verify_version exists."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute(FOLLOW, [NOW])
        db.execute("update follow set created_at = now()")
        db.execute("drop trigger verify_version on follow")
        answer = overtaking(conninfo)

    assert answer == 1


def test_an_insert_that_overtakes_a_rolled_back_delete(conninfo):
    """The delete never was: the key is still there."""
    with psycopg.connect(conninfo) as deleter, psycopg.connect(conninfo) as inserter:
        inserter.execute(FOLLOW, [NOW])
        inserter.commit()
        deleter.execute("delete from follow")
        refused = []

        def insert() -> None:
            try:
                inserter.execute(FOLLOW, [NOW])
            except errors.UniqueViolation as exc:
                refused.append(exc)

        thread = threading.Thread(target=insert)
        thread.start()
        assert waits_for_lock(conninfo, inserter.info.backend_pid)
        deleter.rollback()
        thread.join(30)
        inserter.rollback()

        assert len(refused) == 1
        assert (
            inserter.execute(
                "update follow set created_at = now() returning system_version"
            ).fetchone()[0]
            == 2
        )
        assert inserter.execute("select count(*) from tombstone").fetchone()[0] == 0
