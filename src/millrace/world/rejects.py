"""Where rejected rows go: a JSON Lines file that appears whole, or not at all."""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import msgspec

from millrace.kernel.errors import SetupError
from millrace.world.types import Reject


class Rejects(Protocol):
    """Takes rejected rows."""

    def put(self, reject: Reject) -> None:
        """Keep one rejected row."""
        ...


class RejectsFile:
    """Writes `<path>.part` and renames it at the end.

    A run without rejects removes the file of an earlier run, so that what lies there always
    speaks of the last import that ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._part = path.with_name(path.name + ".part")
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            SetupError: it cannot be written.
        """
        try:
            self._file = self._part.open("wb")
        except OSError as exc:
            raise SetupError(
                f"the rejects file {self.path} cannot be written: {exc}",
                next_step="name another place with --rejects FILE",
            ) from exc
        return self

    def put(self, reject: Reject) -> None:
        """Write one rejected row as one line."""
        assert self._file is not None, "put() needs the open file"
        self._file.write(msgspec.json.encode(reject) + b"\n")
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        self._file.close()
        if self.count:
            self._part.replace(self.path)
        else:
            self._part.unlink(missing_ok=True)
            if error is None:
                self.path.unlink(missing_ok=True)


class RejectsList:
    """Keeps the rejected rows in memory: for few rows, as in tests and where there should be none."""

    def __init__(self) -> None:
        self.rows: list[Reject] = []

    def put(self, reject: Reject) -> None:
        """Keep one rejected row."""
        self.rows.append(reject)
