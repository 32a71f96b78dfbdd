"""Decode once, then map: every later run and every worker process shares the same pages.

An entry is a folder of ``.npy`` files and a ``meta.json``. Its name holds a hash of the *content*
of the source's files, so that a file changed in any way, even with its size and time kept, is
never served stale; hashing costs about a second per gigabyte. Entries appear by one rename, so
nobody sees half of one, and of two processes that decode at once the first wins and both go on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedfuse.data.raw import Decoded, Domain, RawDataset, describe
from fedfuse.errors import DataError
from fedfuse.types import Samples

LOG = logging.getLogger(__name__)

DECODE_VERSION = 3
"""Raised whenever decoding changes its result."""


def cache_folder() -> Path:
    """Return the cache's folder: ``FEDFUSE_CACHE``, else ``~/.cache/fedfuse``.

    Raises:
        DataError: If there is no home folder, as in a container whose user has no name.
    """
    chosen = os.environ.get("FEDFUSE_CACHE")
    try:
        return Path(chosen or "~/.cache/fedfuse").expanduser()
    except RuntimeError as error:
        raise DataError(
            "There is no home folder to keep decoded data in",
            got=str(error),
            next_step="Point the environment variable FEDFUSE_CACHE at a writable folder.",
        ) from error


def cache_key(source: str, parameters: Mapping[str, object], files: Mapping[str, Path]) -> str:
    """Return the key under which the decoded form of these files is kept.

    Args:
        source: The reader's name.
        parameters: Its parameters that change the result.
        files: Name within the data set to file; all of them are read.
    """
    head = [DECODE_VERSION, source, sorted(parameters.items()), sorted(files)]
    digest = hashlib.blake2b(json.dumps(head, default=str).encode(), digest_size=16)
    for _, path in sorted(files.items()):
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError as error:
            raise DataError(f"{path} cannot be read", got=error.strerror) from error
    return digest.hexdigest()


def cached(name: str, key: str, decode: Callable[[], Decoded]) -> RawDataset:
    """Return the data set, mapped read-only from the cache; decode it first if it is not there.

    Args:
        name: The data set's name.
        key: What :func:`cache_key` returned for its files.
        decode: Reads the files; called only on a miss.

    Raises:
        DataError: If the cache cannot be written, or from ``decode``.
    """
    entry = cache_folder() / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{key}"
    found = _open(name, entry)
    if found is not None:
        return found
    scratch = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
    try:
        # Before decoding: an unwritable folder should not cost the user a minute first.
        _write(scratch.parent, lambda: scratch.mkdir(parents=True))
        LOG.info("decoding %s; later runs find it in the cache", name)
        raw = describe(name, decode())
        _write(scratch.parent, lambda: _save(raw, scratch))
        _write(scratch.parent, lambda: _publish(scratch, entry))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found = _open(name, entry)
    if found is None:
        raise DataError(
            f"The cache entry {entry} was written but cannot be read back",
            next_step="Check the disk, or point FEDFUSE_CACHE at another folder.",
        )
    return found


def _open(name: str, entry: Path) -> RawDataset | None:
    """Map an entry, or return None if there is none that is whole."""
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        train = _map(entry, "train")
        return RawDataset(
            name=name,
            train=train,
            test=_map(entry, "test") if meta["has_test"] else None,
            num_classes=len(meta["class_names"]),
            class_names=tuple(meta["class_names"]),
            mean=tuple(meta["mean"]),
            std=tuple(meta["std"]),
            fingerprint=meta["fingerprint"],
            columns=tuple(meta.get("columns", ())),
            domains=tuple(Domain(*each) for each in meta.get("domains", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, DataError):
        return None


def _map(entry: Path, pool: str) -> Samples:
    def array(part: str) -> npt.NDArray[np.generic]:
        path = entry / f"{pool}_{part}.npy"
        mapped: npt.NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped

    return Samples(array("inputs"), array("labels"))  # type: ignore[arg-type]


def _save(raw: RawDataset, folder: Path) -> None:
    pools: Sequence[tuple[str, Samples | None]] = (("train", raw.train), ("test", raw.test))
    for pool, samples in pools:
        if samples is None:
            continue
        for part, array in (("inputs", samples.inputs), ("labels", samples.labels)):
            with (folder / f"{pool}_{part}.npy").open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
                # Without it a power cut may leave a renamed entry full of zeros.
                file.flush()
                os.fsync(file.fileno())
    meta = {
        "name": raw.name,
        "has_test": raw.test is not None,
        "class_names": list(raw.class_names),
        "mean": list(raw.mean),
        "std": list(raw.std),
        "fingerprint": raw.fingerprint,
        "columns": list(raw.columns),
        "domains": list(raw.domains),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _publish(scratch: Path, entry: Path) -> None:
    try:
        scratch.replace(entry)
    except OSError:
        if _open("", entry) is not None:
            return  # another process was first; its entry holds the same content
        shutil.rmtree(entry, ignore_errors=True)  # a damaged entry: make room for the new one
        scratch.replace(entry)


def _write(folder: Path, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise DataError(
            f"The cache folder {folder} cannot be written",
            got=error.strerror or str(error),
            next_step="Point the environment variable FEDFUSE_CACHE at a writable folder with "
            "enough space.",
        ) from error
