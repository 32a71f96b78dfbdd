"""Where clients' states wait: what is read is what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flwr.app import RecordDict

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
