"""What clients hand over for a checkpoint: how many are asked at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from safetensors.torch import load, save

from fedfuse.wire.messages import CLIENTS, STATES, Header
from server.transport.client_states import CHUNK, LARGE, RemoteStates
from server.transport.reply_timeout import ReplyTimeout
from server.transport.serial_grid import SerialGrid


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
