"""Work that is done while the rounds go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from types import TracebackType

WAITING = 96 * 2**20
"""Bytes that wait for the writer, and one piece more: of eight large models that is a GiB."""


class _Waiting(Queue[bytes | BaseException | None]):
    """Pieces that wait; it is full by their bytes, since one may be a thousand times another."""

    def _qsize(self) -> int:
        return sum(1 + len(each) if isinstance(each, bytes) else 1 for each in self.queue)


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

    def feed(self, pieces: Iterable[bytes], work: Callable[[Iterator[bytes]], None]) -> None:
        """Begin a piece of work on what is made here: return once all is made, not once it is done.

        Args:
            pieces: What is made; not more of it at once than the writer keeps up with.
            work: What is done with it. What making it raises, this is raised there too.
        """
        waiting = _Waiting(WAITING)

        def arriving() -> Iterator[bytes]:
            while (piece := waiting.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece

        self.start(lambda: work(arriving()))
        try:
            for piece in pieces:
                self._hand(waiting, piece)
        except BaseException as error:
            self._hand(waiting, error)
            raise
        self._hand(waiting, None)

    def _hand(self, waiting: _Waiting, piece: bytes | BaseException | None) -> None:
        """Let a piece wait for the writer, unless that has ended before its time."""
        assert self._work is not None
        while not self._work.done():
            try:
                return waiting.put(piece, timeout=0.1)
            except Full:
                continue
        return None

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
