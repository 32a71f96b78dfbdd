"""Processes that end with us: start them, watch them, stop them and what they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from fedfuse.errors import FedfuseError

GRACE = 5.0
"""Seconds between asking a process to end and ending it."""


@dataclass(slots=True)
class Processes:
    """The processes of one deployment.

    Args:
        log: Where they all write.
        env: Their environment.
    """

    log: Path
    env: Mapping[str, str]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process; each in a session of its own, so that Ctrl-C reaches us alone."""
        with self.log.open("ab") as log, uninterrupted():
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own commands
                command,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a process, None while it runs."""
        return self._running[name].poll()

    def ended(self) -> dict[str, int]:
        """Return the processes that have ended, with their exit codes."""
        codes = {name: process.poll() for name, process in self._running.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def stop(self) -> None:
        """End every process and what it started, last first."""
        pids = [process.pid for process in self._running.values() if process.poll() is None]
        end(descendants(pids) | set(pids), (signal.SIGTERM, signal.SIGKILL))
        for process in self._running.values():
            process.poll()


def end(family: set[int], signs: Sequence[signal.Signals | None]) -> None:
    """End processes and what they start meanwhile.

    Args:
        family: Their ids.
        signs: What to send to those that are still there, one after the other, ``GRACE`` seconds
            apart; None only waits.
    """
    for sign in signs:
        if sign is not None:
            for pid in sorted(family, reverse=True):
                _signal(pid, sign)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            family |= descendants(family)
            family = {pid for pid in family if alive(pid)}
            if not family:
                return
            time.sleep(0.05)


def descendants(pids: Iterable[int]) -> set[int]:
    """Return the processes that these started, directly or not."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):  # skips those that end meanwhile
        children.setdefault(process.info["ppid"], []).append(process.pid)
    found: set[int] = set()
    new = list(pids)
    while new:
        new = [child for pid in new for child in children.get(pid, []) if child not in found]
        found.update(new)
    return found


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended but was not yet reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(pid: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(port: int) -> None:
    """Refuse a port that somebody uses.

    Raises:
        FedfuseError: If so.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise FedfuseError(
                f"Port {port} is in use or not allowed",
                got=error.strerror,
                next_step="Choose another with engine.port, or leave it out.",
            ) from error


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def uninterrupted(instead: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done.

    An interrupt between the fork of a process and the moment its id is known would leave it
    behind with nobody to end it.

    Args:
        instead: Called when the first one comes, to make the block come to its end; a second one
            is then not held back.
    """
    held: list[tuple[int, FrameType | None]] = []
    signs = (signal.SIGINT, signal.SIGTERM)

    def hold(*call: Any) -> None:
        held.append(call)
        if instead is None:
            return
        if len(held) > 1:
            raise KeyboardInterrupt
        instead()

    try:
        before = {sign: signal.signal(sign, hold) for sign in signs}
    except ValueError:  # not the main thread, which alone is interrupted
        yield
        return
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
        for number, frame in held[:1]:
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind this process as Ctrl-C does, so that it leaves no other behind."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread; its caller knows what to do
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
