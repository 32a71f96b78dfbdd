"""Work that is done while the rounds go on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class BackgroundWriter:
    """One piece of work at a time, in a thread beside the rounds.

    What it raises is raised by the next call of :meth:`start` or :meth:`wait`, and at the end,
    unless the end has come because of something else.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "fedfuse-writer")
        self._work: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, once the one before is done."""
        self.wait()
        self._work = self._pool.submit(work)

    def wait(self) -> None:
        """Wait for what has been begun."""
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.wait()
