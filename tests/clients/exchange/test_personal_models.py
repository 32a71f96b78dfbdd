"""pFedMe and APFL by hand: one weight, one sample, loss (w x - y)^2 / 2 written out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clients.exchange import APFL, PFedMe
from clients.exchange.apfl import Mixed, Mixture, adapting
from clients.exchange.models import SideBySide, Twins
from fedfuse.errors import ParameterError
from fedfuse.train.loop import fit
from fedfuse.train.trainer import Student
from fedfuse.train.work import Schedule, Work


def weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def halved_square(logits, targets):
    return ((logits - targets) ** 2).sum(dim=1) / 2


def client(twins: nn.Module, lr: float) -> tuple[Student, SimpleNamespace]:
    memory: dict[str, torch.Tensor] = {}
    student = Student(0, "linear", twins, torch.optim.SGD(twins.parameters(), lr=lr))
    return student, SimpleNamespace(memory=lambda _: memory)


def steps(number: int) -> Work:
    """Return steps on the one sample x = 1, y = 2."""
    order = torch.zeros(number, dtype=torch.int64)
    plan = Schedule(order, (1,) * number)
    return Work(torch.ones(1, 1), torch.full((1, 1), 2.0), halved_square, plan)


def take_all(tasks):
    for student, work in tasks:
        fit(student.model, student.optimizer, work)


def numbers(student) -> tuple[float, float]:
    return student.model.shared.weight.item(), student.model.personal.weight.item()


def test_pfedme_follows_every_second_step_and_once_more_before_it_shares():
    # w = v = 0, lambda = 1, eta = 1/2, v <- v - (v - 2 + v - w) / 4:
    # v 0.5, 0.75; w = 0.375; v = 0.75 - (-1.25 + 0.375) / 4 = 0.96875; then w half of the way.
    way = PFedMe(lam=1.0, eta=0.5, inner_steps=2)
    student, tools = client(Twins(weight(0.0)), lr=0.25)
    way.begin_round(student, tools)
    take_all(way.together([student], [steps(3)], tools))
    assert numbers(student) == (0.375, 0.96875)
    way._settle(student, tools)
    assert numbers(student) == (0.671875, 0.96875)
    way._settle(student, tools)  # there is nothing left to follow
    assert numbers(student) == (0.671875, 0.96875)
    way.begin_round(student, tools)
    assert numbers(student) == (0.671875, 0.671875), "a round begins at the shared model"


def test_pfedme_begins_where_warm_up_has_left_off_and_before_that_with_the_average():
    student, tools = client(Twins(weight(3.0), weight(5.0)), lr=0.25)
    PFedMe().begin_round(student, tools)
    assert numbers(student) == (5.0, 5.0)
    rests, tools = client(Twins(weight(3.0), weight(5.0)), lr=0.25)
    PFedMe().took(rests, tools)
    assert numbers(rests) == (3.0, 3.0)


def test_apfl_moves_the_shared_model_by_its_own_loss_and_the_other_by_the_mixtures():
    # w = 1, v = 3, alpha = 1/4: u = 1.5. grad f(w) = -1, grad f(u) = -0.5; by v a quarter of it.
    way = APFL(alpha=0.25, alpha_rate=0.0)
    student, tools = client(Mixed(weight(1.0), 0.25), lr=0.5)
    nn.init.constant_(student.model.personal.weight, 3.0)
    take_all(way.together([student], [steps(1)], tools))
    assert numbers(student) == (1.5, 3.0625)
    assert student.model(torch.ones(1, 1)).item() == 0.75 * 1.5 + 0.25 * 3.0625


def test_apfl_share_descends_once_a_round_and_stays_a_share():
    # <v - w, grad f(u)> = 2 * -0.5 = -1: alpha goes up by the rate, before the first step only.
    for rate, alpha in ((0.125, 0.375), (9.0, 1.0)):
        mixed = Mixed(weight(1.0), 0.25)
        nn.init.constant_(mixed.personal.weight, 3.0)
        before = adapting(halved_square, rate)
        for step in range(3):
            inputs, targets = torch.ones(1, 1), torch.full((1, 1), 2.0)
            before(step, SideBySide(mixed).train(), inputs, targets, None)
        assert mixed.alpha.item() == alpha
        assert mixed.training
        assert all(parameter.grad is None for parameter in mixed.parameters())


def test_apfl_is_judged_by_the_mixture_which_is_one_model_of_the_architecture():
    way = APFL(alpha=0.25)
    student, tools = client(Mixed(weight(1.0), 0.25), lr=0.5)
    nn.init.constant_(student.model.personal.weight, 3.0)
    (alone,) = way.evaluation_models([student], tools, None)
    assert alone.model is student.model.personal, "before the first exchange"
    way.took(student, tools)
    (judged,) = way.evaluation_models([student], tools, None)
    assert {k: v.item() for k, v in judged.model.state_dict().items()} == {"weight": 1.5}
    assert judged.model(torch.ones(1, 1)).item() == 1.5
    fit(judged.model, student.optimizer, steps(1))  # as where no answer came
    assert numbers(student) == (1.0, 3.0625)


def test_a_mixture_of_batch_norm_layers_has_the_statistics_of_what_it_saw():
    mixed = Mixed(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 0.5)
    mixed.train()(torch.randn(8, 2))
    state = Mixture(mixed).state_dict()
    assert state.keys() == mixed.personal.state_dict().keys()
    assert state["1.num_batches_tracked"] == 1
    assert mixed.shared[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: PFedMe(lam=0), "lam"),
        (lambda: PFedMe(eta=0.1), r"eta.*at most 1 / lam = 0.0666667"),
        (lambda: PFedMe(inner_steps=0), "inner_steps"),
        (lambda: PFedMe(budget="time"), "budget"),
        (lambda: APFL(alpha=1.5), "alpha"),
        (lambda: APFL(alpha_rate=-1), "alpha_rate"),
        (lambda: APFL(mixed="all"), "mixed"),
        (lambda: APFL(buffers="all"), "buffers"),
    ],
)
def test_settings_that_make_no_sense(wrong, says):
    with pytest.raises(ParameterError, match=says):
        wrong()
