"""What clients remember as bytes: every type and layout of numbers comes back."""

from __future__ import annotations

import pytest
import torch

from clients.state.serialisation import packed, unpacked
from fedfuse.errors import FedfuseError
from fedfuse.files.state_files import state_owners

IMAGE = torch.arange(72.0).view(2, 4, 3, 3).to(memory_format=torch.channels_last)
STATES = {
    3: {
        "model/weight": IMAGE,
        "model/transposed": torch.arange(6.0).view(2, 3).t(),
        "optimizer/main/0/step": torch.tensor(2.0),
        "extra/flag": torch.tensor([True, False, True]),
        "extra/count": torch.tensor(5),
        "extra/half": torch.arange(3).bfloat16(),
        "extra/double": torch.tensor([0.1], dtype=torch.float64),
        "extra/nothing": torch.zeros(0, 4),
        "extra/bytes": torch.tensor([7], dtype=torch.uint8),
    },
    12: {"model/weight": IMAGE[:1] + 1},
}


def test_what_is_packed_is_unpacked_and_believed_on_arrival():
    content = packed(STATES)
    assert state_owners(content) == {3, 12}
    found = unpacked(content, [3, 12])
    for client_id, tensors in STATES.items():
        assert found[client_id].keys() == tensors.keys()
        for name, value in tensors.items():
            assert found[client_id][name].dtype == value.dtype
            assert torch.equal(found[client_id][name], value), name
    begin = 8 + int.from_bytes(content[:8], "little")
    assert begin % 8 == 0  # numbers lie where their type wants them


def test_who_remembers_nothing_has_no_tensors():
    assert unpacked(packed({5: {}}), [5]) == {5: {}}
    with pytest.raises(FedfuseError, match="does not fit"):
        unpacked(packed(STATES), [3])
