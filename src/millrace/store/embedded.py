"""Rung 0: PostgreSQL from a wheel, started by us, kept in one folder.

The first process to open the folder owns the server: it starts it, or adopts one that outlived
its owner, keeps it running, and stops it at the end. Later processes attach and leave it running.
The server listens on a Unix socket in a folder that only its user may enter; TCP is off.
"""

import asyncio
import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
import threading
from pathlib import Path

from millrace.kernel.errors import MillraceError, SetupError
from millrace.kernel.hashing import fingerprint
from millrace.store.postmaster import Postmaster, wait_until
from millrace.store.programs import MAJOR, Programs, bundled
from millrace.store.types import SLOT_WAL_MIB_MAX

START_SECONDS_MAX = 180  # a server that crashed first replays up to a gigabyte of log
STOP_SECONDS_MAX = 30
WATCH_SECONDS = 0.5
RETRY_SECONDS = 5.0
HALF_SECONDS_MAX = 5.0
SOCKET_PATH_BYTES_MAX = 100  # Linux allows 107 for the whole name
SOCKET_PATH = re.compile(r"[\w./-]+", re.ASCII)  # what needs no quotes anywhere
FIRST_BYTES_MIN = 200 << 20  # a fresh cluster with its first log
LATER_BYTES_MIN = 48 << 20  # three segments of log
LOG_CHARACTERS_MAX = 1500
LOG_BYTES_MAX = 16 << 20

SETTINGS = """\
# Written by millrace at each start. Put your own settings into postgresql.conf, below the include.
listen_addresses = ''
port = 5432
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_slot_wal_keep_size = '{slot_wal_mib_max}MB'
hot_standby_feedback = on
shared_buffers = '128MB'
max_connections = 100
timezone = 'UTC'
log_timezone = 'UTC'
"""
# For tests only: a crash of the machine loses the folder. A commit still survives `kill -9`.
SETTINGS_NOT_DURABLE = """\
fsync = off
full_page_writes = off
max_wal_size = '128MB'
deadlock_timeout = '50ms'
"""

logger = logging.getLogger(__name__)


def default_data_dir() -> Path:
    """Return where the data lives when nobody says: the user's data folder, or /var/lib for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/millrace")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "millrace"


class EmbeddedServer:
    """One data folder with its server. Use `start` and `stop`, or `async with`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        slot_wal_mib_max: int = SLOT_WAL_MIB_MAX,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._slot_wal_mib_max = slot_wal_mib_max
        self._durable = durable
        self._cluster = self.data_dir / "postgres"
        self._log = self.data_dir / "postgres.log"
        self._sockets = _socket_dir(self.data_dir)
        self._postmaster = Postmaster(self._cluster, self._sockets)
        self._lock: int | None = None
        self._programs: Programs | None = None
        self._turn = threading.Lock()  # start, stop and restart take turns
        self._given_up = threading.Event()  # whoever waited for a start has left
        self._keeper: asyncio.Task[None] | None = None

    @property
    def conninfo(self) -> str:
        """Return the connection string of the running server."""
        return f"host={self._sockets} port=5432 user=postgres dbname=postgres"

    @property
    def owns(self) -> bool:
        """Say whether this process owns the server, and will stop it."""
        return self._lock is not None

    async def __aenter__(self) -> "EmbeddedServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Own or attach to the server; make the cluster on the first start.

        Where the folder, the disk or the server does not allow it, a SetupError says why.
        """
        started = False
        self._given_up.clear()
        try:
            await asyncio.to_thread(self._start)
            started = True
        finally:
            if not started:
                # Cancelled: the thread goes on and would leave a server behind. Wait and stop it.
                self._given_up.set()
                await asyncio.to_thread(self._stop)
        if self.owns:
            self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Stop the server if this process owns it; safe to call twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        await asyncio.to_thread(self._stop)

    async def _keep(self) -> None:
        """Start the server again when it dies; requests in between fail, the program does not."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._postmaster.pid() is not None:
                continue
            logger.warning("PostgreSQL in %s has died; starting it again", self.data_dir)
            try:
                await asyncio.to_thread(self._restart)
            except MillraceError as exc:
                logger.warning("PostgreSQL does not start: %s", exc)
                await asyncio.sleep(RETRY_SECONDS)

    def _start(self) -> None:
        with self._turn:
            lock = self._open_lock()
            try:
                owned = self._await_turn(lock)
            except BaseException:
                os.close(lock)
                raise
            if not owned:
                os.close(lock)
                return
            self._lock = lock
            try:
                self._prepare()
                self._launch()
            except BaseException:
                self._end()
                raise

    def _restart(self) -> None:
        with self._turn:
            if self._lock is not None:
                self._launch()

    def _stop(self) -> None:
        with self._turn:
            self._end()

    def _end(self) -> None:
        """Stop the server and give the folder back; each by its own number, never by a name."""
        if self._lock is None:
            return
        try:
            for mode in ("fast", "immediate"):
                if self._postmaster.pid() is None or self._programs is None:
                    break
                self._programs.run(
                    "pg_ctl", "-D", str(self._cluster), "-m", mode, "-w",
                    "-t", str(STOP_SECONDS_MAX), "stop",
                )  # fmt: skip
            # A server that was killed a moment ago still has children on their way out.
            if not self._postmaster.end_leftovers():
                logger.warning("PostgreSQL in %s could not be stopped", self.data_dir)
        finally:
            os.close(self._lock)
            self._lock = None

    def _open_lock(self) -> int:
        """Make the folder if need be, and open the file that says who owns it.

        Raises:
            SetupError: the folder is no folder, or it may not be written to.
        """
        try:
            for missing in reversed(
                [p for p in (self.data_dir, *self.data_dir.parents) if not p.exists()]
            ):
                missing.mkdir(exist_ok=True)
                if os.geteuid() == 0:
                    missing.chmod(0o755)  # the server's user must pass, whatever the umask
            return os.open(self.data_dir / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise SetupError(
                f"the data directory {self.data_dir} cannot be used: {exc.strerror}",
                field="store.data_dir",
                next_step="choose another with --data-dir, or mend its permissions",
            ) from exc

    def _await_turn(self, lock: int) -> bool:
        """Return True as the owner, or False once another owner's server is ready.

        Raises:
            SetupError: another process owns the folder, but its server does not come up.
        """
        owned = False

        def settled() -> bool:
            nonlocal owned
            if self._given_up.is_set():
                return True
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                owned = True
            except BlockingIOError:
                return self._postmaster.is_ready()
            return True

        if not wait_until(settled, START_SECONDS_MAX):
            raise SetupError(
                f"another process owns {self.data_dir}, but its server does not answer",
                limit=f"{START_SECONDS_MAX} s",
                next_step=f"wait for it, or end it; its log is {self._log}",
            )
        return owned

    def _prepare(self) -> None:
        """Check the folder and make the cluster where there is none."""
        self._programs = bundled()
        self._check_way(self._programs)
        for half in self.data_dir.glob("postgres.new*"):
            _remove_half(half)
        first = not (self._cluster / "PG_VERSION").exists()
        self._check_space(FIRST_BYTES_MIN if first else LATER_BYTES_MIN)
        if first:
            self._initialise(self._programs)
        else:
            self._check_cluster(self._programs)

    def _check_way(self, programs: Programs) -> None:
        """Refuse a folder that the server's user cannot enter.

        Raises:
            SetupError: names the closed folder and the user.
        """
        closed = programs.closed_to_user(self.data_dir)
        if closed is not None:
            name = "" if programs.user is None else programs.user.pw_name
            raise SetupError(
                f"the data directory {self.data_dir} cannot be used: {closed} is closed to the "
                f"user {name!r}, who runs the server for root",
                field="store.data_dir",
                next_step=f"choose another with --data-dir, or run: chmod o+x {closed}",
            )

    def _check_space(self, needed: int) -> None:
        """Refuse to start on a disk that is about to be full.

        Raises:
            SetupError: names what is free and what is needed.
        """
        free = shutil.disk_usage(self.data_dir).free
        if free < needed:
            raise SetupError(
                f"the disk of {self.data_dir} has {free >> 20} MiB free",
                field="store.data_dir",
                value=f"{free >> 20} MiB",
                limit=f"at least {needed >> 20} MiB",
                next_step="free some space, or choose another disk with --data-dir",
            )

    def _check_cluster(self, programs: Programs) -> None:
        """Refuse a cluster that this server or this user cannot open.

        Raises:
            SetupError: it was made by another major version or belongs to another user.
        """
        made_by = (
            (self._cluster / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
        )
        if made_by != MAJOR:
            raise SetupError(
                f"the data in {self._cluster} was made by PostgreSQL {made_by}",
                value=made_by,
                limit=MAJOR,
                next_step="dump it with that version, or set MILLRACE_STORE_PRIMARY to its server",
            )
        owner = self._cluster.stat().st_uid
        runner = os.geteuid() if programs.user is None else programs.user.pw_uid
        if owner != runner:
            raise SetupError(
                f"the data in {self._cluster} belongs to the user number {owner}",
                value=owner,
                limit=runner,
                next_step=f"run as that user, or as root: chown -R {runner} {self._cluster} {self._log}",
            )

    def _initialise(self, programs: Programs) -> None:
        """Make the cluster beside its place and move it there whole, so a kill leaves no half."""
        fresh = Path(tempfile.mkdtemp(dir=self.data_dir, prefix="postgres.new"))
        if programs.user is not None:
            os.chown(fresh, programs.user.pw_uid, programs.user.pw_gid)
        programs.call(
            "initdb", "-D", str(fresh), "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-instructions", *([] if self._durable else ["--no-sync"]),
            next_step=f"the data directory is {self.data_dir}",
        )  # fmt: skip
        with (fresh / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\ninclude_if_exists = 'millrace.conf'\n")
        fresh.rename(self._cluster)

    def _launch(self) -> None:
        """Start the server, or adopt the one that runs. Where it fails, say what its log says."""
        assert self._programs is not None, "_prepare() comes first"
        if self._postmaster.pid() is not None:
            if (
                not wait_until(self._is_settled, START_SECONDS_MAX)
                or not self._postmaster.is_ready()
            ):
                raise self._failed("the running server does not become ready")
            return
        self._postmaster.clear()
        self._write_settings()
        self._make_log(self._programs)
        self._make_socket_dir(self._programs)
        done = self._programs.run(
            "pg_ctl", "-D", str(self._cluster), "-l", str(self._log), "-w", "-t", str(START_SECONDS_MAX),
            "-o", f"-k {self._sockets} -c cluster_name={self._postmaster.mark}", "start",
        )  # fmt: skip
        if done.status != 0:
            raise self._failed("PostgreSQL does not start")

    def _is_settled(self) -> bool:
        return self._postmaster.is_ready() or self._postmaster.pid() is None

    def _failed(self, what: str) -> SetupError:
        try:
            log = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            log = f"(the log cannot be read: {exc.strerror})"
        return SetupError(
            f"{what}. The end of its log: {log[-LOG_CHARACTERS_MAX:].strip()}",
            next_step=f"see {self._log}; the data directory is {self.data_dir}",
        )

    def _write_settings(self) -> None:
        """Write our settings anew, so that an upgrade of the program brings its own."""
        text = SETTINGS.format(slot_wal_mib_max=self._slot_wal_mib_max)
        if not self._durable:
            text += SETTINGS_NOT_DURABLE
        file = self._cluster / "millrace.conf"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)

    def _make_log(self, programs: Programs) -> None:
        """Make the server's log, and put a long one aside; the folder is not the server's to write."""
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.rename(self._log.with_name(f"{self._log.name}.old"))
        self._log.touch()
        if programs.user is not None:
            os.chown(self._log, programs.user.pw_uid, programs.user.pw_gid)

    def _make_socket_dir(self, programs: Programs) -> None:
        """Make the folder of the socket; it may lie in /tmp, where others could have been first.

        Raises:
            SetupError: somebody else made it, or it cannot be made.
        """
        runner = os.geteuid() if programs.user is None else programs.user.pw_uid
        try:
            self._sockets.mkdir(mode=0o700, exist_ok=True)
            if programs.user is not None and self._sockets.lstat().st_uid == 0:
                os.chown(self._sockets, programs.user.pw_uid, programs.user.pw_gid)
            found = self._sockets.lstat()
        except OSError as exc:
            raise SetupError(
                f"the socket folder {self._sockets} cannot be made: {exc.strerror}",
                next_step="mend the permissions, or choose another folder with --data-dir",
            ) from exc
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != runner or found.st_mode & 0o077:
            raise SetupError(
                f"the socket folder {self._sockets} was made by somebody else",
                next_step="remove it, or choose a shorter path with --data-dir",
            )


def _socket_dir(data_dir: Path) -> Path:
    """Return a folder short and plain enough for a socket, the same in every process."""
    inside = data_dir / "socket"
    short = len(os.fsencode(inside)) <= SOCKET_PATH_BYTES_MAX - len("/.s.PGSQL.5432")
    if short and SOCKET_PATH.fullmatch(str(inside)):
        return inside
    return Path("/tmp") / f"millrace-{fingerprint(os.fsencode(inside))}"  # noqa: S108 - checked at use


def _remove_half(half: Path) -> None:
    """Remove what a kill in the middle of initdb left.

    The initdb may have outlived its program and still be writing there; it ends when it finds its
    files gone. What is left after the wait harms nobody, and the next start tries again.
    """

    def removed() -> bool:
        shutil.rmtree(half, ignore_errors=True)
        return not half.exists()

    if not wait_until(removed, HALF_SECONDS_MAX):
        logger.warning("the half-made cluster %s cannot be removed", half)
