"""Plans from parts, their description, and the trial of a freshly built model."""

from functools import partial

import pytest
import torch
from torch import nn

from fedfuse.errors import ModelError
from fedfuse.models.assign import Cycle, Same
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.plan import as_plan, build_checked, describe

SHAPE = (1, 12, 12)


def flatten_then(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


def build(target, *, client_id=0, shape=SHAPE, num_classes=10, entropy=1):
    return build_checked(Same(target), client_id, shape, num_classes, entropy)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_as_plan_wraps_factories_and_classes_and_leaves_plans_alone():
    plan = Cycle({"mlp": mlp})
    assert as_plan(plan) is plan
    assert as_plan(partial(mlp, hidden=3), "small").name(0) == "small"
    assert as_plan(mlp).name(0) == "mlp"
    assert isinstance(as_plan(nn.Identity).build(0, SHAPE, 3), nn.Identity)


def test_as_plan_takes_a_users_own_plan():
    class Mine:
        def name(self, client_id):
            return f"net{client_id}"

        def build(self, client_id, input_shape, num_classes):
            return mlp(input_shape, num_classes, hidden=client_id + 1)

    assert describe(as_plan(Mine()), 2) == "net0 x 1, net1 x 1"


@pytest.mark.parametrize("part", [nn.Linear(2, 2), "mlp", None, 3])
def test_as_plan_refuses_the_rest(part):
    with pytest.raises(ModelError):
        as_plan(part)


def test_describe():
    assert describe(Same(lenet5), 3) == "lenet5"
    assert describe(Cycle({"mlp": mlp, "lenet5": lenet5}), 1) == "mlp"
    assert describe(Cycle({"mlp": mlp, "lenet5": lenet5}), 3) == "mlp x 2, lenet5 x 1"


def test_same_entropy_same_weights():
    assert torch.equal(weights(build(lenet5)), weights(build(lenet5, client_id=5)))
    assert not torch.equal(weights(build(lenet5)), weights(build(lenet5, entropy=2)))
    build(lenet5, entropy=2**63 - 1)  # all that Streams.entropy may return


def test_the_callers_random_numbers_stay_what_they_were():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build(mlp)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(7)
    with pytest.raises(ModelError):
        build(lambda: flatten_then(nn.Linear(3, 3)))
    assert torch.equal(torch.rand(3), expected)


def test_the_trial_leaves_the_model_untouched():
    model = build(lambda num_classes: flatten_then(nn.Linear(144, num_classes), nn.BatchNorm1d(10)))
    assert model.training
    assert int(model[2].num_batches_tracked) == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_lazy_layers_get_reproducible_weights():
    def lazy(num_classes):
        return flatten_then(nn.LazyLinear(num_classes))

    first, second = build(lazy), build(lazy)
    assert first[1].in_features == 144
    assert torch.equal(weights(first), weights(second))


class TwoOutputs(nn.Linear):
    def __init__(self):
        super().__init__(12, 10)

    def forward(self, x):
        return super().forward(x), x


class InPlace(nn.Linear):
    def forward(self, x):
        x.flatten(1).mul_(2)
        return super().forward(x.flatten(1))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: InPlace(144, 10), "changes the inputs that it is given.*x = x . 2 for x .= 2"),
        (lambda: nn.Sequential(nn.ReLU(inplace=True), flatten_then(nn.Linear(144, 10))), "changes"),
        (lambda: flatten_then(nn.Linear(144, 7)), r"\[2, 7\].*\[2, 10\] for 2 inputs"),
        (lambda: nn.Linear(12, 10), r"\[2, 1, 12, 10\].*\[2, 10\]"),  # keeps the image's shape
        (lambda: flatten_then(nn.Linear(100, 10)), r"cannot take a batch.*\[2, 1, 12, 12\]"),
        (TwoOutputs, "does not return a tensor: got tuple"),
        (lambda: nn.Conv2d(1, 10, 50), "cannot take a batch.*RuntimeError"),
        (lambda: nn.Conv2d(3, 10, 3, groups=2), "cannot be built: got ValueError"),
        (lambda: flatten_then(nn.Linear(-1, 3)), "cannot be built: got RuntimeError"),
        (lambda: 3, "is no model: got int"),
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 10)), nn.Flatten()), "no parameters"),
        (nn.Module, "cannot be built: got TypeError"),
    ],
)
def test_a_model_that_cannot_work_is_refused(target, message):
    with pytest.raises(ModelError, match=message) as caught:
        build_checked(Same(target, "net"), 4, SHAPE, 10, 1)
    assert "'net' of client 4" in str(caught.value)
    assert "\n" not in caught.value.message


def test_integers_are_no_logits():
    class Votes(nn.Linear):
        def __init__(self):
            super().__init__(144, 10)

        def forward(self, x):
            return super().forward(x.flatten(1)).long()

    with pytest.raises(ModelError, match="int64 of shape"):
        build(Votes)


def test_a_factorys_own_message_passes():
    with pytest.raises(ModelError, match="at least 12 pixels"):
        build(lenet5, shape=(1, 8, 8))
