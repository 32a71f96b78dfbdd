"""FedTGP's server by hand: one step of prototypes that are to lie apart."""

import math

import pytest
import torch

from clients.exchange import Prototypes
from fedfuse.errors import ParameterError
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.trained_prototypes import Trained, TrainedPrototypes, WithMargin


def begun(how: Trained) -> TrainedPrototypes:
    """Return prototypes 1 and 4 of two classes: all weights 1, no bias."""
    trained = how.of(num_classes=2, size=1)
    state = {"network.0.weight": [[1.0]], "network.0.bias": [0.0]}
    state |= {"network.2.weight": [[1.0]], "network.2.bias": [0.0], "vectors": [[1.0], [4.0]]}
    trained.kept.restore({name: torch.tensor(value) for name, value in state.items()})
    return trained


def sent(value: float, *, owned: bool = True) -> ClassKnowledge:
    values, present = torch.tensor([[[value], [9.0]]]), torch.tensor([[owned, False]])
    return ClassKnowledge(torch.tensor([2]), values, present)


def test_a_prototype_draws_its_class_near_and_pushes_the_other_away():
    # What was sent lies at 2: distances 1, with the margin 2, and 2, so both weigh 1/2. Of the
    # prototypes' slopes -1/2 each, vectors get 0.1, weights 0.2 (1/2 + 4/2) and biases 0.2 (1/2 2).
    fusion = begun(Trained(margin=1.0, epochs=1, learning_rate=0.2))(sent(2.0), 1)
    near, far = 1.5 * (1.5 * 1.1 + 0.2) + 0.2, 1.5 * (1.5 * 4.1 + 0.2) + 0.2
    torch.testing.assert_close(fusion.teachers.values, torch.tensor([[[near], [far]]]))
    assert fusion.teachers.present.all(), "a class that nobody owns has one, too"
    assert fusion.metrics == {"server_steps": 1.0, "margin": 1.0}


def test_the_margin_makes_a_near_prototype_count_as_far():
    loss = WithMargin(3.0)(torch.tensor([[-1.0, -2.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp((1 + 3) - 2)))


def test_prototypes_where_they_should_be_already_give_finite_slopes():
    fusion = begun(Trained(margin=0.0, epochs=3))(sent(1.0), 1)
    assert fusion.teachers.values.isfinite().all()
    nobody = begun(Trained(epochs=3))(sent(1.0, owned=False), 1)
    assert nobody.teachers.values.flatten().tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Trained(margin=-1), "margin"),
        (lambda: Trained(epochs=0), "epochs"),
        (lambda: Trained(batch_size=0), "batch_size"),
        (lambda: Trained(learning_rate=0), "learning_rate"),
        (lambda: Prototypes(by_count=True, trained=Trained()), "by_count.*trained"),
    ],
)
def test_settings_that_make_no_sense(wrong, says):
    with pytest.raises(ParameterError, match=says):
        wrong()
