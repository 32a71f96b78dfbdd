"""TGeo-KD: the sheet's numbers, what its network learns, and what a client remembers of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.run import main
from fedfuse.distill import KL, APAtK, TGeo, WeightedSum
from fedfuse.distill.tgeo import OMEGA, SLOTS, ClientTGeo
from fedfuse.distill.tgeo_controller import controller, untaught
from fedfuse.distill.triangle import class_means, mixture, ratio, triangle
from fedfuse.errors import ParameterError
from fedfuse.testing import check_distill_loss
from fedfuse.train.facts import Facts, as_trained, widen
from fedfuse.train.look_ahead import look_ahead
from fedfuse.train.loop import fit
from fedfuse.train.own_loss import LossContext
from fedfuse.train.work import Work, schedule
from tests.tiny import TINY

P, T = torch.tensor([[0.7, 0.3]]).double(), torch.tensor([[0.6, 0.4]]).double()
Z, Y = P.log(), torch.tensor([0])


def near(got: Tensor, *expected: float) -> None:
    want = torch.tensor(expected, dtype=got.dtype)
    torch.testing.assert_close(got.detach().flatten(), want, atol=1e-5, rtol=0)


def test_A8_the_features_by_hand() -> None:
    mean = torch.tensor([[0.8, 0.2]]).double()
    corners = (0.7, 0.3, 0.6, 0.4, 1, 0, 0.8, 0.2)
    sides = (0.01, 0.01, 0.09, 0.09, 0.01, 0.01, 0.16, 0.16, 0.04, 0.04)
    near(triangle(P, T, Y, mean), *corners, *sides)


def test_A8_the_mean_teacher_of_a_class_is_over_the_batch() -> None:
    targets = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    near(class_means(targets, torch.tensor([0, 0, 1])), 0.7, 0.3, 0.7, 0.3, 0.2, 0.8)


def test_A8_a_network_of_zeros_says_a_half() -> None:
    features = triangle(P, T, Y, T)
    zeros = torch.zeros(18 * 32 + 32 + 32 * 16 + 16 + 16 + 1).double()
    alpha = controller(zeros, features, (32, 16))
    near(alpha, 0.5)
    near(mixture(Z, T, Y, alpha), 0.189629)
    new = untaught(18, (32, 16), torch.Generator().manual_seed(0))
    assert new.shape == zeros.shape
    near(controller(new.double(), features, (32, 16)), 0.5)
    near(TGeo()(Z, T, Facts(labels=Y)), 0.189629)


def test_A8_the_network_is_a_multilayer_perceptron_with_leaky_relu() -> None:
    layers = [nn.Linear(18, 5), nn.LeakyReLU(), nn.Linear(5, 3), nn.LeakyReLU(), nn.Linear(3, 1)]
    net, features = nn.Sequential(*layers), torch.randn(4, 18)
    omega = torch.cat([parameter.flatten() for parameter in net.parameters()])
    got = controller(omega, features, (5, 3))
    torch.testing.assert_close(got, net(features).squeeze(1).sigmoid())


def test_A8_the_ratio_by_hand() -> None:
    near(ratio(Z, T, Y), 0.461538)
    near(TGeo(rule="ratio")(Z, T, Facts(labels=Y)), 0.202478)
    certain = torch.tensor([[0.0, 1.0]])
    near(ratio(torch.tensor([[1e4, -1e4]]), certain, Y), 0)  # and no NaN


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_A8_the_ends_are_the_divergence_and_the_cross_entropy(temperature: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 6, 4, generator=draw)
    targets, labels = teacher.softmax(dim=1), torch.randint(4, (6,), generator=draw)
    one = mixture(logits, targets, labels, torch.ones(6), temperature)
    torch.testing.assert_close(one, KL(temperature)(logits, targets))
    none = mixture(logits, targets, labels, torch.zeros(6), temperature)
    torch.testing.assert_close(none, functional.cross_entropy(logits, labels, reduction="none"))


class Theta(nn.Module):
    """Logits (theta, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.theta * x, 0 * x], dim=1)


@pytest.mark.parametrize(
    ("label", "by_alpha", "by_omega"), [(0, 0.038936, 0.009734), (1, -0.061064, -0.015266)]
)
def test_A8_a_step_looked_ahead_by_hand(label: int, by_alpha: float, by_omega: float) -> None:
    omega = torch.zeros((), requires_grad=True)
    alpha = omega.sigmoid()
    alpha.retain_grad()
    seen: list[Tensor] = []

    def inner(logits: Tensor) -> Tensor:
        return mixture(logits, torch.tensor([[0.9, 0.1]]), Y, alpha[None]).mean()

    def outer(logits: Tensor) -> Tensor:
        seen.append(logits)
        return functional.cross_entropy(logits, torch.tensor([label]))

    one = torch.ones(1)
    look_ahead(Theta(), inner, one, outer, one, eta=1.0).backward()
    near(seen[0], 0.45, 0)
    assert alpha.grad is not None
    assert omega.grad is not None
    near(alpha.grad, by_alpha)
    near(omega.grad, by_omega)


def test_A8_the_network_s_gradient_is_that_of_the_loss_after_a_step() -> None:
    """Held against differences of the real thing: step, then validation loss."""
    draw = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs, outer_inputs = torch.randn(2, 5, 3, generator=draw).double()
    labels, outer_labels = torch.randint(2, (2, 5), generator=draw)
    targets = torch.rand(5, 2, generator=draw).double().softmax(dim=1)
    omega = torch.randn(18 * 2 + 2 + 2 + 1, generator=draw).double()

    def after(omega: Tensor) -> Tensor:
        def inner(logits: Tensor) -> Tensor:
            student = logits.detach().softmax(dim=1)
            features = triangle(student, targets, labels, class_means(targets, labels))
            alpha = controller(omega, features, (2,))
            return mixture(logits.double(), targets, labels, alpha).mean()

        def outer(logits: Tensor) -> Tensor:
            return functional.cross_entropy(logits.double(), outer_labels)

        return look_ahead(model, inner, inputs, outer, outer_inputs, 0.5)

    omega.requires_grad_()
    (gradient,) = torch.autograd.grad(after(omega), omega)
    for number in (0, 37, 40):
        step = torch.zeros_like(omega)
        step[number] = 3e-2  # look_ahead is in float32
        slope = (after(omega + step) - after(omega - step)) / 6e-2
        assert slope.item() == pytest.approx(float(gradient[number]), rel=2e-2, abs=1e-5)
    assert gradient.abs().max() > 1e-4


def test_A8_looking_ahead_leaves_the_model_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scale = torch.ones((), requires_grad=True)
    x, labels = torch.randn(6, 3), torch.arange(6) % 2

    def loss(logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels)

    look_ahead(model, lambda z: scale * loss(z), x, loss, x, 0.1).backward()
    assert scale.grad is not None
    assert scale.grad != 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("loss", [TGeo(), TGeo("ratio"), TGeo("ratio", temperature=1.5)])
def test_A8_the_author_s_check_passes(loss: TGeo) -> None:
    check_distill_loss(loss)


# -- learning --------------------------------------------------------------------------------------


def taught(
    seed: int, *, permuted: bool = True, lessons: int = 1, steps: int = 240
) -> tuple[float, float, dict[str, Tensor]]:
    """Return mean alpha on the even samples and on the odd ones, and the memory.

    Gaussian classes; the teacher knows their densities, but on even samples it names another class
    if ``permuted``. Public labels are partly wrong, or nothing would be left for a teacher to say.
    """
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 12, generator=draw)

    def samples(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(4, (count,), generator=draw)
        return centres[labels] + 1.3 * torch.randn(count, 12, generator=draw), labels

    (inputs, labels), (outer_inputs, outer_labels) = samples(512), samples(64)
    targets = (torch.cdist(inputs, centres).square() / -3.38).softmax(dim=1)
    if permuted:
        targets[::2] = targets[::2].roll(1, dims=1)
    wrong = torch.rand(512, generator=draw) < 0.4
    facts = Facts(labels=torch.where(wrong, torch.randint(4, (512,), generator=draw), labels))
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    memory: dict[str, Tensor] = {}
    report: dict[str, float] = {}
    for lesson in range(lessons):
        context = LossContext(memory, outer_inputs, outer_labels, 0.1, seed + lesson, report)
        own = ClientTGeo(TGeo(), context)
        plan = schedule(512, 64, steps, draw)
        ready = as_trained(own)
        wide = widen(targets, facts)
        fit(model, optimizer, Work(inputs, wide, ready, plan, before_step=own.before_step))
        memory = {name: value.clone() for name, value in memory.items()}
    assert 0 <= report["teacher_alpha"] <= 1
    with torch.no_grad():
        alpha = own.alpha(model(inputs), targets, facts)
    return float(alpha[::2].mean()), float(alpha[1::2].mean()), memory


@pytest.mark.parametrize("seed", [2, 4])
def test_A8_alpha_falls_where_the_teacher_s_answers_are_permuted(seed: int) -> None:
    wrong, right, _ = taught(seed)
    one, other, _ = taught(seed, permuted=False)
    assert wrong < 0.85 * right
    assert min(one, other) > 0.95 * max(one, other)  # and nowhere else
    assert min(one, other) > right  # a teacher that is right all over counts more


def test_A8_a_client_goes_on_from_what_it_remembers() -> None:
    memory = taught(2, lessons=2, steps=20)[2]
    assert set(memory) == {OMEGA, *(f"tgeo/{slot}" for slot in SLOTS)}
    assert float(memory["tgeo/step"]) == 2 * 2  # of 20 steps every tenth
    assert not torch.equal(memory[OMEGA], taught(2, steps=20)[2][OMEGA])
    assert not memory[OMEGA].requires_grad


# -- whole runs ------------------------------------------------------------------------------------

WORDS = ("method=tgeo_kd", "baseline=none", "warmup_rounds=0", "checkpoint.every=0")


def weights(run: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def test_A8_a_client_s_network_moves_what_it_learns(simulate: Callable[..., Any]) -> None:
    words = (*WORDS, "models=save", "dataset.num_train=300", "public.size=40")
    words += ("client.distill_batch_size=10",)
    often, never = (simulate(*words, f"distill.outer_every={n}") for n in (1, 10**6))
    found = often.metrics[often.metrics.metric == "teacher_alpha"]
    assert set(found.client_id) == {0, 1, 2}
    last = found[found["round"] == 2].value
    assert ((last > 0) & (last < 1) & (last != 0.5)).all()
    assert float((weights(often) - weights(never)).abs().max()) > 1e-4


def test_A8_the_ratio_trains_many_at_once_as_one_by_one(simulate: Callable[..., Any]) -> None:
    words = (*WORDS, "models=save", "distill.rule=ratio", "dataset.num_train=300", "public.size=40")
    loop, batched = (simulate(*words, f"trainer={trainer}") for trainer in ("loop", "batched"))
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "val_fraction=0",
            "TGeo learns by validation samples, and clients hold none back: got val_",
        ),
        ("student=mlp", "TGeo learns by a client's validation samples, and the server has none"),
        ("trainer=batched", "TGeo is one client's, which cannot be computed for many clients"),
        ("public=noise", "TGeo needs labels of the public set"),
    ],
)
def test_A8_what_cannot_work_is_said_before_any_training(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, *WORDS, words, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_A8_no_part_of_another_loss_is_one_that_clients_learn() -> None:
    with pytest.raises(ParameterError, match=r"terms\.a.*do not learn for themselves"):
        WeightedSum({"a": {"loss": TGeo()}})
    with pytest.raises(ParameterError, match=r"'base' parameter.*do not learn for themselves"):
        APAtK(base=TGeo())
    check_distill_loss(WeightedSum({"a": {"loss": TGeo("ratio")}, "b": {"loss": KL()}}))
    check_distill_loss(APAtK(base=TGeo("ratio")))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rule", "ratios"), ("temperature", 0), ("hidden", 3), ("hidden", [0]),
        ("learning_rate", 0), ("weight_decay", -1), ("outer_every", 0), ("outer_batch", True),
        ("eta", float("nan")),
    ],
)  # fmt: skip
def test_A8_bad_settings(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter of TGeo"):
        TGeo(**{name: value})
