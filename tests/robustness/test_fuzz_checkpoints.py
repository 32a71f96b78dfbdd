"""The short form of ``python -m experiments.benchmarks.fuzz checkpoints``."""

import pytest
import torch

from clients.state.state import ClientState
from experiments.benchmarks.fuzz import fuzz
from experiments.benchmarks.fuzz_checkpoints import checkpoint_case, optimiser
from fedfuse.errors import FedfuseError


def test_damaged_and_forged_checkpoints_are_found_out(tmp_path):
    findings = fuzz([checkpoint_case(tmp_path)], 80, seed=1)
    assert findings.crashes == []
    assert findings.slowest < 2
    for outcome in ("read", "read whole", "the one before counts", "refused"):
        assert findings.outcomes[outcome] > 2


@pytest.mark.parametrize(
    ("slot", "value"),
    [
        ("exp_avg", torch.zeros(1)),
        ("exp_avg", torch.tensor(0.0)),
        ("exp_avg_sq", torch.zeros(2, 2, dtype=torch.int8)),
        ("step", torch.zeros(2, 2)),
    ],
)
def test_moments_of_another_shape_do_not_reach_a_fused_kernel(slot, value):
    def made():
        return ClientState(torch.nn.Linear(2, 2))

    state = made()
    step = state.optimizer("main", optimiser)
    state.model(torch.ones(1, 2)).sum().backward()
    step.step()
    tensors = state.tensors()
    made().restore(tensors, optimiser)
    with pytest.raises(FedfuseError, match="does not fit its client"):
        made().restore(tensors | {f"optimizer/main/0/{slot}": value}, optimiser)
    del tensors["optimizer/main/0/exp_avg"]
    with pytest.raises(FedfuseError, match="does not fit its client"):
        made().restore(tensors, optimiser)
