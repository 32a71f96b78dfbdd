"""Checkpoints: what a run needs to go on after a crash as if nothing had happened.

A checkpoint is a folder that appears whole or not at all: it is written under another name, every
file is forced to disk, a manifest with the hash of each file is the last of them, and only then is
the folder renamed. The rounds' records lie beside the checkpoints, one file a round, because they
never change; the manifest holds their hashes too. Hashes tell damage, not who wrote it, so nothing
outside of the run folder is opened, whatever links are in it (:mod:`fedfuse.files.confined`).
Random numbers need no saving: every stream is derived from seed, client, purpose and round.
Everything is safetensors or JSON; nothing that is read can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.files import confined
from fedfuse.safe_text import visible
from fedfuse.types import RoundRecord
from server.records import durable, round_file

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
        identity: Everything that results depend on, by its dotted key; a checkpoint of another
            is refused by naming the keys.
        legacy: The one hash of it that older checkpoints hold instead.
    """

    folder: Path
    every: int
    keep: int
    identity: Mapping[str, str]
    legacy: str = ""

    def due(self, round_: int, last: int) -> bool:
        """Tell whether a checkpoint follows a round."""
        return round_ % self.every == 0 or round_ == last

    def note(self, arm: str, record: RoundRecord) -> None:
        """Write a round's record; it counts once a checkpoint names it.

        Raises:
            FedfuseError: If the disk is full, or refuses.
        """
        try:
            with self._opened(ROUNDS) as rounds:
                _write(rounds, f"{arm}-{record.round:06d}.safetensors", round_file.dump(record))
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
        try:
            self._remove(NEW)
            with self._opened() as folder, self._opened(NEW) as new, self._opened(ROUNDS) as rounds:
                os.fchmod(new, 0o700)  # clients' secrets are in it
                files = {}
                for number, content in enumerate(clients):
                    name = f"clients-{number}.safetensors"
                    files[name] = _write(new, name, content)
                flat = {name: value.cpu().contiguous().clone() for name, value in memory.items()}
                files[SERVER] = _write(new, SERVER, save(flat))
                manifest = {
                    "format": FORMAT,
                    "identity": dict(self.identity),
                    "arm": arm,
                    "round": round_,
                    "files": files,
                    "rounds": {name: _digest(self._read(ROUNDS, name)) for name in self._kept()},
                }
                manifest["digest"] = _digest(json.dumps(manifest, sort_keys=True).encode())
                _write(new, MANIFEST, json.dumps(manifest, indent=1).encode())
                os.fsync(new)
                os.fsync(rounds)
                numbers = self._numbers()
                number = (numbers[-1] if numbers else 0) + 1
                os.rename(NEW, f"{number:06d}", src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            durable.sync_folder(self.folder.parent)  # where config.yaml and run.json are, too
        except OSError as error:
            self._remove(NEW)
            raise self._unwritten(error) from error
        for number in self._numbers()[: -self.keep]:
            self._remove(f"{number:06d}")

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
            name = f"{number:06d}"
            try:
                return self._saved(name)
            except (TornError, OSError, *_MALFORMED) as error:
                why = f"{name}: {error}"
                if number != numbers[0]:
                    self._remove(name)
        if not numbers:
            self._remove(ROUNDS)
            return None
        raise FedfuseError(
            f"No checkpoint in '{self.folder}' is whole",
            got=why,
            next_step="Start the run anew in another folder.",
        )

    def check(self) -> None:
        """Refuse what another run left, before anything is touched.

        Raises:
            FedfuseError: If the last checkpoint that can be read belongs to another run, or leads
                out of the run folder.
        """
        for number in reversed(self._numbers()):
            name = f"{number:06d}"
            try:
                manifest = _manifest(self._read(name, MANIFEST), self.folder / name)
            except (TornError, OSError, *_MALFORMED):
                continue
            self._check_identity(manifest["identity"])
            return

    def clear(self) -> None:
        """Remove all of them; the run has finished."""
        self._remove()

    def _saved(self, number: str) -> Saved:
        manifest = _manifest(self._read(number, MANIFEST), self.folder / number)
        self._check_identity(manifest["identity"])
        contents = {
            name: self._checked(digest, number, name) for name, digest in manifest["files"].items()
        }
        loaded: dict[str, list[RoundRecord]] = {}
        for name, digest in sorted(manifest["rounds"].items()):
            content = self._checked(digest, ROUNDS, name)
            loaded.setdefault(name.rsplit("-", 1)[0], []).append(round_file.load(content))
        memory = load(contents.pop(SERVER))
        clients: dict[int, dict[str, Tensor]] = {}
        for content in contents.values():
            for name, value in load(content).items():
                client_id, _, rest = name.partition("/")
                clients.setdefault(int(client_id), {})[rest] = value
        # Only now is it known to be whole.
        for name in self._kept():
            if name not in manifest["rounds"]:  # of a round that was not saved any more
                self._remove(ROUNDS, name)
        return Saved(manifest["arm"], manifest["round"], loaded, clients, memory)

    def _check_identity(self, saved: str | dict[str, str]) -> None:
        """Raise unless what results depend on is as it was."""
        again = "Resume with the data, the config.yaml and the version that the run began with."
        if isinstance(saved, str):  # written before the keys had names in it
            if saved == self.legacy:
                return
            raise FedfuseError(
                f"The checkpoint in '{self.folder}' belongs to another run",
                got="other data, or another configuration",
                next_step=again,
            )
        keys = sorted(saved.keys() | self.identity.keys())
        changed = [key for key in keys if saved.get(key) != self.identity.get(key)]
        if not changed:
            return
        names = ", ".join(visible(key, 100) for key in changed[:5])
        names += ", ..." if changed[5:] else ""
        raise FedfuseError(
            f"The checkpoint in '{self.folder}' belongs to another run: {names} changed since, "
            "and results depend on it",
            got=_value(self.identity, changed[0]),
            allowed=_value(saved, changed[0]),
            next_step=again,
        )

    def _opened(self, *names: str) -> AbstractContextManager[int]:
        return confined.opened(self.folder.parent, self.folder.name, *names, make=True)

    def _read(self, *names: str) -> bytes:
        return confined.read(self.folder.parent, self.folder.name, *names)

    def _checked(self, digest: str, *names: str) -> bytes:
        content = self._read(*names)
        if _digest(content) != digest:
            raise TornError(f"{names[-1]} has another hash than the manifest says")
        return content

    def _remove(self, *names: str) -> None:
        with suppress(OSError):
            confined.remove(self.folder.parent, self.folder.name, *names)

    def _kept(self) -> list[str]:
        """Return the files of rounds."""
        found = confined.listed(self.folder.parent, self.folder.name, ROUNDS)
        return [name for name in found if name.endswith(".safetensors")]

    def _numbers(self) -> list[int]:
        found = confined.listed(self.folder.parent, self.folder.name)
        return sorted(int(name) for name in found if re.fullmatch(r"[0-9]{6,18}", name))

    def _unwritten(self, error: OSError) -> FedfuseError:
        return FedfuseError(
            f"A checkpoint cannot be written to '{self.folder}'",
            got=error.strerror or str(error),
            next_step="Make room; the run goes on from the checkpoint before with "
            f"fedfuse resume={self.folder.parent}",
        )


def _manifest(content: bytes, folder: Path) -> dict[str, Any]:
    """Return a manifest that is whole."""
    try:
        manifest = json.loads(content)
        digest = manifest.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise TornError(f"{MANIFEST} cannot be read") from error
    if digest != _digest(json.dumps(manifest, sort_keys=True).encode()):
        raise TornError(f"{MANIFEST} has another hash than it says")
    if type(manifest.get("format")) is not int:
        raise TornError(f"{MANIFEST} has no format")
    if manifest["format"] > FORMAT:
        raise FedfuseError(
            f"The checkpoint '{folder}' was written by a newer version of fedfuse",
            got=f"format {manifest['format']}",
            allowed=f"at most {FORMAT}",
            next_step="Resume with that version.",
        )
    _check_shape(manifest)
    return manifest  # type: ignore[no-any-return]


def _check_shape(manifest: dict[str, Any]) -> None:
    """Raise unless a manifest has the right fields; its hash says nothing about who wrote it."""
    kinds = {"arm": str, "round": int, "files": dict, "rounds": dict}
    for name, kind in kinds.items():
        if type(manifest.get(name)) is not kind:
            raise TornError(f"{MANIFEST} has no '{name}' that could be used")
    identity = manifest.get("identity")
    if not isinstance(identity, str | dict):
        raise TornError(f"{MANIFEST} has no 'identity' that could be used")
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


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write(folder: int, name: str, content: bytes) -> str:
    """Write a file into an open folder, force it to disk, and return its hash."""
    with os.fdopen(confined.create(folder, name), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return _digest(content)


def _value(values: Mapping[str, str], key: str) -> str:
    """Return a key and its value for a message."""
    return f"{visible(key, 100)}={visible(str(values.get(key, '(not there)')), 100)}"
