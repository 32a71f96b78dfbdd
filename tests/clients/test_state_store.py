"""Where clients' states wait: what is read is what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flwr.app import RecordDict
from torch import nn

from clients.state.state import ClientState
from clients.state.state_store import StatePlan


@pytest.mark.parametrize("where", ["context", "disk"])
def test_tensors_that_share_memory_come_back_whole(tmp_path: Path, where: str) -> None:
    tied, matrix = torch.randn(3, 2), torch.randn(4, 3)
    remembered = {
        "model/embedding.weight": tied,
        "model/output.weight": tied,
        "extra/exchange/first_model": matrix[0],
        "extra/exchange/last_model": matrix[1],
        "extra/exchange/turned": matrix.T,
        "extra/exchange/nothing": torch.zeros(0),
        "extra/exchange/none": torch.zeros(0),
    }
    context, plan = RecordDict(), StatePlan(where, str(tmp_path))
    place = plan.open(context, "method", [7])
    assert place is not None
    place.write(7, remembered)
    place.commit()
    again = plan.open(context, "method", [7])
    assert again is not None
    read = again.read(7)
    assert read.keys() == remembered.keys()
    assert all(torch.equal(read[name], remembered[name]) for name in remembered)


def test_what_is_restored_is_aligned_as_what_was_made_here() -> None:
    made = ClientState(nn.Linear(2, 2), extras={"exchange/past": torch.randn(3)})
    read = {}
    for name, value in made.tensors().items():
        space = bytearray(4 * value.numel() + 4)
        read[name] = torch.frombuffer(space, dtype=torch.float32, offset=4).view(value.shape)
        read[name].copy_(value)
    assert any(value.data_ptr() % 64 for value in read.values())
    again = ClientState(nn.Linear(2, 2))
    again.restore(read, torch.optim.SGD)
    for name, value in again.tensors().items():
        assert torch.equal(value, read[name])
        assert value.data_ptr() % 64 == 0, "kernels round otherwise elsewhere"
