"""A client's state that waits on disk is what was written, however its tensors lie in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from flwr.app import RecordDict

from clients.state.state_store import StatePlan
from fedfuse.files.state_files import state_header, state_path


def test_tied_strided_and_mixed_tensors_come_back_from_disk(tmp_path: Path) -> None:
    weights = torch.arange(12.0).view(3, 4)
    tensors = {
        "model/weight": weights,
        "model/tied": weights,
        "model/turned": weights.T,
        "model/row": weights[1],
        "model/half": weights.half(),
        "optimizer/main/0/step": torch.tensor(3.0),
        "extra/told": torch.tensor([True, False]).expand(3, 2),
        "extra/empty": torch.zeros(0, 4),
    }
    context = RecordDict()
    place = StatePlan("disk", str(tmp_path)).open(context, "method", [5])
    assert place is not None
    token = place.write(5, tensors)
    place.commit()
    again = StatePlan("disk", str(tmp_path)).open(context, "method", [5])
    assert again is not None
    assert again.token(5) == token
    read = again.read(5)
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    header = state_header(state_path(tmp_path, "method", 5, token).read_bytes())
    assert header.keys() == tensors.keys()
