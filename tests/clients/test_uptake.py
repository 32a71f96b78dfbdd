"""A stage of uptake where the clients are: whose failure it is when their models say no numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from clients.uptake import UptakeStage
from fedfuse.errors import FedfuseError
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.types import Space, Teachers
from fedfuse.uptake import Chain, Clock, Gap, Homeostatic, OwnOrTeacher, TwoTeachers


@pytest.mark.parametrize(
    "stage", [Clock(), Gap(), Homeostatic(), TwoTeachers(), Chain([OwnOrTeacher(), Clock()])]
)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_predictions_that_are_no_numbers_are_their_clients(stage, number):
    inputs, logits = torch.zeros(3, 1), torch.zeros(2, 3, 4)
    logits[1, 2, 0] = number
    rounds = SimpleNamespace(labels=lambda _: None)
    samples = SimpleNamespace(public=lambda _: inputs, rounds=rounds)
    trainer = SimpleNamespace(predict=lambda *_: logits)
    held = [SimpleNamespace(client_id=i) for i in (3, 5)]
    counts, memory = torch.ones(2, 4, dtype=torch.int64), {3: {}, 5: {}}
    context = SharingContext("method", 2, torch.arange(3), counts, memory, Streams(0))
    sent = Teachers(torch.tensor([3, 5]), torch.full((2, 3, 4), 0.25), Space.PROBABILITIES)
    run = UptakeStage(stage, samples, trainer, 8, lambda bank, _: bank)
    with pytest.raises(FedfuseError, match="The predictions of client 5 on the public samples"):
        run(sent, held, context, lambda: logits)
    assert memory == {3: {}, 5: {}}
