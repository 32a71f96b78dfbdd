"""The losses that clients minimise where they exchange something else than predictions."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clients.exchange.class_logits import TaughtByClass
from clients.exchange.models import BesideItsPast, Twins, near
from clients.exchange.mutual import MutualLoss, SideBySide
from clients.exchange.prototypes import AsTheOthersSay, ByPrototype, NearPrototypes
from fedfuse.distill.not_true import NotTrue
from fedfuse.errors import ModelError
from fedfuse.local_loss import cross_entropy
from fedfuse.models.cnn import cnn2
from fedfuse.models.features import WithFeatures, feature_size
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.resnet import resnet8
from fedfuse.train.loop import fit
from fedfuse.train.work import Work, schedule


def fd(logits, labels, soft, gamma=1.0, temperature=1.0):
    """Return FD's losses; soft has the teacher of each class, zeros where there is none."""
    hard = F.one_hot(labels, soft.shape[1]).float()
    return TaughtByClass(gamma, temperature)(logits, torch.cat([hard, soft[labels]], dim=1))


def test_fd_by_hand():
    soft, labels = torch.tensor([[3 / 4, 1 / 4], [0.0, 0.0]]), torch.tensor([0, 0, 1])
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [5.0, -5.0]])
    plain = F.cross_entropy(logits, labels, reduction="none")
    # Of even logits log 2; of the teacher's own its entropy; of a class without one nothing.
    extra = torch.tensor([math.log(2), 0.562335, 0.0])
    torch.testing.assert_close(fd(logits, labels, soft, gamma=0.5), plain + extra / 2)
    # At T = 2 the odds are sqrt 3 : 1 on both sides: p = 0.633975, entropy 0.656715
    p = math.sqrt(3) / (1 + math.sqrt(3))
    warm = fd(logits[1:2], labels[:1], torch.tensor([[p, 1 - p]]), temperature=2.0) - plain[1]
    assert warm.item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=1e-6)


def test_fd_of_a_class_without_a_teacher_has_the_labels_gradient_alone():
    labels, logits = torch.tensor([0, 1]), torch.randn(2, 2)
    soft = torch.tensor([[0.9, 0.1], [0.0, 0.0]])
    gradient = torch.func.grad(lambda z: fd(z, labels, soft).sum())(logits)
    plain = torch.func.grad(lambda z: F.cross_entropy(z, labels, reduction="sum"))(logits)
    torch.testing.assert_close(gradient[1], plain[1])
    assert not torch.allclose(gradient[0], plain[0])


def test_prototypes_pull_features_and_leave_classes_without_one_alone():
    sides = torch.tensor([[0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 1.0, 3.0]])  # 2 logits, 2 features
    prototypes, present = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.tensor([True, False])
    losses = NearPrototypes(2, prototypes, present, 0.1)(sides, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(2) + 0.1 * 5, math.log(2)])


def test_fedhkd_holds_the_last_layer_to_what_the_others_say_of_their_mean_features():
    head = nn.Linear(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [0.0]]))
        head.bias.zero_()
    # At T = 1/2 it says (3/4, 1/4) of the one class and (1/2, 1/2) of the other; T squared is 1/4.
    features, said = torch.tensor([[math.log(3) / 2], [0.0]]), torch.full((2, 2), 0.5)
    term = AsTheOthersSay(head, features, said, 4.0, 0.5)(nn.Identity())
    kl = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert term.item() == pytest.approx(4 * kl / 2)
    term.backward()
    assert head.bias.grad[0] == pytest.approx(4 * 0.25 * 2 / 2)


def test_the_nearest_prototype_decides_and_absent_classes_never_win():
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 3))
    prototypes = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 0.0]])
    judge = ByPrototype(model, 3, prototypes, torch.tensor([True, True, False]))
    scores = judge(torch.tensor([[1.0, 0.0], [3.5, 0.0]]))
    assert scores.argmax(1).tolist() == [0, 1]
    assert scores[0].tolist() == [-1, -3, -13]


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_mutual_learning_by_hand_and_each_model_moves_by_its_own_loss_only(t):
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]], requires_grad=True)  # private, small
    label = torch.tensor([0])
    loss = MutualLoss(0.25, 0.5, t)(logits, label)
    q, s = (torch.tensor([2.0, 0.0]) / t).softmax(0), torch.tensor([0.5, 0.5])
    p = torch.tensor([2.0, 0.0]).softmax(0)  # labels are matched at temperature 1
    kl_sp, kl_ps = t**2 * (s * (s / q).log()).sum(), t**2 * (q * (q / s).log()).sum()
    ce_p, ce_s = -p[0].log(), -s[0].log()
    expected = 0.25 * ce_p + 0.75 * kl_sp + 0.5 * ce_s + 0.5 * kl_ps
    torch.testing.assert_close(loss[0], expected)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    onehot = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(gradient[0, :2], 0.25 * (p - onehot) + 0.75 * t * (q - s))
    torch.testing.assert_close(gradient[0, 2:], 0.5 * (s - onehot) + 0.5 * t * (s - q))


def test_one_mutual_step_moves_both_models():
    torch.manual_seed(0)
    twins = Twins(shared=nn.Linear(3, 2), personal=nn.Linear(3, 2))
    before = [p.detach().clone() for p in twins.parameters()]
    fit(
        SideBySide(twins),
        torch.optim.SGD(twins.parameters(), lr=0.1),
        Work(
            torch.randn(4, 3),
            torch.tensor([0, 1, 0, 1]),
            MutualLoss(0.5, 0.5),
            schedule(4, 4, 1, torch.Generator()),
        ),
    )
    assert all(not torch.equal(a, b) for a, b in zip(before, twins.parameters(), strict=True))


def moved(strength):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    start = model.weight.detach().clone()
    work = Work(
        torch.randn(32, 3),
        torch.randint(2, (32,)),
        lambda z, y: F.cross_entropy(z, y, reduction="none"),
        schedule(32, 8, 40, torch.Generator().manual_seed(0)),
        penalty=near(model, strength) if strength is not None else None,
    )
    fit(model, torch.optim.SGD(model.parameters(), lr=0.2), work)
    return float((model.weight.detach() - start).norm())


def test_the_proximal_term_holds_a_model_near_where_it_started():
    assert moved(0.0) == moved(None)
    assert moved(0.0) > 1.5 * moved(0.5) > 2 * moved(3.0) > 0


def test_the_personal_twin_is_the_model_and_neither_moves_the_other():
    twins = Twins(nn.Linear(2, 2))
    with torch.no_grad():
        twins.shared.weight.zero_()
    x = torch.randn(3, 2)
    assert torch.equal(twins(x), twins.personal(x))
    assert not torch.equal(twins.personal.weight, twins.shared.weight)


@pytest.mark.parametrize(
    ("factory", "size"), [(mlp, 200), (lenet5, 84), (cnn2, 512), (resnet8, 64)]
)
def test_features_are_what_the_last_layer_sees(factory, size):
    model = factory((1, 28, 28), 10).eval()
    d = feature_size(model, 10)
    inputs = torch.randn(2, 1, 28, 28)
    sides = WithFeatures(model, 10)(inputs)
    assert sides.shape == (2, 10 + d)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    torch.testing.assert_close(head(sides[:, 10:]), sides[:, :10])
    assert d == size or factory is cnn2


def test_a_model_that_does_not_end_in_a_linear_layer_has_no_features():
    with pytest.raises(ModelError, match="3 outputs, defined last"):
        feature_size(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), 3)


def test_fedntd_keeps_what_was_said_beside_the_label_by_hand():
    now = torch.tensor([[9.0, 0.0, 2.0]], requires_grad=True)
    before = torch.tensor([[-5.0, 0.0, 0.0]], requires_grad=True)
    loss = NotTrue(0.5, 2.0, cross_entropy)(torch.cat([now, before], 1), torch.tensor([0]))
    # Beside label 0 at T = 2: before (1/2, 1/2), now (1, e) / (1 + e); T squared is 4.
    e = math.e
    kept = math.log(1 / 2) - 0.5 * (math.log(1 / (1 + e)) + math.log(e / (1 + e)))
    label = math.log(math.exp(9) + 1 + math.exp(2)) - 9
    assert loss.item() == pytest.approx(label + 0.5 * 4 * kept)
    loss.sum().backward()
    assert before.grad is None or not before.grad.any()  # a fixed teacher
    same = NotTrue(3.0, 1.0, cross_entropy)(torch.cat([now, now], 1), torch.tensor([0]))
    assert same.item() == pytest.approx(label, abs=1e-6)


def test_what_a_model_was_stands_beside_it_whatever_becomes_of_it():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    x, both = torch.randn(8, 3), BesideItsPast(net)
    was = net.eval()(x).detach()
    assert torch.equal(both(x), torch.cat([was, was], 1))
    both.train()
    net[1].running_mean += 1
    with torch.no_grad():
        net[3].weight.zero_()
    assert torch.equal(both(x)[:, 2:], was)
    assert len(list(both.parameters())) == len(list(net.parameters()))


def test_fedkd_weighs_what_is_matched_by_how_unsure_both_models_are():
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], requires_grad=True)
    loss = MutualLoss(0.3, 0.9, adaptive=True)(logits, torch.tensor([0, 1]))
    a, b, half = math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1)), math.log(2)
    unsure = (a + half) / 2 + (half + b) / 2  # the batch's mean losses of both
    p, h = torch.tensor([2.0, 0.0]).softmax(0), torch.tensor([0.5, 0.5])
    kl = float((p * (p / h).log()).sum() + (h * (h / p).log()).sum())
    assert loss[0].item() == pytest.approx(a + half + kl / unsure)
    q = torch.tensor([0.0, 1.0]).softmax(0)
    kl = float((q * (q / h).log()).sum() + (h * (h / q).log()).sum())
    assert loss[1].item() == pytest.approx(half + b + kl / unsure)
