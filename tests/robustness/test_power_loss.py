"""A power cut at any instant: what was forced to disk is a run that goes on, or one that is whole.

The disk is a model. Of a file it holds the content of the last ``fsync`` of the file, of a folder
the names of the last ``fsync`` of the folder. What else may have reached it differs, so each cut
is tried in four ways: nothing else has; all names have, but no content (a rename that overtakes its
data); of names only removals have, or only the last (one that overtakes all those before it).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.run import main
from experiments.runs.resume import CHECKPOINTS, checkpoints
from server.records.checkpoint import Checkpoints

TINY = (
    "dataset=synthetic",
    "num_clients=2",
    "num_rounds=3",
    "model=mlp",
    "method=ktpfl",
    "public.size=20",
    "evaluation.test_samples=50",
    "evaluation.own_test_samples=50",
)
WHOLE = (
    "metrics.parquet",
    "baseline.parquet",
    "weights.safetensors",
    "answers.safetensors",
    "summary.json",
    "config.yaml",
    "partition.parquet",
    "partition.txt",
)

Thing = tuple[int, int]
"""An inode and how often its number was used before."""
Image = dict[str, bytes]
"""Path to content."""


@dataclass
class Disk:
    """What a disk holds of a folder after each of the calls that change it."""

    root: Path
    files: dict[Thing, bytes] = field(default_factory=dict)
    folders: dict[Thing, dict[str, Thing]] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    saved: int = 0
    cuts: list[tuple[int, dict[str, Image]]] = field(default_factory=list)

    @contextmanager
    def recording(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        real = {
            name: getattr(os, name) for name in ("fsync", "unlink", "rmdir", "rename", "replace")
        }
        save = Checkpoints.save

        def fsync(handle: int) -> None:
            real["fsync"](handle)
            self.forced(handle)
            self.cut()

        def gone(name: str):
            def call(path, *, dir_fd=None):
                before = os.lstat(path, dir_fd=dir_fd)
                real[name](path, dir_fd=dir_fd)
                self.forget(before)
                self.cut()

            return call

        def moved(name: str):
            def call(source, target, *, src_dir_fd=None, dst_dir_fd=None):
                with suppress(FileNotFoundError):
                    self.forget(os.lstat(target, dir_fd=dst_dir_fd))
                real[name](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
                self.cut(Path(target) if dst_dir_fd is None else None)

            return call

        def counted(*args, **named):
            save(*args, **named)
            self.saved += 1

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            for name in ("unlink", "rmdir"):
                patched.setattr(os, name, gone(name))
            for name in ("rename", "replace"):
                patched.setattr(os, name, moved(name))
            patched.setattr(Checkpoints, "save", counted)
            self.folders[self.thing(self.root.stat())] = {}
            yield
        self.cut()

    def thing(self, info: os.stat_result) -> Thing:
        return info.st_ino, self.used.get(info.st_ino, 0)

    def forget(self, info: os.stat_result) -> None:
        """Note that an inode's number may soon be another thing's."""
        if stat.S_ISDIR(info.st_mode) or info.st_nlink == 1:
            self.used[info.st_ino] = self.used.get(info.st_ino, 0) + 1

    def forced(self, handle: int) -> None:
        info, path = os.fstat(handle), f"/proc/self/fd/{handle}"
        if stat.S_ISREG(info.st_mode):
            self.files[self.thing(info)] = Path(path).read_bytes()
        else:
            names = {entry.name: self.thing(entry.stat()) for entry in os.scandir(handle)}
            self.folders[self.thing(info)] = names

    def cut(self, moved: Path | None = None) -> None:
        """Keep what would be found if the power failed now, just after something was renamed."""
        strict: Image = {}
        self.walk(self.thing(self.root.stat()), "", strict)
        live: Image = {}
        for folder, _, files in os.walk(self.root):
            for name in files:
                path = Path(folder) / name
                content = self.files.get(self.thing(path.stat()), b"")
                live[str(path.relative_to(self.root))] = content
        removed = {name: content for name, content in strict.items() if name in live}
        last = dict(strict)
        if moved is not None:
            name = str(moved.relative_to(self.root))
            last[name] = live[name]
        ways = {"nothing else": strict, "all names": live, "removals": removed, "last": last}
        if not self.cuts or self.cuts[-1] != (self.saved, ways):
            self.cuts.append((self.saved, ways))

    def walk(self, folder: Thing, prefix: str, image: Image) -> None:
        for name, thing in self.folders.get(folder, {}).items():
            if thing in self.folders or thing not in self.files:
                self.walk(thing, f"{prefix}{name}/", image)
            if thing in self.files:
                image[prefix + name] = self.files[thing]


def laid_out(image: Image, place: Path) -> Path:
    """Write an image down and return the run folder in it."""
    for name, content in image.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place / "run"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Disk, Image]:
    root = tmp_path_factory.mktemp("disk")
    disk = Disk(root)
    with pytest.MonkeyPatch.context() as monkeypatch, disk.recording(monkeypatch):
        assert main([*TINY, f"hydra.run.dir={root / 'run'}"]) == 0
    return disk, {name: (root / "run" / name).read_bytes() for name in WHOLE}


def status(image: Image) -> str:
    content = image.get("run/run.json", b"")
    return json.loads(content)["status"] if content else ""


def test_a_run_that_calls_itself_finished_is_whole(recorded):
    disk, whole = recorded
    done = [ways for _, ways in disk.cuts if any(status(i) == "finished" for i in ways.values())]
    # Its checkpoints go afterwards, file by file, and the power may fail at each of them.
    assert len(done) > 5
    for ways in done:
        for image in ways.values():
            if status(image) == "finished":
                assert b'"event": "finished"' in image.get("run/events.jsonl", b"")
                assert {name: image.get(f"run/{name}") for name in WHOLE} == whole
    assert all(status(image) == "finished" for image in disk.cuts[-1][1].values())
    assert not any("checkpoint" in name for name in disk.cuts[-1][1]["removals"])


def test_a_run_that_has_been_saved_can_go_on_from_there_or_later(recorded, tmp_path):
    disk, whole = recorded
    rounds = [("local", 1), ("local", 2), ("local", 3), ("knfu", 1), ("knfu", 2)]
    assert disk.saved == len(rounds)
    known, seen = None, set[int]()
    for number, (saved, ways) in enumerate(disk.cuts):
        for way, image in ways.items():
            print_ = hash((saved, frozenset(image.items())))
            if not saved or status(image) == "finished" or print_ in seen:
                continue
            seen.add(print_)
            folder = laid_out(image, tmp_path / f"{number}-{way}")
            assert image["run/config.yaml"] == whole["config.yaml"]
            assert status(image) == "running"
            if known is None:
                cfg = OmegaConf.load(folder / "config.yaml")
                record = json.loads(image["run/run.json"])
                known = checkpoints(cfg, folder, record["data_fingerprint"])
            found = replace(known, folder=folder / CHECKPOINTS).latest()
            assert found is not None
            assert sum(map(len, found.records.values())) >= saved, (number, way)
    assert len(seen) > 20


@pytest.mark.parametrize(("part", "way"), [(0.4, "all names"), (0.75, "nothing else")])
def test_what_was_forced_to_disk_ends_with_the_same_numbers(recorded, tmp_path, part, way):
    disk, whole = recorded
    begun = [ways for saved, ways in disk.cuts if saved]
    before = [ways for ways in begun if status(ways["all names"]) != "finished"]
    folder = laid_out(before[int(part * len(before))][way], tmp_path)
    assert main([f"resume={folder}"]) == 0
    for name in WHOLE:
        if name != "summary.json":  # it holds times
            assert (folder / name).read_bytes() == whole[name], name


def test_the_last_instant_before_the_end(recorded, tmp_path):
    disk, whole = recorded
    before = [ways for _, ways in disk.cuts if status(ways["all names"]) != "finished"]
    folder = laid_out(before[-1]["removals"], tmp_path)
    assert main([f"resume={folder}"]) == 0
    assert (folder / "metrics.parquet").read_bytes() == whole["metrics.parquet"]
