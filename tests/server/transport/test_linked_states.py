"""State files that the server takes over: under names of its own, whatever clients do to theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from fedfuse.errors import FedfuseError
from server.transport.linked_states import FILES, _link_or_copy, read


@pytest.fixture(params=["hard links", "no hard links"])
def file_system(request, monkeypatch):
    if request.param == "no hard links":

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


def test_a_link_outlives_the_version_that_a_client_removes(tmp_path, file_system):
    links = {}
    for client_id in range(FILES + 1):
        there = tmp_path / f"{client_id}.safetensors"
        there.write_bytes(save({"model/w": torch.tensor([client_id])}))
        links[client_id] = tmp_path / f"own-{client_id}.safetensors"
        links[client_id].write_bytes(b"of a checkpoint that could not be written")
        _link_or_copy(there, links[client_id])
        there.unlink()
    parts = [load(content) for content in read(links)]
    assert [len(part) for part in parts] == [FILES, 1]
    assert {name: int(value) for part in parts for name, value in part.items()} == {
        f"{client_id}/model/w": client_id for client_id in links
    }
    assert not any(path.exists() for path in links.values())


def test_a_file_that_is_gone_costs_one_message(tmp_path):
    with pytest.raises(FileNotFoundError):
        _link_or_copy(tmp_path / "none", tmp_path / "own")
    with pytest.raises(FedfuseError, match="cannot be read"):
        list(read({3: Path(tmp_path / "own")}))
