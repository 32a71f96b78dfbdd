"""Within one sweep, train the local baseline of a federation once and show it to every method.

Two runs of a sweep that differ only in how knowledge is fused have the same baseline, to the
bit. Nothing is reused across sweeps: between two of them the code may have changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from fedfuse.files import confined
from fedfuse.types import MetricRow, RoundRecord
from server.reporters.in_memory import InMemory


class Baselines(Protocol):
    """Where the runs of a sweep keep the baselines that they share."""

    def find(self, name: str) -> tuple[RoundRecord, ...] | None:
        """Return the rounds of a baseline, or None: then this run trains it."""
        ...

    def keep(self, name: str, records: Sequence[RoundRecord]) -> None:
        """Put down a finished baseline."""
        ...


@dataclass(frozen=True, slots=True)
class BaselineCache:
    """A folder of baselines, for runs one after the other or in several processes.

    Args:
        folder: Where they lie; made when the first is put down.
    """

    folder: Path

    def find(self, name: str) -> tuple[RoundRecord, ...] | None:
        """Return what is there."""
        return load(self.folder, name)

    def keep(self, name: str, records: Sequence[RoundRecord]) -> None:
        """Write it down."""
        save(self.folder, name, records)


class BaselineRecorder(InMemory):
    """A reporter that puts a baseline down as soon as its last round is done.

    Args:
        baselines: Where to.
        name: Its name.
        arm: The arm that it is in a run.
    """

    def __init__(self, baselines: Baselines, name: str, arm: str) -> None:
        super().__init__()
        self._baselines, self._name, self._arm = baselines, name, arm

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Remember the round; keep them all if it was the last."""
        super().round_done(arm, record)
        assert self.info is not None, "start comes first"
        if arm == self._arm and record.round == self.info.num_rounds:
            self._baselines.keep(self._name, self.records[arm])


def load(folder: Path, name: str) -> tuple[RoundRecord, ...] | None:
    """Return the rounds of the baseline ``name``, or None if nobody has trained it yet."""
    try:
        return _records(json.loads(confined.read(folder.parent, folder.name, f"{name}.json")))
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, RecursionError):  # damaged: trained anew
        return None


def _records(rounds: Sequence[dict[str, Any]]) -> tuple[RoundRecord, ...]:
    return tuple(
        RoundRecord(
            item["round"],
            tuple(MetricRow(*row) for row in item["metrics"]),
            weights=None,
            seconds=item["seconds"],
            right={
                test: torch.tensor(bits, dtype=torch.uint8) for test, bits in item["right"].items()
            }
            or None,
        )
        for item in rounds
    )


def save(folder: Path, name: str, records: Sequence[RoundRecord]) -> None:
    """Keep a finished baseline; floats survive JSON to the bit."""
    rounds = [
        {
            "round": record.round,
            "metrics": [list(asdict(row).values()) for row in record.metrics],
            "seconds": record.seconds,
            "right": {test: bits.tolist() for test, bits in (record.right or {}).items()},
        }
        for record in records
    ]
    temporary = f"{name}.{os.getpid()}.tmp"  # cells of a map save side by side
    with confined.opened(folder.parent, folder.name, make=True) as handle:
        with os.fdopen(confined.create(handle, temporary), "w", encoding="utf-8") as file:
            json.dump(rounds, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, f"{name}.json", src_dir_fd=handle, dst_dir_fd=handle)
