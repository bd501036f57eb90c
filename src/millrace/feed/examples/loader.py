"""A background thread that makes batches while the one before is trained on.

A thread and not processes: tokens and the mapped files are there once, nothing is copied from one
process to another, and an error arrives as itself. Training spends its time in kernels that hold
no lock of Python's, so the two hardly wait for each other.
"""

from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition, Thread
from types import TracebackType
from typing import Generic, TypeVar

AHEAD = 4  # batches; more would only hold memory

T = TypeVar("T")


class Loader(Generic[T]):
    """Yields what is made for steps `start` to `end - 1`, in their order, made ahead of time.

    Use it as a context manager: leaving it ends the thread, whatever it is waiting for; what it is
    making is finished and dropped. An error of the thread comes out where its step would have come.
    """

    def __init__(self, make: Callable[[int], T], start: int, end: int, ahead: int = AHEAD) -> None:
        """Take what makes a step's batch; it is called by one thread, in order."""
        self._make = make
        self._steps = range(start, end)
        self._ahead = ahead
        self._made: deque[T] = deque()
        self._error: BaseException | None = None
        self._over = self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._work, name="millrace-loader", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Loader[T]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Return the next batch, as soon as it is made.

        Raises:
            StopIteration: there is none, or the loader was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._over or self._closing)
            if self._made:
                self._changed.notify_all()
                return self._made.popleft()
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    @property
    def ready(self) -> int:
        """Return how many batches wait to be taken; 0 all the time says that training waits."""
        return len(self._made)

    def close(self) -> None:
        """End the thread and forget what it made. A second time it does nothing."""
        with self._changed:
            self._closing = True
            self._made.clear()
            self._changed.notify_all()
        self._thread.join()
        self._error = None

    def _work(self) -> None:
        """Make batches until they are all made, one fails, or nobody wants more."""
        try:
            for step in self._steps:
                if not self._wanted() or not self._put(self._make(step)):
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who waits
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _wanted(self) -> bool:
        """Wait until there is room for one more; False when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or len(self._made) < self._ahead)
            return not self._closing

    def _put(self, made: T) -> bool:
        """Hand a batch over; False when nobody wants it any more."""
        with self._changed:
            if not self._closing:
                self._made.append(made)
                self._changed.notify_all()
            return not self._closing
