"""Many state files made one: what is in it is what was in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from fedfuse.files import state_files
from fedfuse.files.state_files import merged, state_header, state_owners, state_path

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


def test_a_header_is_read_once_and_believed_of_a_file_as_long_alone(monkeypatch):
    monkeypatch.setattr(state_files, "_believed", {})
    seen = []
    monkeypatch.setattr(state_files, "state_header", lambda c: seen.append(c) or state_header(c))
    content = merged({i: save(STATES[i]) for i in (3, 11)})
    seen.clear()  # of what was merged
    for end in (b"", b"\1"):  # the last tensor's last byte is another in the next round
        assert state_owners(content[: len(content) - len(end)] + end) == {3, 11}
    assert len(seen) == 1
    for other in (content + b"\0", content[:-1]):
        for _ in range(2):
            with pytest.raises(ValueError, match="its tensors have"):
                state_owners(other)
    monkeypatch.setattr(state_files, "_MOST_BELIEVED", 2)
    for i in range(5):
        assert state_owners(merged({i: save(STATES[3])})) == {i}
        assert len(state_files._believed) <= 2


def test_versions_arms_and_clients_have_files_of_their_own():
    names = {
        state_path(Path("folder"), arm, client_id, token).name
        for arm in ("knfu", "local")
        for client_id in (1, 11)
        for token in (1, 0x11)
    }
    assert len(names) == 8
