"""The chain between a client's predictions and its message."""

from dataclasses import replace

import pytest
import torch

from clients.sharing.chain import Sharing
from clients.state.state import ClientState
from fedfuse.errors import FedfuseError
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.testing.fusion import example_bank


def context(bank, memory=None):
    counts = torch.ones(bank.num_clients, bank.num_classes, dtype=torch.int64)
    index = torch.arange(bank.logits.shape[1])
    return SharingContext("method", 3, index, counts, memory or {}, Streams(0))


def test_without_stages_the_very_same_bank_goes_on():
    bank = example_bank(3, 5, 4)
    assert Sharing()(bank, context(bank)) is bank


def test_attack_comes_before_privacy():
    def negate(bank, _):
        return replace(bank, logits=-bank.logits)

    def clip(bank, _):
        return replace(bank, logits=bank.logits.clamp_min(0))

    bank = example_bank(3, 5, 4)
    sent = Sharing(attack=negate, privacy=clip)(bank, context(bank))
    assert torch.equal(sent.logits, (-bank.logits).clamp_min(0))


def test_a_stage_remembers_per_client_and_draws_from_the_clients_stream():
    def noisy(bank, scene):
        rows = []
        for row, client_id in zip(bank.logits, bank.client_ids.tolist(), strict=True):
            scene.memory[client_id]["noisy/sent"] = row
            rows.append(row + torch.randn(row.shape, generator=scene.generator(client_id, "noise")))
        return replace(bank, logits=torch.stack(rows))

    bank = example_bank(3, 5, 4)
    memory = {i: {} for i in bank.client_ids.tolist()}
    together = Sharing(privacy=noisy)(bank, context(bank, memory))
    alone = bank.rows(torch.tensor([1]))
    sent = Sharing(privacy=noisy)(alone, context(alone, memory))
    assert torch.equal(sent.logits[0], together.logits[1])
    assert torch.equal(memory[int(bank.client_ids[2])]["noisy/sent"], bank.logits[2])


def test_a_stage_that_loses_a_client_is_named():
    def lossy(bank, _):
        return bank.rows(torch.tensor([0]))

    bank = example_bank(3, 5, 4)
    with pytest.raises(FedfuseError, match="lossy did not return"):
        Sharing(attack=lossy)(bank, context(bank))


def test_a_client_state_takes_what_stages_remember_with_it():
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    state, other = ClientState(torch.nn.Linear(2, 2)), ClientState(torch.nn.Linear(2, 2))
    state.extras["delta/symbols"] = torch.tensor([3, 1])
    other.extras["stale"] = torch.zeros(1)
    other.restore(state.tensors(), sgd)
    assert list(other.extras) == ["delta/symbols"]
    assert torch.equal(other.extras["delta/symbols"], torch.tensor([3, 1]))
