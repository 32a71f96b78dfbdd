"""What a checkpoint consists of: which files, with which hashes, and whose states count in them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedfuse.errors import FedfuseError
from fedfuse.safe_text import visible

FORMAT = 2
"""Of the layout; a reader refuses a newer one. Before 2 a checkpoint held the states of all clients
itself, in files of its own."""
MANIFEST, SERVER = "manifest.json", "server.safetensors"


class TornError(Exception):
    """A checkpoint is not what its manifest says."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """A file with the states of some clients, written once and named by several checkpoints.

    Args:
        digest: Its hash.
        held: How many clients' states are in it.
        clients: Those that still count: nobody has written a newer state of theirs.
    """

    digest: str
    held: int
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a checkpoint takes over from the one before it, and what has to be written.

    Args:
        carried: Files that go on counting, by their names.
        wanted: The clients whose states are to be written.
    """

    carried: Mapping[str, StateFile]
    wanted: frozenset[int]


def difference(
    before: Mapping[str, StateFile], changed: Collection[int], known: Collection[int]
) -> Difference:
    """Return what the next checkpoint takes over.

    A file of which less than half still counts is not worth its space: the rest of it is written
    again with the others, so that what lies on disk is at most twice what counts.

    Args:
        before: The state files of the checkpoint before.
        changed: Clients that may remember something else than they did then.
        known: All clients that remember anything.

    >>> before = {"a": StateFile("", 3, (0, 1, 2)), "b": StateFile("", 2, (3, 4))}
    >>> found = difference(before, {0, 3, 5}, range(6))
    >>> {name: file.clients for name, file in found.carried.items()}, sorted(found.wanted)
    ({'a': (1, 2), 'b': (4,)}, [0, 3, 5])
    >>> sorted(difference(before, {0, 1}, range(5)).wanted)
    [0, 1, 2]
    """
    out, inside = set(changed), set(known)
    carried = {}
    for name, file in before.items():
        left = tuple(i for i in file.clients if i in inside and i not in out)
        if left and 2 * len(left) >= file.held:
            carried[name] = StateFile(file.digest, file.held, left)
    there = {i for file in carried.values() for i in file.clients}
    return Difference(carried, frozenset(inside - there))


def digest(content: bytes) -> str:
    """Return the hash of a file."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def dump(content: Mapping[str, Any], states: Mapping[str, StateFile]) -> bytes:
    """Return a manifest as it is written, with its own hash."""
    listed = {name: [file.digest, file.held, list(file.clients)] for name, file in states.items()}
    manifest = {"format": FORMAT, **content, "states": listed}
    manifest["digest"] = digest(json.dumps(manifest, sort_keys=True).encode())
    return json.dumps(manifest, indent=1).encode()


def load(content: bytes, folder: Path) -> dict[str, Any]:
    """Return a manifest that is whole; its ``states`` are of :class:`StateFile`.

    Raises:
        TornError: If it is not.
        FedfuseError: If a newer version has written it.
    """
    try:
        manifest = json.loads(content)
        told = manifest.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise TornError(f"{MANIFEST} cannot be read") from error
    if told != digest(json.dumps(manifest, sort_keys=True).encode()):
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
    manifest.setdefault("states", {})
    _check_shape(manifest)
    manifest["states"] = {name: _state_file(told) for name, told in manifest["states"].items()}
    return manifest  # type: ignore[no-any-return]


def check_identity(
    saved: str | Mapping[str, str], identity: Mapping[str, str], legacy: str, folder: Path
) -> None:
    """Raise unless what results depend on is as it was.

    Args:
        saved: What the manifest says of it.
        identity: What it is, by its dotted key.
        legacy: The one hash of it that older checkpoints hold instead.
        folder: Of the checkpoints.
    """
    again = "Resume with the data, the config.yaml and the version that the run began with."
    if isinstance(saved, str):  # written before the keys had names in it
        if saved == legacy:
            return
        raise FedfuseError(
            f"The checkpoint in '{folder}' belongs to another run",
            got="other data, or another configuration",
            next_step=again,
        )
    keys = sorted(saved.keys() | identity.keys())
    changed = [key for key in keys if saved.get(key) != identity.get(key)]
    if not changed:
        return
    names = ", ".join(visible(key, 100) for key in changed[:5])
    names += ", ..." if changed[5:] else ""
    raise FedfuseError(
        f"The checkpoint in '{folder}' belongs to another run: {names} changed since, "
        "and results depend on it",
        got=_value(identity, changed[0]),
        allowed=_value(saved, changed[0]),
        next_step=again,
    )


def _value(values: Mapping[str, str], key: str) -> str:
    """Return a key and its value for a message."""
    return f"{visible(key, 100)}={visible(str(values.get(key, '(not there)')), 100)}"


def _check_shape(manifest: dict[str, Any]) -> None:
    """Raise unless a manifest has the right fields; its hash says nothing about who wrote it."""
    kinds = {"arm": str, "round": int, "files": dict, "rounds": dict, "states": dict}
    for name, kind in kinds.items():
        if type(manifest.get(name)) is not kind:
            raise TornError(f"{MANIFEST} has no '{name}' that could be used")
    identity = manifest.get("identity")
    if not isinstance(identity, str | dict):
        raise TornError(f"{MANIFEST} has no 'identity' that could be used")
    for name in (*manifest["files"], *manifest["rounds"], *manifest["states"]):
        # A name with a folder in it could lead anywhere, /dev/zero included.
        if not _PLAIN.fullmatch(name):
            raise TornError(f"{MANIFEST} names the file {name[:100]!r}")
    if SERVER not in manifest["files"]:
        raise TornError(f"{MANIFEST} does not name {SERVER}")


def _state_file(told: Any) -> StateFile:
    whole = isinstance(told, list) and [type(part) for part in told] == [str, int, list]
    if not whole or not all(type(i) is int and i >= 0 for i in told[2]):
        raise TornError(f"{MANIFEST} has no 'states' that could be used")
    return StateFile(told[0], told[1], tuple(told[2]))


_PLAIN = re.compile(r"[\w()+=,][\w .()+=,-]{0,150}\.safetensors")
