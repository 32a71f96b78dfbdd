"""Checkpoints: what a run needs to go on after a crash as if nothing had happened.

A checkpoint is a folder that appears whole or not at all: it is written under another name, every
file is forced to disk, a manifest with the hash of each file is the last of them, and only then is
the folder renamed. The rounds' records lie beside the checkpoints, one file a round, because they
never change; the manifest holds their hashes too. Random numbers need no saving: every stream is
derived from seed, client, purpose and round. Everything is safetensors or JSON; nothing that is
read can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.types import RoundRecord
from server import records

FORMAT = 1
"""Of the layout; a reader refuses a newer one."""
MANIFEST, SERVER, NEW, ROUNDS = "manifest.json", "server.safetensors", ".new", "rounds"


class TornError(Exception):
    """A checkpoint is not what its manifest says."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was read and is whole.

    Args:
        arm: The arm that was running.
        round: Its last finished round.
        records: The rounds of every arm so far, in order.
        clients: Client id to its tensors; empty where the arm has ended.
        memory: What the server's parts remember, flat.
    """

    arm: str
    round: int
    records: dict[str, list[RoundRecord]]
    clients: dict[int, dict[str, Tensor]]
    memory: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they lie.
        every: Rounds from one to the next.
        keep: How many are kept; two, so that there is one left if the last is damaged.
        identity: Hash of everything that results depend on; a checkpoint of another is refused.
    """

    folder: Path
    every: int
    keep: int
    identity: str

    def due(self, round_: int, last: int) -> bool:
        """Tell whether a checkpoint follows a round."""
        return round_ % self.every == 0 or round_ == last

    def note(self, arm: str, record: RoundRecord) -> None:
        """Write a round's record; it counts once a checkpoint names it.

        Raises:
            FedfuseError: If the disk is full, or refuses.
        """
        path = self._round(arm, record.round)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, records.dump(record))
        except OSError as error:
            raise self._unwritten(error) from error

    def save(
        self, arm: str, round_: int, clients: Iterable[bytes], memory: Mapping[str, Tensor]
    ) -> None:
        """Write a checkpoint, then forget the ones before the last ``keep``.

        Args:
            arm: The arm that is running.
            round_: Its last finished round.
            clients: Client states as safetensors, names ``ID/NAME``, any number of clients each.
            memory: What the server's parts remember.

        Raises:
            FedfuseError: If the disk is full, or refuses; the last checkpoint is as it was.
        """
        new = self.folder / NEW
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            files = {}
            for number, content in enumerate(clients):
                name = f"clients-{number}.safetensors"
                files[name] = _write(new / name, content)
            flat = {name: value.cpu().contiguous().clone() for name, value in memory.items()}
            files[SERVER] = _write(new / SERVER, save(flat))
            kept = sorted((self.folder / ROUNDS).glob("*.safetensors"))
            rounds = {path.name: _digest(path.read_bytes()) for path in kept}
            manifest = {
                "format": FORMAT,
                "identity": self.identity,
                "arm": arm,
                "round": round_,
                "files": files,
                "rounds": rounds,
            }
            manifest["digest"] = _digest(json.dumps(manifest, sort_keys=True).encode())
            _write(new / MANIFEST, json.dumps(manifest, indent=1).encode())
            _sync(new)
            _sync(self.folder / ROUNDS)
            numbers = self._numbers()
            new.rename(self.folder / f"{(numbers[-1] if numbers else 0) + 1:06d}")
            _sync(self.folder)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            raise self._unwritten(error) from error
        for number in self._numbers()[: -self.keep]:
            shutil.rmtree(self.folder / f"{number:06d}", ignore_errors=True)

    def latest(self) -> Saved | None:
        """Return the last checkpoint that is whole; None if no round was ever finished.

        A damaged one is skipped and removed.

        Raises:
            FedfuseError: If there are checkpoints and none is whole, or one belongs to another
                run or a newer version.
        """
        numbers = self._numbers()
        why = ""
        for number in reversed(numbers):
            path = self.folder / f"{number:06d}"
            try:
                return self._read(path)
            except (TornError, OSError, *_MALFORMED) as error:
                why = f"{path.name}: {error}"
                if number != numbers[0]:
                    shutil.rmtree(path, ignore_errors=True)
        if not numbers:
            shutil.rmtree(self.folder / ROUNDS, ignore_errors=True)
            return None
        raise FedfuseError(
            f"No checkpoint in '{self.folder}' is whole",
            got=why,
            next_step="Start the run anew in another folder.",
        )

    def clear(self) -> None:
        """Remove all of them; the run has finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path) -> Saved:
        manifest = _manifest(path / MANIFEST)
        if manifest["identity"] != self.identity:
            raise FedfuseError(
                f"The checkpoint in '{self.folder}' belongs to another run",
                got="another configuration, or other data",
                next_step="Resume with the data and the config.yaml that the run began with.",
            )
        contents = {
            name: _checked(path / name, digest) for name, digest in manifest["files"].items()
        }
        loaded: dict[str, list[RoundRecord]] = {}
        for name, digest in sorted(manifest["rounds"].items()):
            content = _checked(self.folder / ROUNDS / name, digest)
            loaded.setdefault(name.rsplit("-", 1)[0], []).append(records.load(content))
        memory = load(contents.pop(SERVER))
        clients: dict[int, dict[str, Tensor]] = {}
        for content in contents.values():
            for name, value in load(content).items():
                client_id, _, rest = name.partition("/")
                clients.setdefault(int(client_id), {})[rest] = value
        # Only now is it known to be whole.
        for path in (self.folder / ROUNDS).iterdir():
            if path.name not in manifest["rounds"]:  # of a round that was not saved any more
                path.unlink()
        return Saved(manifest["arm"], manifest["round"], loaded, clients, memory)

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def _round(self, arm: str, round_: int) -> Path:
        return self.folder / ROUNDS / f"{arm}-{round_:06d}.safetensors"

    def _unwritten(self, error: OSError) -> FedfuseError:
        return FedfuseError(
            f"A checkpoint cannot be written to '{self.folder}'",
            got=error.strerror or str(error),
            next_step="Make room; the run goes on from the checkpoint before with "
            f"fedfuse resume={self.folder.parent}",
        )


def _manifest(path: Path) -> dict[str, Any]:
    """Return a manifest that is whole."""
    try:
        manifest = json.loads(path.read_bytes())
        digest = manifest.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise TornError(f"{MANIFEST} cannot be read") from error
    if digest != _digest(json.dumps(manifest, sort_keys=True).encode()):
        raise TornError(f"{MANIFEST} has another hash than it says")
    if type(manifest.get("format")) is not int:
        raise TornError(f"{MANIFEST} has no format")
    if manifest["format"] > FORMAT:
        raise FedfuseError(
            f"The checkpoint '{path.parent}' was written by a newer version of fedfuse",
            got=f"format {manifest['format']}",
            allowed=f"at most {FORMAT}",
            next_step="Resume with that version.",
        )
    _check_shape(manifest)
    return manifest  # type: ignore[no-any-return]


def _check_shape(manifest: dict[str, Any]) -> None:
    """Raise unless a manifest has the right fields; its hash says nothing about who wrote it."""
    kinds = {"identity": str, "arm": str, "round": int, "files": dict, "rounds": dict}
    for name, kind in kinds.items():
        if type(manifest.get(name)) is not kind:
            raise TornError(f"{MANIFEST} has no '{name}' that could be used")
    for name in (*manifest["files"], *manifest["rounds"]):
        # A name with a folder in it could lead anywhere, /dev/zero included.
        if not _PLAIN.fullmatch(name):
            raise TornError(f"{MANIFEST} names the file {name[:100]!r}")
    if SERVER not in manifest["files"]:
        raise TornError(f"{MANIFEST} does not name {SERVER}")


_PLAIN = re.compile(r"[\w()+=,][\w .()+=,-]{0,150}\.safetensors")
_MALFORMED = (
    SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error,
)  # fmt: skip
"""What reading something else than a checkpoint raises, if its hashes are right."""


def _checked(path: Path, digest: str) -> bytes:
    content = path.read_bytes()
    if _digest(content) != digest:
        raise TornError(f"{path.name} has another hash than the manifest says")
    return content


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write(path: Path, content: bytes) -> str:
    """Write a file, force it to disk, and return its hash."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return _digest(content)


def _sync(folder: Path) -> None:
    """Force a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
