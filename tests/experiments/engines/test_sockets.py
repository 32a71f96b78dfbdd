"""Sockets below a folder for temporary files that is too deep for them."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from experiments.engines import sockets
from experiments.engines.sockets import LONGEST, ray_folder, short_folder
from fedfuse.errors import FedfuseError


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "slurm_jobdir" / ("job-12345678.headnode." * 4)
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_a_socket_can_be_bound_in_it(deep):
    with short_folder(len("/relay")) as folder, socket.socket(socket.AF_UNIX) as end:
        end.bind(f"{folder}/relay")
        assert Path(folder).stat().st_mode & 0o77 == 0
    assert not Path(folder).exists()


def test_where_the_usual_folder_is_short_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with short_folder(20) as folder:
        assert folder.startswith("/tmp/fedfuse-")


def test_rays_session_goes_elsewhere_only_where_it_must(deep, monkeypatch):
    with ray_folder() as folder:
        assert folder is not None
        path = f"{folder}/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store"
        assert len(path) <= LONGEST
    assert not Path(folder).exists()
    monkeypatch.setenv("TMPDIR", "/tmp")
    with ray_folder() as folder:
        assert folder is None


def test_without_a_short_place_the_variable_is_named(deep, monkeypatch):
    monkeypatch.setattr(sockets, "_ROOTS", ())
    with pytest.raises(FedfuseError, match="Set the environment variable TMPDIR"):
        short_folder(50)
