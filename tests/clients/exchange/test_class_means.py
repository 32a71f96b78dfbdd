"""What leaves a client of its classes' means, by hand, and the noise on it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clients.exchange import Prototypes
from fedfuse.errors import ParameterError
from fedfuse.rng import Streams
from fedfuse.train.trainer import LoopTrainer, Student


def client() -> tuple[Student, SimpleNamespace]:
    """Return a client with samples 1 and 3 of class 0 of two; its logits are (2x, 0)."""
    head = nn.Linear(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0], [0.0]]))
        head.bias.zero_()
    student = Student(0, "linear", head, torch.optim.SGD(head.parameters(), lr=0.1))
    samples = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0])
    data = SimpleNamespace(num_classes=2, clients=[None])
    inputs = SimpleNamespace(data=data, private=lambda _: [samples])
    plan, streams = SimpleNamespace(eval_batch_size=8), Streams(0)
    trainer = LoopTrainer()
    return student, SimpleNamespace(inputs=inputs, plan=plan, streams=streams, trainer=trainer)


def share(round_: int = 1, **settings):
    student, tools = client()
    return Prototypes(**settings).share([student], tools, round_)


def test_mean_predictions_travel_behind_mean_features():
    sent = share(soft_weight=1.0, temperature=2.0)
    said = (torch.tensor([1.0]).sigmoid() + torch.tensor([3.0]).sigmoid()).item() / 2
    expected = torch.tensor([[[2.0, said, 1 - said], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(sent.values, expected)
    assert sent.present.tolist() == [[True, False]]
    assert sent.num_examples is None


def test_noise_is_on_features_of_classes_that_there_are_and_new_in_every_round():
    plain, noisy = share(soft_weight=1.0), share(soft_weight=1.0, noise=0.5)
    moved = noisy.values - plain.values
    assert moved[0, 0, 0] != 0
    assert moved.count_nonzero() == 1
    torch.testing.assert_close(share(soft_weight=1.0, noise=1.0).values - plain.values, 2 * moved)
    assert share(2, soft_weight=1.0, noise=0.5).values[0, 0, 0] != noisy.values[0, 0, 0]
    assert share(noise=0.5).values.shape == (1, 2, 1)


@pytest.mark.parametrize("key", ["soft_weight", "noise", "temperature"])
def test_settings_that_make_no_sense(key):
    with pytest.raises(ParameterError, match=f"'{key}' parameter of Prototypes"):
        Prototypes(**{key: -1})
