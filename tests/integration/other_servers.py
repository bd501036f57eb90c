"""PostgreSQL as others run it: Debian's version 15, with passwords and plain roles."""

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from millrace.store.programs import Programs, server_user
from millrace.store.testing import fresh_folder

DEBIAN = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "a-very-secret-word"


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def debian_15(*, settings: str = ""):
    """PostgreSQL 15 of Debian on TCP, where every role needs a password."""
    programs = Programs(DEBIAN, server_user())
    with fresh_folder() as folder:
        if programs.user is not None:
            os.chown(folder, programs.user.pw_uid, programs.user.pw_gid)
        cluster, port = folder / "cluster", free_port()
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        programs.call(
            "initdb", "-D", str(cluster), "-U", "postgres", "-A", "scram-sha-256", "--no-sync",
            f"--pwfile={secret}", "-E", "UTF8", "--locale=C.UTF-8", next_step="",
        )  # fmt: skip
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -k {folder} -c fsync=off {settings}"
        )
        programs.call(
            "pg_ctl", "-D", str(cluster), "-w", "-l", str(folder / "log"), "-o", options, "start",
            next_step="",
        )  # fmt: skip
        try:
            yield f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            programs.call(
                "pg_ctl", "-D", str(cluster), "-m", "immediate", "-w", "stop", next_step=""
            )


def owned_by(superuser: str, role: str) -> str:
    """Make a plain role with a database of its own; return its address."""
    with psycopg.connect(superuser, autocommit=True) as db:
        name = sql.Identifier(role)
        db.execute(sql.SQL("create role {} login password {}").format(name, sql.Literal(PASSWORD)))
        db.execute(sql.SQL("create database {} owner {}").format(name, name))
    return psycopg.conninfo.make_conninfo(superuser, user=role, dbname=role, password=PASSWORD)
