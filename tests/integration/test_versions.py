"""Goal: a row's version never goes back, whatever is done to the row."""

from datetime import UTC, datetime

import psycopg

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOLLOW = "insert into follow values (1, 2, 1, 3, %s) returning system_version"


def test_version_survives_delete_and_insert(conninfo):
    """A key that is deleted and inserted again goes on counting."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        first = db.execute(FOLLOW, [NOW]).fetchone()[0]
        db.execute("update follow set created_at = now()")
        db.execute("delete from follow")
        again = db.execute(FOLLOW, [NOW]).fetchone()[0]

    assert first == 1
    assert again == 4  # insert 1, update 2, delete 3, insert 4
