"""State files that the server takes over: under names of its own, whatever clients do to theirs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from safetensors.torch import load, save

from fedfuse.errors import FedfuseError
from fedfuse.wire.messages import CLIENTS, STATES, Header
from server.transport.client_states import CHUNK, FILES, LARGE, RemoteStates, _link_or_copy, _read
from server.transport.reply_timeout import ReplyTimeout
from server.transport.serial_grid import SerialGrid


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
    parts = [load(content) for content in _read(links)]
    assert [len(part) for part in parts] == [FILES, 1]
    assert {name: int(value) for part in parts for name, value in part.items()} == {
        f"{client_id}/model/w": client_id for client_id in links
    }
    assert not any(path.exists() for path in links.values())


def test_a_file_that_is_gone_costs_one_message(tmp_path):
    with pytest.raises(FileNotFoundError):
        _link_or_copy(tmp_path / "none", tmp_path / "own")
    with pytest.raises(FedfuseError, match="cannot be read"):
        list(_read({3: Path(tmp_path / "own")}))


@pytest.mark.parametrize(
    ("sizes", "asked"),
    [
        ([LARGE // 20] * 40, [CHUNK, 19, 13]),
        ([0] * 16 + [LARGE] * 24, [CHUNK] * 5),
        ([0] * 7 + [LARGE // 20] + [LARGE // 2] * 32, [CHUNK, 19, CHUNK, 5]),
    ],
    ids=["small", "not begun, then large", "small, then large"],
)
def test_one_message_is_about_more_of_small_clients_but_not_of_those_without_a_state(sizes, asked):
    app, found = ClientApp(), []

    @app.query("save")
    def hand_over(message, context):
        ids = message.content.array_records[CLIENTS]["client_ids"].numpy().tolist()
        found.append(len(ids))
        content = save({f"{i}/model/w": torch.zeros(sizes[i]).bool() for i in ids if sizes[i]})
        states = ArrayRecord({STATES: Array(np.frombuffer(content, dtype=np.uint8))})
        return Message(RecordDict({STATES: states}), reply_to=message)

    grid = SerialGrid(app, [{"partition-id": 0}])
    [node_id] = grid.get_node_ids()
    states = RemoteStates(grid, {node_id: tuple(range(40))}, ReplyTimeout())
    header = Header("knfu", 1, share=False, evaluate=False)
    owners = {
        int(name.partition("/")[0])
        for content in states.save(header, range(40))
        for name in load(content)
    }
    assert owners == {i for i, size in enumerate(sizes) if size}
    assert found == asked
