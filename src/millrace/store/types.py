"""Nouns of the store: configuration and positions in the log."""

from typing import Annotated

from msgspec import Meta, Struct

SLOT_WAL_MIB_MAX = 2048


class StoreConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach PostgreSQL. Everything has a default that runs on a laptop.

    primary: a connection string of PostgreSQL 15 or newer; empty means the embedded server.
    data_dir: where the embedded server keeps its data; empty means the user's own data folder.
    pool_size_max: connections per process.
    acquire_seconds_max: how long a request waits for a connection before it is refused.
    waiting_max: how many requests may wait for a connection before the next one is refused at once.
    statement_seconds_max: how long one statement may run.
    slot_wal_mib_max: how much log the embedded server keeps for a durable consumer that does not
        read; what would need more is given up, and the consumer begins anew.
    """

    primary: str = ""
    data_dir: str = ""
    pool_size_min: int = 2
    pool_size_max: int = 12
    acquire_seconds_max: float = 5.0
    waiting_max: int = 500
    statement_seconds_max: float = 30.0
    slot_wal_mib_max: Annotated[int, Meta(ge=64)] = SLOT_WAL_MIB_MAX


class Position(Struct, frozen=True, order=True):
    """A place in one cluster's log. Only positions of one cluster and timeline compare.

    lsn: bytes of log before this place, as PostgreSQL's LSN counts them.
    """

    cluster: str
    timeline: int
    lsn: int
