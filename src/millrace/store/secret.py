"""The installation's one secret: it signs consistency tokens and cursors.

It is a file in the data directory that only its owner may read, or MILLRACE_SECRET where several
machines serve one community. Losing it is no disaster: tokens and cursors that are still out
there are ignored, and the members read on.
"""

import os
import secrets
import tempfile
from pathlib import Path

from millrace.kernel.errors import SetupError

FILE_NAME = "secret"
BYTES = 32


def secret_of(data_dir: Path, given: str = "") -> bytes:
    """Return the secret: `given` where it is set, else that of the file, made on first use.

    Args:
        data_dir: the folder of the installation; made where it is missing.
        given: MILLRACE_SECRET, 64 or more hexadecimal characters; empty means the file.

    Raises:
        SetupError: `given` is not hexadecimal or too short, or the file cannot be used.
    """
    if given:
        return _decoded(given, "MILLRACE_SECRET", "make one with: openssl rand -hex 32")
    file = data_dir / FILE_NAME
    try:
        if not file.exists():
            _create(file)
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(
            f"the secret file {file} cannot be used: {exc}",
            next_step="mend its permissions, or set MILLRACE_SECRET",
        ) from exc
    return _decoded(text, str(file), f"remove {file}; a new one is made at the next start")


def _create(file: Path) -> None:
    """Write a new secret beside its place and link it there: whoever comes second finds it whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{FILE_NAME}.", dir=file.parent)  # for its owner only
    part = Path(name)
    with os.fdopen(handle, "w", encoding="ascii") as out:
        out.write(secrets.token_hex(BYTES) + "\n")
    try:
        os.link(part, file)
    except FileExistsError:
        pass  # another process was faster; its secret is as good
    finally:
        part.unlink()


def _decoded(text: str, where: str, next_step: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) < BYTES:
        raise SetupError(
            f"{where} does not hold a secret",
            limit=f"at least {BYTES} bytes as {2 * BYTES} hexadecimal characters",
            next_step=next_step,
        )
    return found
