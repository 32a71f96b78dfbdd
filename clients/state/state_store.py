"""Where clients' states wait between two messages: in the process, the node's Context or on disk.

Flower promises no affinity between a node and a process, so with more than one process a state
has to outlive the process that trained it. Every saved version of a state has a token of its own;
the node's Context says which token counts. A process keeps what it trained, and may go on with it
as long as the token is still the one that counts; and of a message that was lost half-way (its
process was killed) nothing counts, because the Context it would have changed was lost with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from clients.state.serialisation import as_file
from fedfuse.errors import FedfuseError, require
from fedfuse.files.state_files import state_path

LEDGER = "fedfuse.states"


class Place(Protocol):
    """The states of one node's clients during one message."""

    def token(self, client_id: int) -> int:
        """Return the token of the version that counts; 0 if there is none yet."""
        ...

    def read(self, client_id: int) -> dict[str, Tensor]:
        """Return the version that counts."""
        ...

    def write(self, client_id: int, tensors: dict[str, Tensor]) -> int:
        """Keep a new version and return its token."""
        ...

    def forget(self, client_id: int) -> None:
        """Let no version count any more, until another is written."""
        ...

    def commit(self) -> None:
        """Let the new versions count; the message is done."""
        ...


@dataclass(frozen=True, slots=True)
class StatePlan:
    """Where states wait.

    Args:
        where: ``live`` (only in the process that made them), ``context`` or ``disk``.
        folder: For ``disk``: a folder that every process of the run reaches.
    """

    where: str = "live"
    folder: str = ""

    def __post_init__(self) -> None:
        known = ("live", "context", "disk")
        require(self.where in known, "client", "state", self.where, ", ".join(known))
        require(
            self.where != "disk" or bool(self.folder), "client", "state", "disk", "with a folder"
        )

    def open(self, state: RecordDict, arm: str, client_ids: Sequence[int]) -> Place | None:
        """Return the place of a node's clients, given its Context's state; None for ``live``.

        Naming another arm than before forgets the states of the one before.
        """
        if self.where == "live":
            return None
        ledger = _Ledger(state, arm)
        if self.where == "context":
            return _InContext(ledger)
        return _OnDisk(ledger, Path(self.folder), client_ids)


class _Ledger:
    """Which version counts, written into the node's Context."""

    def __init__(self, state: RecordDict, arm: str) -> None:
        self.state = state
        record = state.config_records.get(LEDGER)
        if record is None or record["arm"] != arm:
            for name in [name for name in state if name.startswith(LEDGER)]:
                del state[name]
            record = ConfigRecord({"arm": arm, "clients": [], "tokens": [], "before": []})
            state[LEDGER] = record
        self.arm = arm
        clients, tokens, before = (record[name] for name in ("clients", "tokens", "before"))
        self.tokens: dict[int, int] = dict(zip(clients, tokens, strict=True))  # type: ignore[arg-type]
        self.before: dict[int, int] = dict(zip(clients, before, strict=True))  # type: ignore[arg-type]

    def note(self, client_id: int) -> int:
        """Return the token of a new version of the client's state."""
        token = secrets.randbits(62) + 1
        self.before[client_id] = self.tokens.get(client_id, 0)
        self.tokens[client_id] = token
        return token

    def forget(self, client_id: int) -> None:
        """Let the client have no version."""
        if client_id in self.tokens:
            self.before[client_id] = self.tokens[client_id]
            self.tokens[client_id] = 0

    def commit(self) -> None:
        """Write the tokens into the Context."""
        self.state[LEDGER] = ConfigRecord(
            {
                "arm": self.arm,
                "clients": list(self.tokens),
                "tokens": list(self.tokens.values()),
                "before": [self.before[i] for i in self.tokens],
            }
        )


class _InContext:
    """States as ArrayRecords that travel with the node's Context."""

    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger
        self._new: dict[str, ArrayRecord] = {}

    def token(self, client_id: int) -> int:
        return self._ledger.tokens.get(client_id, 0)

    def read(self, client_id: int) -> dict[str, Tensor]:
        record = self._ledger.state.array_records[f"{LEDGER}.{client_id}"]
        return {name: torch.from_numpy(array.numpy()) for name, array in record.items()}

    def write(self, client_id: int, tensors: dict[str, Tensor]) -> int:
        arrays = {name: Array(value.cpu().numpy()) for name, value in tensors.items()}
        self._new[f"{LEDGER}.{client_id}"] = ArrayRecord(arrays)
        return self._ledger.note(client_id)

    def forget(self, client_id: int) -> None:
        self._ledger.forget(client_id)

    def commit(self) -> None:
        for name, record in self._new.items():
            self._ledger.state[name] = record
        self._ledger.commit()


class _OnDisk:
    """States as safetensors files; the Context carries their tokens only.

    The version before the last stays until the next message, because only that message proves
    that the last one has arrived in the Context.
    """

    def __init__(self, ledger: _Ledger, folder: Path, client_ids: Sequence[int]) -> None:
        self._ledger = ledger
        self._folder = folder
        for client_id in client_ids:
            if before := ledger.before.get(client_id, 0):
                self._path(client_id, before).unlink(missing_ok=True)

    def token(self, client_id: int) -> int:
        return self._ledger.tokens.get(client_id, 0)

    def read(self, client_id: int) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        path = self._path(client_id, self.token(client_id))
        try:
            return load_file(path)
        except OSError as error:
            raise FedfuseError(
                f"The saved state of client {client_id} cannot be read",
                got=str(error),
                next_step="On several hosts without a common folder, set client.state=context.",
            ) from error

    def write(self, client_id: int, tensors: dict[str, Tensor]) -> int:
        token = self._ledger.note(client_id)
        try:
            self._path(client_id, token).write_bytes(as_file(tensors))
        except OSError as error:
            raise FedfuseError(
                f"The state of client {client_id} cannot be written to {self._folder}",
                got=error.strerror or str(error),
                next_step="Point TMPDIR at a folder with enough space.",
            ) from error
        return token

    def forget(self, client_id: int) -> None:
        self._ledger.forget(client_id)

    def commit(self) -> None:
        self._ledger.commit()

    def _path(self, client_id: int, token: int) -> Path:
        return state_path(self._folder, self._ledger.arm, client_id, token)
