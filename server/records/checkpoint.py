"""Checkpoints: what a run needs to go on after a crash as if nothing had happened.

A checkpoint is a folder that appears whole or not at all: it is written under another name, every
file is forced to disk, a manifest with the hash of each file is the last of them, and only then is
the folder renamed. The rounds' records lie beside the checkpoints, one file a round, because they
never change, and so do the clients' states, of which a checkpoint writes those that have changed
since the one before; the manifest holds their hashes too. Hashes tell damage, not who wrote it, so
nothing outside of the run folder is opened, whatever links are in it
(:mod:`fedfuse.files.confined`). Random numbers need no saving: every stream is derived from seed,
client, purpose and round. Everything is safetensors or JSON; nothing that is read can run code.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.files import confined
from fedfuse.files.state_files import state_owners
from fedfuse.types import RoundRecord
from server.records import durable, manifest, round_file
from server.records.manifest import (
    MANIFEST,
    SERVER,
    Difference,
    StateFile,
    TornError,
    difference,
    digest,
)

NEW, ROUNDS, STATES = ".new", "rounds", "states"


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
    _digests: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

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
                name = f"{arm}-{record.round:06d}.safetensors"
                self._digests[name] = _write(rounds, name, round_file.dump(record))
        except OSError as error:
            raise self._unwritten(error) from error

    def difference(self, arm: str, changed: Collection[int], known: Collection[int]) -> Difference:
        """Return what the next checkpoint of an arm takes over from the last one.

        Args:
            arm: The arm that is running.
            changed: Clients that may remember something else than they did then.
            known: All clients that remember anything.
        """
        before: Mapping[str, StateFile] = {}
        if numbers := self._numbers():
            with suppress(TornError, OSError):
                last = self._manifest(f"{numbers[-1]:06d}")
                before = last["states"] if last["arm"] == arm else {}
        return difference(before, changed, known)

    def save(
        self,
        arm: str,
        round_: int,
        clients: Iterable[bytes],
        memory: Mapping[str, Tensor],
        carried: Mapping[str, StateFile] = MappingProxyType({}),
    ) -> None:
        """Write a checkpoint, then forget the ones before the last ``keep``.

        Args:
            arm: The arm that is running.
            round_: Its last finished round.
            clients: Client states as safetensors, names ``ID/NAME``, any number of clients each;
                checked on arrival.
            memory: What the server's parts remember.
            carried: State files of the checkpoint before that go on counting.

        Raises:
            FedfuseError: If the disk is full, or refuses; the last checkpoint is as it was.
        """
        try:
            self._remove(NEW)
            numbers = self._numbers()
            number = (numbers[-1] if numbers else 0) + 1
            with ExitStack() as stack:
                folder, new, rounds, apart = (
                    stack.enter_context(self._opened(*names))
                    for names in ((), (NEW,), (ROUNDS,), (STATES,))
                )
                for secret in (new, apart):
                    os.fchmod(secret, 0o700)  # clients' secrets are in it
                files, states = {}, dict(carried)
                for part, content in enumerate(clients):
                    if owners := tuple(sorted(state_owners(content))):
                        name = f"{number:06d}-{part}.safetensors"
                        states[name] = StateFile(_write(apart, name, content), len(owners), owners)
                flat = {name: value.cpu().contiguous().clone() for name, value in memory.items()}
                files[SERVER] = _write(new, SERVER, save(flat))
                listed = {
                    "identity": dict(self.identity),
                    "arm": arm,
                    "round": round_,
                    "files": files,
                    "rounds": {name: self._known_digest(name) for name in self._kept(ROUNDS)},
                }
                _write(new, MANIFEST, manifest.dump(listed, states))
                for place in (new, rounds, apart):
                    os.fsync(place)
                os.rename(NEW, f"{number:06d}", src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            durable.sync_folder(self.folder.parent)  # where config.yaml and run.json are, too
        except OSError as error:
            self._remove(NEW)
            raise self._unwritten(error) from error
        for number in self._numbers()[: -self.keep]:
            self._remove(f"{number:06d}")
        self._forget_states()

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
                found = self._manifest(name)
            except (TornError, OSError, *_MALFORMED):
                continue
            manifest.check_identity(found["identity"], self.identity, self.legacy, self.folder)
            return

    def clear(self) -> None:
        """Remove all of them; the run has finished."""
        self._remove()

    def _saved(self, number: str) -> Saved:
        found = self._manifest(number)
        manifest.check_identity(found["identity"], self.identity, self.legacy, self.folder)
        contents = {
            name: self._checked(told, number, name) for name, told in found["files"].items()
        }
        loaded: dict[str, list[RoundRecord]] = {}
        for name, told in sorted(found["rounds"].items()):
            content = self._checked(told, ROUNDS, name)
            loaded.setdefault(name.rsplit("-", 1)[0], []).append(round_file.load(content))
        memory = load(contents.pop(SERVER))
        clients: dict[int, dict[str, Tensor]] = {}
        for content in contents.values():  # of format 1: a checkpoint's own
            _take_states(clients, load(content), None)
        for name, file in found["states"].items():
            content = self._checked(file.digest, STATES, name)
            _take_states(clients, load(content), set(file.clients))
        # Only now is it known to be whole.
        for name in self._kept(ROUNDS):
            if name not in found["rounds"]:  # of a round that was not saved any more
                self._remove(ROUNDS, name)
        self._digests.update(found["rounds"])
        self._forget_states()
        return Saved(found["arm"], found["round"], loaded, clients, memory)

    def _forget_states(self) -> None:
        """Remove the states that no checkpoint names any more."""
        named: set[str] = set()
        for number in self._numbers():
            try:
                named |= set(self._manifest(f"{number:06d}")["states"])
            except FedfuseError:  # a newer version's, or a stranger's
                return
            except (TornError, OSError, *_MALFORMED):  # it is skipped, should it come to that
                continue
        for name in self._kept(STATES):
            if name not in named:
                self._remove(STATES, name)

    def _known_digest(self, name: str) -> str:
        """Return the hash of a round's file, which this process has written or read."""
        return self._digests.get(name) or digest(self._read(ROUNDS, name))

    def _manifest(self, number: str) -> dict[str, Any]:
        return manifest.load(self._read(number, MANIFEST), self.folder / number)

    def _opened(self, *names: str) -> AbstractContextManager[int]:
        return confined.opened(self.folder.parent, self.folder.name, *names, make=True)

    def _read(self, *names: str) -> bytes:
        return confined.read(self.folder.parent, self.folder.name, *names)

    def _checked(self, told: str, *names: str) -> bytes:
        content = self._read(*names)
        if digest(content) != told:
            raise TornError(f"{names[-1]} has another hash than the manifest says")
        return content

    def _remove(self, *names: str) -> None:
        with suppress(OSError):
            confined.remove(self.folder.parent, self.folder.name, *names)

    def _kept(self, place: str) -> list[str]:
        """Return the files of rounds, or of states."""
        found = confined.listed(self.folder.parent, self.folder.name, place)
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


_MALFORMED = (
    SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error,
)  # fmt: skip
"""What reading something else than a checkpoint raises, if its hashes are right."""


def _write(folder: int, name: str, content: bytes) -> str:
    """Write a file into an open folder, force it to disk, and return its hash."""
    with os.fdopen(confined.create(folder, name), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return digest(content)


def _take_states(
    clients: dict[int, dict[str, Tensor]],
    tensors: Mapping[str, Tensor],
    owners: Collection[int] | None,
) -> None:
    """Add the states in a file, of those whose states count in it; None for all."""
    for name, value in tensors.items():
        owner, _, rest = name.partition("/")
        if owners is None or int(owner) in owners:
            clients.setdefault(int(owner), {})[rest] = value
