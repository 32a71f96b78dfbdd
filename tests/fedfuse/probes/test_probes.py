"""What is asked of models: each formula by hand, its edges, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedfuse.errors import FedfuseError
from fedfuse.metrics import accuracy
from fedfuse.probes import (
    CLEAN,
    FGSM,
    PGD,
    AskedModel,
    Blur,
    ByClass,
    ByDistance,
    Consistency,
    Probe,
    Probes,
)
from fedfuse.probes.asking import alike, told
from fedfuse.probes.blur import blurred, gaussian_kernel
from fedfuse.probes.by_distance import by_quartile, nearest
from fedfuse.probes.consistency import consistent
from fedfuse.probes.gradient_sign import ascended
from fedfuse.rng import Streams
from fedfuse.testing import CheckFailed, check_probe
from fedfuse.user_code import PartError

EVERY: list[Probe] = [Blur(), FGSM(), PGD(), Consistency(), ByClass(), ByDistance()]
IMAGES = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0))


def linear(weight: list[list[float]], **told: Any) -> AskedModel:
    net = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(weight))
    return AskedModel(net, lambda: torch.zeros(1, len(weight[0])), **told)


def image_model(seed: int = 0) -> AskedModel:
    draw = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return AskedModel(net, lambda: IMAGES[:3], (0.4,), (0.3,), batch_size=7)


def ask(probe: Probe, model: AskedModel, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    return dict(probe(model, inputs, labels, torch.Generator().manual_seed(5)))


def labelled(model: AskedModel) -> Tensor:
    """Return labels of which the model gets most right."""
    labels = model.predict(IMAGES).argmax(dim=1)
    labels[::5] = (labels[::5] + 1) % 4
    return labels


@pytest.mark.parametrize("probe", EVERY, ids=lambda probe: type(probe).__name__)
def test_W10_every_probe_keeps_its_contract(probe: Probe) -> None:
    check_probe(probe)


def test_M2_the_gradient_and_the_step_by_hand() -> None:
    model = linear([[1.0, -1.0], [-1.0, 1.0]])
    x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    gradient = model.gradient(x, y)
    assert gradient[0].tolist() == pytest.approx([-0.802625, 0.802625], abs=1e-5)
    moved = ascended(x, gradient, 0.15, (0.0, 1.0))
    assert moved[0].tolist() == pytest.approx([0.45, 0.55], abs=1e-5)
    assert model.predict(moved)[0].tolist() == pytest.approx([-0.1, 0.1], abs=1e-5)
    assert ask(FGSM(0.15), model, x, y) == {"accuracy_fgsm": 0.0}  # it was right, and is flipped
    assert ask(FGSM(0.05), model, x, y) == {"accuracy_fgsm": 1.0}


def test_M2_the_kernel_by_hand_and_what_it_leaves_alone() -> None:
    expected = [0.274069, 0.451863, 0.274069]
    assert gaussian_kernel(1.0, 3).tolist() == pytest.approx(expected, abs=1e-5)
    point = torch.zeros(1, 2, 3, 3)
    point[0, 1, 1, 1] = 1
    spread = blurred(point, 1.0, 3)[0]
    assert spread[0].abs().max() == 0, "channels mix"
    assert spread[1].flatten().tolist() == pytest.approx(
        [a * b for a in expected for b in expected], abs=1e-5
    )
    flat = torch.full((2, 1, 4, 4), 0.7)
    torch.testing.assert_close(blurred(flat, 2.0, 5), flat)  # borders continue outside


def test_M2_without_a_perturbation_it_is_the_clean_accuracy() -> None:
    model = image_model()
    labels = labelled(model)
    clean = accuracy(model.predict(IMAGES), labels)
    assert 0.5 < clean < 1
    nothing = [Blur(sigma=0), FGSM(epsilon=0), PGD(epsilon=0), Consistency(k=1, noise=0)]
    for probe in nothing:
        found = ask(probe, model, IMAGES, labels)
        assert next(value for name, value in found.items() if "accuracy" in name) == clean


def test_M2_many_steps_do_no_less_harm_than_one_and_stay_within_reach() -> None:
    model = image_model()
    labels = labelled(model)
    seen: list[Tensor] = []

    class Watched:
        bounds, public = model.bounds, model.public
        gradient = staticmethod(model.gradient)

        @staticmethod
        def predict(inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return model.predict(inputs)

    generator = torch.Generator().manual_seed(1)
    many = PGD(0.1)(Watched(), IMAGES, labels, generator)["accuracy_pgd"]
    one = FGSM(0.1)(Watched(), IMAGES, labels, generator)["accuracy_fgsm"]
    assert many <= one < accuracy(model.predict(IMAGES), labels)
    for moved in seen:
        assert (moved - IMAGES).abs().max() <= 0.1 + 1e-6
        assert moved.min() >= 0
        assert moved.max() <= 1
        assert (moved - IMAGES).abs().max() > 0.09


def test_M2_epsilon_is_in_units_of_inputs_before_they_are_normalised() -> None:
    """The same model of inputs scaled by 10 within it: the step is of the inputs as they were."""
    net = nn.Sequential(nn.Flatten(), linear([[1.0, -1.0], [-1.0, 1.0]]).model)
    plain, scaled = (AskedModel(net, lambda: IMAGES, (0.0,), (std,)) for std in (1.0, 0.1))
    x, y = torch.rand(30, 1, 1, 2, generator=torch.Generator().manual_seed(2)), torch.zeros(30)
    y = y.long()
    assert torch.equal(scaled.gradient(x, y).sign(), plain.gradient(x, y).sign())
    torch.testing.assert_close(scaled.predict(x), plain.predict(x) * 10)
    assert ask(FGSM(0.2), scaled, x, y) == ask(FGSM(0.2), plain, x, y)


def test_M2_features_know_no_bounds() -> None:
    model = linear([[1.0, -1.0], [-1.0, 1.0]])
    assert model.bounds is None
    x, y = torch.tensor([[1.1, -1.1]]), torch.tensor([0])
    assert ask(FGSM(1.2), model, x, y) == {"accuracy_fgsm": 0.0}


def test_M3_consistency_by_hand() -> None:
    right = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1], [1, 0, 0, 1]]).bool()
    found, share = consistent(right)
    assert found == pytest.approx(0.666667, abs=1e-5)
    assert share == 0.5


def test_M3_one_copy_is_the_accuracy_on_it_and_more_copies_are_harder() -> None:
    model = image_model()
    labels = labelled(model)
    one = ask(Consistency(k=1, noise=0.2), model, IMAGES, labels)
    assert one["consistency"] == one["accuracy_copies"]
    many = ask(Consistency(k=8, noise=0.2), model, IMAGES, labels)
    assert many["consistency"] < many["accuracy_copies"]
    assert 0.25 < many["confidence_right"] <= 1
    never = (model.predict(IMAGES).argmax(dim=1) + 1) % 4
    assert math.isnan(ask(Consistency(noise=0), model, IMAGES, never)["confidence_right"])


def test_M5_classes_are_told_apart_and_absent_ones_left_out() -> None:
    model = image_model()
    labels = torch.zeros(40, dtype=torch.int64)
    named = model.predict(IMAGES).argmax(dim=1)
    labels[20:] = 2
    found = ask(ByClass(), model, IMAGES, labels)
    assert found == {
        "accuracy_class_0": pytest.approx(float((named[:20] == 0).double().mean())),
        "accuracy_class_2": pytest.approx(float((named[20:] == 2).double().mean())),
    }


def test_M6_quartiles_by_hand() -> None:
    distances, gains = torch.tensor([3.0, 1.0, 4.0, 2.0]), torch.tensor([2.0, 4.0, 1.0, 3.0])
    assert by_quartile(distances, gains) == [4, 3, 2, 1]
    few = by_quartile(distances[:2], gains[:2])
    assert few[:2] == [4, 2]
    assert all(map(math.isnan, few[2:]))


def test_M6_the_nearest_quarter_is_the_one_beside_the_public_set() -> None:
    public = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    inputs = torch.tensor([[0.0, 4.0], [1.0, 0.0], [10.0, 2.0], [13.0, 0.0]])
    torch.testing.assert_close(nearest(inputs, public, rows=3), torch.tensor([4.0, 1.0, 2.0, 3.0]))
    net = nn.Linear(2, 2)
    model = AskedModel(net, lambda: public)
    labels = model.predict(inputs).argmax(dim=1)
    labels[0] = 1 - labels[0]  # the farthest is wrong
    found = ask(ByDistance(), model, inputs, labels)
    assert [found[f"accuracy_distance_{q}"] for q in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert [found[f"distance_{q}"] for q in (1, 2, 3, 4)] == pytest.approx([1, 2, 3, 4])


def test_W10_answers_do_not_depend_on_the_batch_and_leave_the_model_alone() -> None:
    model = image_model()
    labels = labelled(model)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(25), nn.Dropout(), nn.Linear(25, 4))
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    small, large = (
        AskedModel(net, model.public_inputs, (0.4,), (0.3,), batch_size=n) for n in (3, 99)
    )
    for probe in EVERY:
        one, other = (ask(probe, asked, IMAGES, labels) for asked in (small, large))
        assert one == pytest.approx(other, nan_ok=True, abs=1e-6)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_W10_random_numbers_are_the_rounds_and_not_the_models() -> None:
    probes = Probes([Consistency(), PGD()], Streams(3))
    model = image_model()
    labels = labelled(model)
    first = probes(model, IMAGES, labels, 1)
    assert probes(model, IMAGES, labels, 1) == first
    assert probes(model, IMAGES, labels, 2) != first
    assert first[CLEAN] == accuracy(model.predict(IMAGES), labels)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (lambda *_: 3, "got an int"),
        (lambda *_: {"it": "x"}, "'it'"),
        (lambda *_: {"two words": 1.0}, "two words"),
        (lambda *_: {"it": math.inf}, "inf"),
        (lambda *_: {CLEAN: 1.0}, "told already"),
        (lambda *_: {f"m{i}": 0.0 for i in range(300)}, "301 metrics"),
    ],
)
def test_W10_what_is_no_metric_is_refused(part: Any, says: str) -> None:
    model = image_model()
    with pytest.raises(PartError, match=says):
        Probes([part], Streams(0))(model, IMAGES, labelled(model), 1)


def test_W10_two_of_one_name_are_seen_before_they_are_asked() -> None:
    assert alike([FGSM(), PGD(), FGSM(0.1)]) == "fgsm"
    assert alike([FGSM(), FGSM(0.1, name="strong")]) is None
    assert alike([ByClass(), ByClass()]) == "ByClass"


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: FGSM(-0.1), "epsilon"),
        (lambda: FGSM(math.nan), "epsilon"),
        (lambda: PGD(True), "epsilon"),
        (lambda: PGD(steps=0), "steps"),
        (lambda: PGD(step_size=0), "step_size"),
        (lambda: PGD(random_start=1), "random_start"),
        (lambda: Blur(-1), "sigma"),
        (lambda: Blur(size=4), "size"),
        (lambda: Consistency(k=0), "'k'"),
        (lambda: Consistency(noise=math.inf), "noise"),
        (lambda: FGSM(name="two words"), "name"),
    ],
)
def test_W10_parameters_are_checked(make: Any, names: str) -> None:
    with pytest.raises(FedfuseError, match=names):
        make()


def test_W10_the_authors_check_finds_what_breaks_a_promise() -> None:
    def draws(*_: object) -> dict[str, float]:
        return {"it": float(torch.rand(1))}

    def trains(model: AskedModel, *_: object) -> dict[str, float]:
        with torch.no_grad():
            next(model.model.parameters()).add_(1)
        return {"it": 0.0}

    for probe, says in ((draws, "random"), (trains, "changes"), (lambda *_: [], "contract")):
        with pytest.raises(CheckFailed, match=says):
            check_probe(probe)
    assert told({"it": 1}, draws) == {"it": 1.0}
