"""The whole community data as ordered rows, to compare one import with another."""

import hashlib
import json
from pathlib import Path

import psycopg
from psycopg import sql

TABLES = (
    "community",
    "nearby",
    "member",
    "post",
    "post_counter",
    "member_counter",
    "comment",
    "reaction",
    "follow",
    "block",
    "mute",
    "impression",
    "engagement",
    "tombstone",
)
# When a row was written is no part of what it says. Percentiles move with time, so they are not
# compared.
WRITTEN_AT = {"nearby": "created_at", "tombstone": "deleted_at"}


def state(conninfo):
    """Return a hash of the ordered rows of each table, versions included, and their number."""
    found = {}
    with psycopg.connect(conninfo) as db:
        for table in TABLES:
            query = sql.SQL("select (to_jsonb(t) - {})::text from {} t order by 1").format(
                WRITTEN_AT.get(table, ""), sql.Identifier(table)
            )
            rows = [row[0] for row in db.execute(query)]
            found[table] = (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
    return found


def counts(conninfo):
    """Return how many rows each table has, without the empty ones."""
    return {table: number for table, (number, _) in state(conninfo).items() if number}


def write_lines(folder, noun, *rows):
    """Write one JSON Lines file; a row that is bytes goes in as it is."""
    Path(folder).mkdir(exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (Path(folder) / f"{noun}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
