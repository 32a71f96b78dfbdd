"""FedGen's server by hand: what a generator minimises, and what comes back."""

import math

import pytest
import torch

from clients.exchange import LatentFeatures
from fedfuse.errors import ParameterError
from fedfuse.exchange.heads import Heads
from fedfuse.exchange.kept_model import KeptModel
from fedfuse.exchange.latent_generator import (
    LatentGenerator,
    TakenForTheirLabels,
    TrainedGenerator,
    alike,
)
from fedfuse.layout import Layout
from fedfuse.rng import Streams


def server(diversity=1.0, steps=3) -> TrainedGenerator:
    kept = KeptModel("generator", lambda: LatentGenerator(3, 2, 4, 8), Streams(0))
    return TrainedGenerator(kept, steps, 4, 0.01, 0.0, diversity)


def sent(counts, *levels: float) -> Heads:
    heads = torch.stack([torch.full((3, 3), level) for level in levels])
    return Heads(torch.arange(len(levels)), heads, torch.tensor(counts))


def test_features_are_judged_by_all_last_layers_each_as_much_as_it_knows_the_class():
    # z = 2: one layer says (2, 0), the other (0, log 3); of class 0 they know 1/4 and 3/4.
    heads = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, math.log(3)]]])
    shares = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    targets = torch.tensor([[0.0, 0.3]])  # its label, its noise
    loss = TakenForTheirLabels(heads, shares, 0.5)(torch.tensor([[2.0]]), targets)
    expected = 0.25 * math.log(1 + math.exp(-2)) + 0.75 * math.log(4)
    assert loss.item() == pytest.approx(expected + 0.5), "one alone is like itself"


def test_features_of_unlike_noise_are_to_be_unlike():
    noise, same = torch.tensor([[0.0], [1.0]]), torch.ones(2, 3)
    assert alike(noise, same) == 1
    assert alike(noise, torch.tensor([[0.0], [2.0]])).item() == pytest.approx(math.exp(-1))
    assert alike(noise * 0, torch.tensor([[0.0], [2.0]])) == 1


def test_last_layers_are_averaged_by_samples_and_counts_stay_on_the_server():
    down = server()(sent([[30, 0, 0], [0, 10, 0]], 1.0, 3.0), 1).teachers
    assert torch.equal(down.heads, torch.full((2, 3, 3), 1.5))
    assert down.num_examples is None
    assert torch.equal(down.generator[0], down.generator[1])


def test_only_classes_that_somebody_had_are_ever_drawn():
    combine = server()
    combine(sent([[5, 0, 0]], 1.0), 1)
    vector = combine(sent([[0, 0, 7]], 1.0), 2).teachers.generator[0]
    model = LatentGenerator(3, 2, 4, 8)
    Layout.of(model).load(model, vector)
    assert model.seen.tolist() == [1, 0, 1]
    drawn = model.labels(200, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0, 2}


def test_it_learns_what_the_layers_take_for_their_labels():
    heads = Heads(torch.tensor([0]), torch.eye(3).unsqueeze(0) * 4, torch.tensor([[9, 9, 9]]))
    combine = server(diversity=0.0, steps=200)
    model = combine.kept.model
    draw = torch.Generator().manual_seed(1)
    labels = torch.arange(3).repeat(20)
    before = model.eval()(model.draw(labels, draw))
    combine(heads, 1)
    after = model.eval()(model.draw(labels, draw))
    right = [(side @ heads.heads[0, :, :2].T + heads.heads[0, :, 2]).argmax(1) == labels
             for side in (before, after)]  # fmt: skip
    assert right[0].float().mean() < 0.6
    assert right[1].all()


def test_nobody_has_samples():
    fusion = server()(sent([[0, 0, 0]], 1.0), 1)
    assert fusion.metrics == {"server_steps": 0.0}
    assert fusion.teachers.heads.isfinite().all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", -1), ("beta", -1), ("decay", 0), ("decay", 1.5), ("noise", 0), ("hidden", 0),
        ("diversity", -1), ("server_steps", 0), ("server_batch_size", 1),
        ("server_learning_rate", 0), ("server_weight_decay", -1),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(key, value):
    with pytest.raises(ParameterError, match=f"'{key}' parameter of LatentFeatures"):
        LatentFeatures(**{key: value})
