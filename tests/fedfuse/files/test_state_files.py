"""Many state files made one: what is in it is what was in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from fedfuse.files.state_files import merged, state_path

STATES = {
    3: {
        "model/weight": torch.randn(5, 3),
        "model/flags": torch.tensor([True, False, True]),  # three bytes: what follows is unaligned
        "optimizer/main/0/step": torch.tensor(7.0),
        "extra/none": torch.empty(0, 4),
    },
    11: {"model/weight": torch.randn(2).to(torch.bfloat16), "model/steps": torch.tensor(2**40)},
}


@pytest.mark.parametrize("ids", [(3,), (3, 11), (11, 3), ()])
def test_nothing_is_lost_or_changed(ids):
    found = load(merged({i: save(STATES[i]) for i in ids}))
    wanted = {f"{i}/{name}": value for i in ids for name, value in STATES[i].items()}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 20, save(STATES[3])[:40]])
def test_what_is_no_state_file_is_refused(content):
    with pytest.raises(ValueError, match="client 5"):
        merged({5: content})


def test_versions_arms_and_clients_have_files_of_their_own():
    names = {
        state_path(Path("folder"), arm, client_id, token).name
        for arm in ("knfu", "local")
        for client_id in (1, 11)
        for token in (1, 0x11)
    }
    assert len(names) == 8
