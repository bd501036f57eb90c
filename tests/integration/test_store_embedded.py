"""Goal: the embedded server survives whatever kills it, and leaves nothing running."""

import asyncio
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from millrace.kernel.errors import SetupError
from millrace.store import embedded, programs
from millrace.store.embedded import EmbeddedServer
from millrace.store.postmaster import Postmaster, wait_until
from millrace.store.testing import fresh_folder, sweep

pytestmark = pytest.mark.services
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
WAIT_SECONDS = 30

OWNER = """
import asyncio, os, sys
import encodings.idna, concurrent.futures.thread, multiprocessing, shutil, tempfile
from pathlib import Path
from millrace.store.embedded import EmbeddedServer
if len(sys.argv) > 2:  # become an ordinary user; Python itself may lie where only root may read
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
async def main():
    async with EmbeddedServer(Path(sys.argv[1]), durable=False) as server:
        print("owns" if server.owns else "attached", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture
def folder():
    """A data folder; whatever a test leaves running in it is ended, and counts as a failure."""
    with fresh_folder() as path:
        yield path / "data"
        left = postmaster(path / "data").pid()
        if left is not None:
            os.kill(left, signal.SIGQUIT)
            wait_until(lambda: postmaster(path / "data").pid() is None, WAIT_SECONDS)
    assert left is None, f"the server {left} was left running"


def made(folder: Path) -> EmbeddedServer:
    """A server whose data nobody keeps."""
    return EmbeddedServer(folder, durable=False)


def postmaster(folder: Path) -> Postmaster:
    """The server of the folder as the system shows it."""
    return made(folder)._postmaster


def pid_of(folder: Path) -> int:
    """The number of the running server."""
    found = postmaster(folder).pid()
    assert found is not None, "no server runs"
    return found


def ask(server: EmbeddedServer, statement: str) -> object:
    """The first value that a statement answers."""
    with psycopg.connect(server.conninfo, autocommit=True) as db:
        cursor = db.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def owner_process(folder: Path, *arguments: str) -> subprocess.Popen:
    """A program of its own that owns the folder until its input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    """Close the input of a program and wait for its end; return what it complained about."""
    said = process.communicate(timeout=WAIT_SECONDS)[1]
    assert process.returncode == 0, said
    return said


async def test_starts_serves_and_leaves_nothing(folder):
    """The default is a whole PostgreSQL that speaks logical replication, on no network."""
    async with made(folder) as server:
        assert server.owns
        assert ask(server, "show wal_level") == "logical"
        assert ask(server, "show listen_addresses") == ""
        assert ask(server, "show server_version").startswith("18")
        assert (folder / "socket").stat().st_mode & 0o077 == 0
        number = pid_of(folder)

    assert wait_until(lambda: not alive(number), WAIT_SECONDS)


def alive(number: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return bool(Path(f"/proc/{number}/cmdline").read_bytes())
    except OSError:
        return False


async def test_durable_by_default(folder):
    """Only tests trade safety for speed."""
    async with EmbeddedServer(folder) as server:
        settings = [
            ask(server, f"show {name}")
            for name in ("fsync", "full_page_writes", "synchronous_commit")
        ]

    assert settings == ["on", "on", "on"]


async def test_second_attaches_and_only_the_owner_stops(folder):
    """Two at once: one makes the cluster, the other waits for it."""
    one, two = made(folder), made(folder)
    await asyncio.gather(one.start(), two.start())
    owner, guest = (one, two) if one.owns else (two, one)
    assert not guest.owns

    await guest.stop()
    assert ask(owner, "select 1") == 1
    await owner.stop()
    await owner.stop()
    assert postmaster(folder).pid() is None


async def test_adopts_the_server_of_a_killed_program(folder):
    """kill -9 of the program: its server goes on and the next start takes it over."""
    program = owner_process(folder)
    assert program.stdout.readline().strip() == "owns"
    number = pid_of(folder)
    program.kill()
    program.communicate()

    assert alive(number)
    async with made(folder) as server:
        assert server.owns
        assert pid_of(folder) == number
        assert ask(server, "select 1") == 1


async def test_restarts_a_killed_server(folder):
    """kill -9 of the server: it is back by itself, and what was committed is there."""
    async with made(folder) as server:
        ask(server, "create table kept as select 42 as answer")
        before = pid_of(folder)
        os.kill(before, signal.SIGKILL)
        back = await asyncio.to_thread(
            wait_until,
            lambda: postmaster(folder).pid() != before and postmaster(folder).is_ready(),
            WAIT_SECONDS,
        )

        assert back
        assert ask(server, "select answer from kept") == 42


async def test_starts_after_program_and_server_were_killed(folder):
    """kill -9 of both: the pid file, the socket and its lock are stale."""
    program = owner_process(folder)
    assert program.stdout.readline().strip() == "owns"
    number = pid_of(folder)
    program.kill()
    os.kill(number, signal.SIGKILL)
    program.communicate()

    async with made(folder) as server:
        assert pid_of(folder) != number
        assert ask(server, "select 1") == 1


async def test_a_stale_pid_that_belongs_to_somebody_else(folder):
    """The number in the pid file now is a stranger's of the same user; the stranger is left alone."""
    async with made(folder):
        written = (folder / "postgres" / "postmaster.pid").read_text().split("\n")
    stranger = sleeper()
    try:
        stale(folder, stranger.pid, written)
        async with made(folder) as server:
            assert pid_of(folder) != stranger.pid
            assert ask(server, "select 1") == 1

        assert stranger.poll() is None, "the stranger was hit"
    finally:
        stranger.kill()
        stranger.wait()


def sleeper() -> subprocess.Popen:
    """A process of the server's user that has nothing to do with us."""
    user = programs.server_user()
    return subprocess.Popen(["sleep", "600"], user=None if user is None else user.pw_uid)


def stale(folder: Path, number: int, written: list[str]) -> None:
    """Leave what a crash leaves: a pid file, a socket and the socket's lock, all naming `number`."""
    text = "\n".join([str(number), *written[1:]])
    (folder / "postgres" / "postmaster.pid").write_text(text)
    (folder / "socket" / ".s.PGSQL.5432.lock").write_text(text)
    with socket.socket(socket.AF_UNIX) as heard:
        heard.bind(str(folder / "socket" / ".s.PGSQL.5432"))


async def test_starts_after_the_machine_was_restarted(folder):
    """The pid file is of an earlier boot: its number is ours now, and the socket's folder is gone."""
    async with made(folder):
        written = (folder / "postgres" / "postmaster.pid").read_text().split("\n")
    stale(folder, os.getpid(), written)
    shutil.rmtree(folder / "socket")

    async with made(folder) as server:
        assert ask(server, "select 1") == 1


async def test_starts_after_a_kill_in_the_middle_of_initdb(folder):
    """A half-made cluster is never taken for a whole one, and does not stay."""
    program = owner_process(folder)
    assert wait_until(lambda: any(folder.glob("postgres.new*/base")), WAIT_SECONDS)
    program.kill()
    program.communicate()

    async with made(folder) as server:
        assert ask(server, "select 1") == 1
        halves = list(folder.glob("postgres.new*"))
    assert halves == []


async def test_a_start_that_is_cancelled_leaves_no_server(folder):
    """Ctrl-C while the cluster is being made."""
    server = made(folder)
    starting = asyncio.create_task(server.start())
    assert await asyncio.to_thread(
        wait_until, lambda: any(folder.glob("postgres.new*")), WAIT_SECONDS
    )
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert not server.owns
    assert postmaster(folder).pid() is None


async def test_who_waits_for_another_owner_may_leave(folder):
    """Ctrl-C while another process has the folder and does not get ready."""
    folder.mkdir()
    lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    starting = asyncio.create_task(made(folder).start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(starting, 5)
    os.close(lock)


async def test_an_owner_that_never_gets_ready(folder, monkeypatch):
    """The wait is bounded, and says who is waited for."""
    monkeypatch.setattr(embedded, "START_SECONDS_MAX", 0.2)
    folder.mkdir()
    lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    error = await refusal(folder)
    os.close(lock)

    assert f"another process owns {folder}" in error.message


async def test_the_log_is_made_again_and_put_aside(folder, monkeypatch):
    """Somebody deletes it, or it grows: the server starts all the same."""
    async with made(folder):
        pass
    (folder / "postgres.log").unlink()
    async with made(folder) as server:
        assert ask(server, "select 1") == 1
    monkeypatch.setattr(embedded, "LOG_BYTES_MAX", 10)
    async with made(folder) as server:
        assert ask(server, "select 1") == 1

    assert "database system is ready" in (folder / "postgres.log.old").read_text()


async def test_the_servers_of_killed_test_runs_are_swept(folder):
    """Nothing runs for ever because a test run was killed."""
    program = owner_process(folder.parent)
    assert program.stdout.readline().strip() == "owns"
    number = postmaster(folder.parent).pid()
    await sweep()
    assert alive(number), "a living run was hit"
    program.kill()
    program.communicate()
    os.utime(folder.parent / "owner.lock", (1, 1))
    await sweep()

    assert not alive(number)
    assert not folder.parent.exists()


@pytest.mark.parametrize("name", ["with spaces, comma's and ünïcode", "l" * 120])
async def test_any_path_will_do(folder, name):
    """Sockets need short, plain names; data folders do not."""
    place = folder / name
    server = made(place)
    try:
        async with server:
            assert ask(server, "select 1") == 1
    finally:
        shutil.rmtree(server._sockets, ignore_errors=True)


@ROOT_ONLY
def test_runs_for_an_ordinary_user(folder):
    """No root, no system user, no useradd."""
    nobody = pwd.getpwnam("nobody")
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    program = owner_process(folder, str(nobody.pw_uid))
    said = program.stdout.readline().strip()
    assert said == "owns", program.stderr.read()
    runs_as = Path(f"/proc/{pid_of(folder)}").stat().st_uid
    finish(program)

    assert runs_as == nobody.pw_uid


@ROOT_ONLY
def test_an_ordinary_user_without_permission(folder):
    """The folder of somebody else is a clear error."""
    folder.mkdir()
    program = owner_process(folder, str(pwd.getpwnam("nobody").pw_uid))
    said = program.communicate(timeout=WAIT_SECONDS)[1]

    assert f"SetupError: the data directory {folder} cannot be used: Permission denied" in said


async def refusal(folder: Path) -> SetupError:
    """How a start is refused; nothing may run afterwards."""
    with pytest.raises(SetupError) as caught:
        await made(folder).start()
    assert caught.value.next_step
    return caught.value


async def test_a_file_is_no_data_directory(folder):
    """Neither is a folder below a file."""
    folder.write_text("not a folder")

    assert "cannot be used: Not a directory" in (await refusal(folder)).message
    assert "cannot be used: Not a directory" in (await refusal(folder / "below")).message


async def test_data_of_another_version(folder):
    """A cluster of PostgreSQL 16 is not opened, and not harmed."""
    async with made(folder):
        pass
    (folder / "postgres" / "PG_VERSION").write_text("16\n")
    error = await refusal(folder)

    assert "was made by PostgreSQL 16" in error.message
    assert (error.value, error.limit) == ("16", "18")


@ROOT_ONLY
async def test_data_of_another_user(folder):
    """A folder that another user made says whose it is."""
    async with made(folder):
        pass
    os.chown(folder / "postgres", 12345, 12345)
    error = await refusal(folder)

    assert "belongs to the user number 12345" in error.message


@ROOT_ONLY
async def test_a_closed_folder_on_the_way(folder):
    """Root may pass, the server's user may not: the closed folder is named."""
    folder.mkdir(mode=0o700)
    error = await refusal(folder / "inside")

    assert f"{folder} is closed to the user 'millrace'" in error.message
    assert f"chmod o+x {folder}" in error.next_step


async def test_too_little_disk(folder, monkeypatch):
    """A start that would fill the disk is refused before it writes."""
    monkeypatch.setattr(embedded, "FIRST_BYTES_MIN", 1 << 60)
    error = await refusal(folder)

    assert "MiB free" in error.message
    assert error.limit == f"at least {1 << 40} MiB"


@pytest.fixture
def tiny_disk(folder):
    """A disk of 20 MiB at the data folder."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def enlarge(disk: Path) -> None:
    """Make room."""
    subprocess.run(["mount", "-o", "remount,size=300m", str(disk)], check=True)


@ROOT_ONLY
async def test_a_disk_that_fills_up(tiny_disk, monkeypatch):
    """Full in the middle: an error, no half cluster, and it works once there is room."""
    assert "MiB free" in (await refusal(tiny_disk)).message
    monkeypatch.setattr(embedded, "FIRST_BYTES_MIN", 0)
    monkeypatch.setattr(embedded, "LATER_BYTES_MIN", 0)
    assert "No space left on device" in (await refusal(tiny_disk)).message
    assert not (tiny_disk / "postgres").exists()

    enlarge(tiny_disk)
    async with made(tiny_disk) as server:
        assert ask(server, "select 1") == 1


async def test_a_server_that_does_not_start_says_why(folder):
    """The end of the server's own log is in the message, and the folder is free again."""
    async with made(folder):
        pass
    settings = folder / "postgres" / "postgresql.conf"
    settings.write_text(settings.read_text() + "\nshared_buffers = 'a lot'\n")
    error = await refusal(folder)

    assert 'invalid value for parameter "shared_buffers"' in error.message
    assert not made(folder).owns


async def test_a_socket_folder_of_somebody_else(folder):
    """Where the folder of the socket was made by others, their server would be talked to."""
    async with made(folder):
        pass
    (folder / "socket").chmod(0o777)

    assert "was made by somebody else" in (await refusal(folder)).message


@ROOT_ONLY
def test_programs_under_a_closed_folder_are_copied_once(folder):
    """A virtual environment under /root is closed to the server's user."""
    closed = folder / "closed"
    install = closed / "install"
    (install / "bin").mkdir(parents=True)
    server = install / "bin" / "postgres"
    server.write_text("#!/bin/sh\necho postgres\n")
    server.chmod(0o700)
    (install / "share.txt").write_text("data")
    (install / "share.txt").chmod(0o600)
    closed.chmod(0o700)
    user = pwd.getpwnam("nobody")
    copies = folder / "copies"

    first = programs.reachable(install / "bin", user, copies)
    again = programs.reachable(install / "bin", user, copies)
    assert first == again != install / "bin"
    assert programs.run_as(user, [str(first / "postgres")]).said == "postgres"
    assert programs.run_as(user, ["cat", str(first.parent / "share.txt")]).said == "data"

    server.write_text("#!/bin/sh\necho a newer postgres\n")
    newer = programs.reachable(install / "bin", user, copies)
    assert programs.run_as(user, [str(newer / "postgres")]).said == "a newer postgres"
    assert [p for p in copies.iterdir() if p.name.startswith(".part-")] == []

    closed.chmod(0o755)
    server.chmod(0o755)
    assert programs.reachable(install / "bin", user, copies) == install / "bin"
