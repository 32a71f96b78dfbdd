"""The folder of a run: every file appears whole or not at all, also after a power cut."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from fedfuse.errors import FedfuseError
from fedfuse.files import confined
from server.records import durable

FORMAT = 1
"""The layout of a run folder; a reader refuses a higher one."""

SUFFIXES = frozenset(
    {".json", ".jsonl", ".yaml", ".parquet", ".safetensors", ".txt", ".log", ".tmp", ".f32"}
)
"""What the files of a run end in."""

CHECKPOINTS = "checkpoint"
"""The folder of a run's checkpoints, within the run folder."""

MODELS = "models"
"""The folder of the clients' models, within the run folder."""


class RunFolder:
    """What one run leaves on disk.

    Nothing is written before :meth:`open`; afterwards ``run.json`` says at any moment whether the
    run is running, finished or failed.

    Args:
        path: Where; a folder that does not exist yet, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rounds = 0
        """Rounds whose metrics are on disk."""
        self.resumed = False
        """Whether an earlier process began the run."""
        self._record: dict[str, Any] = {}
        self._held: int | None = None
        self._begun = 0.0

    def open(self, **facts: Any) -> None:
        """Create the folder and its ``run.json``, with ``facts`` about the run.

        Raises:
            FedfuseError: If the folder holds anything already, or cannot be written.
        """
        self._begun = monotonic()
        self._record = {"format": FORMAT, "status": "running", "started": now(), **facts}
        try:
            durable.make_folder(self.path)
            if any(self.path.iterdir()):
                raise FileExistsError
            # Exclusive, so that of two runs started at the same moment one is refused.
            (self.path / "run.json").touch(exist_ok=False)
            self._lock()
        except FileExistsError:
            raise FedfuseError(
                f"the run folder '{self.path}' is not empty, and no run is ever overwritten.",
                next_step="Choose another folder, or move this one away.",
            ) from None
        except OSError as error:
            raise FedfuseError(
                f"the run folder '{self.path}' cannot be written: {error.strerror}.",
                next_step="Choose another one with hydra.run.dir=FOLDER.",
            ) from error
        self._write_record()

    def take(self) -> Mapping[str, Any]:
        """Hold a run that was begun, and return its ``run.json`` as it is from now on.

        Nothing is written. Only who holds the folder knows how the run stands: before, another
        process may still bring it to its end.

        Raises:
            FedfuseError: If it is no run folder, its run is still running, or something in it
                leads elsewhere.
        """
        if not self.path.is_dir():
            raise FedfuseError(
                f"there is no run folder '{self.path}'.",
                next_step="Name the folder that fedfuse printed at the end of a run or of a sweep.",
            )
        try:
            self._lock()
            confined.check_plain(self.path)
            for place in self.path.iterdir():
                if place.suffix in SUFFIXES and place.is_dir():
                    raise FedfuseError(
                        f"'{place}' is a folder where a file should be.", next_step="Remove it."
                    )
            self._record = confined.read_json(self.path, "run.json")
            str(self._record["status"])
        except (OSError, ValueError, KeyError) as error:
            self.release()
            raise FedfuseError(
                f"'{self.path}' is not the folder of a run that can go on.",
                next_step="Name the folder that the run printed; it holds a run.json.",
            ) from error
        except FedfuseError:
            self.release()
            raise
        return self._record

    def reopen(self) -> None:
        """Go on with a run that was broken off and is held; nothing that it wrote is lost.

        Raises:
            FedfuseError: If the folder cannot be written.
        """
        self._begun = monotonic()
        before = self._record.get("resumed")
        self._record.pop("error", None)
        self._record["status"] = "running"
        self._record["resumed"] = [*(before if isinstance(before, list) else []), now()]
        self.resumed = True
        events = self.path / "events.jsonl"
        try:
            if events.exists() and not events.read_bytes().endswith(b"\n"):
                with events.open("a", encoding="utf-8") as file:
                    file.write("\n")  # the last line was torn
            self._write_record()
            self.event("resume")
        except OSError as error:
            self.release()
            raise FedfuseError(
                f"the run folder '{self.path}' cannot be written: {error.strerror}.",
                next_step="Make it writable, or copy it to where you may write.",
            ) from error

    def release(self) -> None:
        """Let go of the folder."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def overrides(self) -> list[str]:
        """Return the command line that began the run."""
        lines = self._record.get("overrides", [])
        return [str(line) for line in lines] if isinstance(lines, list) else []

    def rounds_told(self) -> set[tuple[str, int]]:
        """Return the rounds, as arm and number, that the events tell of already."""
        rounds_told = set()
        if self.resumed and (self.path / "events.jsonl").exists():
            text = (self.path / "events.jsonl").read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    event = json.loads(line)
                    if event["event"] == "round":
                        rounds_told.add((event["arm"], event["round"]))
        return rounds_told

    def _lock(self) -> None:
        """Hold the folder as long as this process lives, however it ends."""
        self._held = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise FedfuseError(
                f"the run in '{self.path}' is still running.",
                next_step="Wait for it, or end it first.",
            ) from error

    def record(self, **facts: Any) -> None:
        """Add facts to ``run.json``: device, data fingerprint, conventions, ..."""
        self._record.update(facts)
        self._write_record()

    def write_config(self, text: str) -> None:
        """Write the resolved configuration, already as YAML."""
        with self.replacing("config.yaml") as file:
            file.write_text(text, encoding="utf-8")

    def write_models(self, about: Mapping[str, Any], content: bytes) -> None:
        """Write the models of some clients: ``models/ID.safetensors``, and what they are.

        The local twin of a client that has one is ``models/ID.local.safetensors``.

        Args:
            about: What it takes to build and use them.
            content: Their weights and buffers, as safetensors ``ID/model/NAME``, those of twins
                ``ID/twin/model/NAME``; empty for none.
        """
        from safetensors.torch import load, save

        states: dict[str, dict[str, Any]] = {}
        for name, value in load(content).items() if content else ():
            owner, _, key = name.partition("/model/")
            client_id, _, twin = owner.partition("/")
            states.setdefault(f"{int(client_id)}{'.local' if twin else ''}", {})[key] = value
        text = json.dumps(plain({"format": FORMAT, **about}), ensure_ascii=False, indent=1)
        files = {f"{owner}.safetensors": save(state) for owner, state in states.items()}
        with confined.opened(self.path, MODELS, make=True) as handle:
            for name, content in {"models.json": text.encode(), **files}.items():
                with os.fdopen(confined.create(handle, name), "wb") as file:
                    file.write(content)

    def write_preview(self, text: str) -> None:
        """Write the label counts of every client as text."""
        with self.replacing("partition.txt") as file:
            file.write_text(text + "\n", encoding="utf-8")

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to ``events.jsonl``."""
        line = json.dumps(plain({"time": now(), "event": kind, **fields}), ensure_ascii=False)
        events = self.path / "events.jsonl"
        with events.open("a", encoding="utf-8", errors=_ESCAPED) as file:
            file.write(line + "\n")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, mark the run finished, and only then forget the checkpoints.

        All that the run leaves is on disk before ``run.json`` says that it has finished, and that
        is on disk before the first checkpoint goes.
        """
        self._write_json("summary.json", summary)
        self._end("finished")
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)

    def fail(self, error: str) -> None:
        """Mark the run failed; what it measured stays."""
        self._end("failed", error=error)

    def discard(self) -> None:
        """Remove a folder whose run never measured anything."""
        if self.path.is_dir():  # it was empty when it was opened, so all in it is this run's
            shutil.rmtree(self.path)

    def clear(self) -> None:
        """Remove what a run that was broken off left, so that it can begin anew.

        Raises:
            FedfuseError: If somebody goes on with it, or has brought it to its end, meanwhile.
        """
        self._lock()
        try:
            with suppress(OSError, ValueError):
                if confined.read_json(self.path, "run.json").get("status") == "finished":
                    raise FedfuseError(
                        f"the run in '{self.path}' has finished meanwhile.",
                        next_step="Start the same command again; finished runs are kept.",
                    )
            # Its record goes last: without it the rest would be taken for somebody else's.
            for place in sorted(self.path.iterdir(), key=lambda place: place.name == "run.json"):
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            self.path.rmdir()
        finally:
            self.release()

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path that becomes ``name`` when the block succeeds."""
        temporary = self.path / f".{name}.tmp"
        temporary.unlink(missing_ok=True)  # what was left there may be a link
        try:
            yield temporary
            durable.sync_file(temporary)  # or the new name might come to an empty file
            temporary.replace(self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def _end(self, status: str, **fields: Any) -> None:
        seconds = round(monotonic() - self._begun, 3)
        self.event(status, seconds=seconds, **fields)
        durable.sync_tree(self.path, besides=[CHECKPOINTS])
        self.record(status=status, seconds=seconds, **fields)
        durable.sync_folder(self.path)
        self.release()

    def _write_record(self) -> None:
        self._write_json("run.json", self._record)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with self.replacing(name) as file:
            text = json.dumps(plain(content), indent=2, ensure_ascii=False)
            file.write_text(text + "\n", encoding="utf-8", errors=_ESCAPED)


_ESCAPED = "backslashreplace"
"""A byte of a file name that is no UTF-8 becomes its escape in JSON, and is read back as it was."""


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; numbers that are not finite become null.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def now() -> str:
    """Return the time, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
