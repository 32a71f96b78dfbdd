"""The choice of an architecture without training: its scores by hand, who wins, what is refused."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from fedfuse.errors import ModelError, ParameterError
from fedfuse.models.cnn import cnn2
from fedfuse.models.mlp import mlp
from fedfuse.models.plan import describe
from fedfuse.models.resnet import resnet8
from fedfuse.models.zero_cost import ZeroCost, class_score, head_gradient, relation_score

SHAPE = (1, 8, 8)
CANDIDATES = {
    "mlp": partial(mlp, hidden=30),  # 3,190 parameters; cnn2 has 1,046, resnet8 19,074
    "cnn2": partial(cnn2, width=4, hidden=16),
    "resnet8": partial(resnet8, width=8),
}
EVERYBODY = 10**6


def chosen(num_clients=1, **changes):
    settings = {"max_parameters": EVERYBODY, "seed": 0, "batch": 16, **changes}
    candidates = settings.pop("candidates", CANDIDATES)
    return ZeroCost(candidates, num_clients, **settings).at_shape(SHAPE, 10)


def test_L1_relation_score_by_hand():
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert relation_score(torch.eye(2), student) == pytest.approx(-0.292893, abs=1e-5)
    assert relation_score(student, 7 * student) == 0  # rows have length 1
    assert relation_score(torch.eye(2), torch.eye(2, 5)) == 0  # features may differ in number
    assert relation_score(torch.eye(2), torch.zeros(2, 3)) == pytest.approx(-0.5)  # all dead: 0 / 0


def test_L1_class_score_by_hand():
    # (p - y) F / b with p = (1/2, 1/2): rows +-(f_1 - f_2) / 4 of labels 0 and 1.
    features, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    gradient = head_gradient(torch.zeros(2, 2), features, labels)
    torch.testing.assert_close(gradient, torch.tensor([[-1, 1], [1, -1]]).double() / 4)
    # Relations (1, -1)/sqrt 2 and its opposite, against those of independent classes: each row
    # (1/sqrt 2 - 1)^2 + 1/2, and C * b = 2 * 5.
    by_row = (1 / math.sqrt(2) - 1) ** 2 + 0.5
    assert class_score(torch.eye(2), gradient, 5) == pytest.approx(-2 * by_row / 10, abs=1e-6)


def test_L1_head_gradient_is_what_autograd_says():
    layer, features = nn.Linear(6, 3).double(), torch.randn(9, 6).double()
    labels, logits = torch.arange(9) % 3, layer(features)
    nn.functional.cross_entropy(logits, labels).backward()
    torch.testing.assert_close(head_gradient(logits.detach(), features, labels), layer.weight.grad)


@pytest.mark.parametrize("score", ["relation", "class", "both"])
@pytest.mark.parametrize("teacher", ["largest", *CANDIDATES])
def test_L1_a_teacher_within_the_budget_is_its_own_best_student(score, teacher):
    expected = "resnet8" if teacher == "largest" else teacher
    assert describe(chosen(score=score, teacher=teacher), 1) == expected


def test_L1_among_smaller_ones_the_best_score_wins():
    twin = partial(resnet8, width=7)  # of the teacher's kind
    with_twin = {"mlp": CANDIDATES["mlp"], "twin": twin, "resnet8": CANDIDATES["resnet8"]}
    for seed in range(3):
        plan = chosen(candidates=with_twin, max_parameters=17_000, seed=seed)
        assert describe(plan, 1) == "twin"


def test_L1_a_budget_for_each_client():
    plan = chosen(5, max_parameters=[EVERYBODY, 1_050])
    assert [plan.name(client) for client in range(5)] == ["resnet8", "cnn2"] * 2 + ["resnet8"]
    assert sum(p.numel() for p in plan.build(1, SHAPE, 10).parameters()) == 1_046


def test_L1_the_same_choice_in_every_process_and_no_one_elses_random_numbers():
    torch.manual_seed(1)
    one = chosen(score="both", max_parameters=17_000)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(2)
    assert chosen(score="both", max_parameters=17_000).table == one.table


def test_L1_refusals():
    with pytest.raises(ModelError, match=r"max_parameters: got 9, .*mlp has 3,190, cnn2 has"):
        chosen(max_parameters=[EVERYBODY, 9])

    class Headless(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(10))

        def forward(self, x):
            return x.flatten(1)[:, :10] * self.scale

    class Image(nn.Linear):  # its last linear layer, itself, is given images
        def __init__(self):
            super().__init__(8, 10)

        def forward(self, x):
            return super().forward(x).flatten(1, 2).mean(dim=1)

    class Huge(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head(x.flatten(1) * 1e30) * 1e30

    with pytest.raises(ModelError, match=r"Headless.*Leave it out: ~model.candidates.mine"):
        chosen(candidates={"mine": Headless})
    with pytest.raises(ModelError, match=r"inputs \[16, 1, 8, 8\] of its last.*Leave it out"):
        chosen(candidates={"mine": Image})
    with pytest.raises(ModelError, match=r"'mine'.*finite numbers.*Leave it out"):
        chosen(candidates={"mine": Huge})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_parameters", 0),
        ("max_parameters", []),
        ("max_parameters", [True]),
        ("max_parameters", "many"),
        ("teacher", "lenet"),
        ("batch", 1),
        ("score", "relations"),
        ("seed", -1),
        ("candidates", {}),
    ],
)
def test_L1_bad_settings(name, value):
    with pytest.raises(ParameterError, match=f"'{name}'"):
        chosen(**{name: value})
