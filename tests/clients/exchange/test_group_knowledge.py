"""FedGKT and FedDKC by hand: what server and clients learn, and what makes logits alike."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clients.exchange import GroupKnowledge
from clients.exchange.taught_samples import TAUGHT, TaughtSamples
from clients.testing import Trial
from fedfuse.errors import FedfuseError, KnowledgeError, ModelError, ParameterError
from fedfuse.exchange.congruence import Refinement, same_entropy, same_peak
from fedfuse.exchange.group_knowledge import GroupServer, SampleKnowledge, SampleTeachers
from fedfuse.local_loss import cross_entropy
from fedfuse.models.features import feature_size
from fedfuse.models.layer import WithLayer, layer_shape
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.plan import as_plan
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student
from fedfuse.train.work import Schedule, Work
from fedfuse.wire.encode import decode, encode
from fedfuse.wire.messages import Header

SERVER = partial(mlp, hidden=6, depth=1)


def server(**more) -> GroupServer:
    torch.manual_seed(0)
    return GroupServer(nn.Linear(3, 2), (3,), 2, Streams(0), **more)


@pytest.mark.parametrize("t", [1.0, 2.0])
def test_the_server_learns_what_clients_say_and_alpha_times_the_labels(t):
    said = torch.tensor([[2 * math.log(3), 0.0]])
    work = server(alpha=0.25, temperature=t, refine=Refinement(temperature=t)).lesson(
        torch.zeros(1, 3), said, torch.tensor([1]), round_=1
    )
    loss = work.loss(torch.zeros(1, 2), work.targets)
    p = 9 / 10 if t == 1 else 3 / 4  # 9 : 1, or its square root
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert loss.item() == pytest.approx(0.25 * math.log(2) + t**2 * kl, abs=1e-6)


def bank(labels, sizes=(2, 1)) -> SampleKnowledge:
    lengths, n = torch.tensor(sizes), sum(sizes)
    return SampleKnowledge(
        torch.tensor([1, 4]), lengths, 2 * lengths, 3 * lengths, torch.tensor(labels).int(),
        torch.zeros(2 * n), torch.arange(3.0 * n),
    )  # fmt: skip


def test_every_client_gets_what_the_trained_model_says_of_its_own_samples():
    learner = server(epochs=3, batch_size=2)
    before = learner.model.weight.detach().clone()
    fusion = learner(bank([0, 1, 0]), 1)
    assert fusion.metrics == {"server_steps": 6.0}  # 3 passes of 3 samples in twos
    assert not torch.equal(learner.model.weight, before)
    said = learner.model(torch.arange(9.0).reshape(3, 3)).detach()
    down = fusion.teachers
    assert isinstance(down, SampleTeachers)
    assert down.client_ids.tolist() == [1, 4]
    first, second = down.split("logits")
    torch.testing.assert_close(first.reshape(2, 2), said[:2])
    torch.testing.assert_close(second.reshape(1, 2), said[2:])


def test_a_model_on_the_server_goes_on_from_a_checkpoint():
    whole, first = server(), server()
    for round_ in (1, 2):
        whole(bank([0, 1, 0]), round_)
    first(bank([0, 1, 0]), 1)
    again = server()
    again.restore(first.state())
    again(bank([0, 1, 0]), 2)
    here, there = whole.state(), again.state()
    assert here.keys() == there.keys()
    assert all(torch.equal(value, there[name]) for name, value in here.items())


def test_a_model_that_its_last_step_broke_is_no_missing_teacher():
    """The loss of a round's only step is finite; NaN for logits would teach clients nothing."""
    sent = bank([0, 1, 0])
    large = replace(sent, features=100 * sent.features)
    with pytest.raises(FedfuseError, match="server's model diverged in round 2"):
        server(learning_rate=1e37, batch_size=3)(large, 2)


def test_labels_that_there_are_not_are_their_senders_fault():
    with pytest.raises(KnowledgeError, match=r"'labels' of client 4 .*got 7, allowed: 0 to 1") as e:
        server().check_bank(bank([0, 1, 7]))
    assert e.value.client_ids == (4,)


def test_clients_learn_the_last_teacher_beside_labels_and_a_missing_one_teaches_nothing():
    memory = {0: {TAUGHT: torch.tensor([[math.log(3), 0.0], [torch.nan, torch.nan]])}, 1: {}}
    tools = SimpleNamespace(
        memory=lambda i: memory[i],
        inputs=SimpleNamespace(data=SimpleNamespace(num_classes=2)),
    )
    plan = Schedule(torch.arange(2), (2,))
    work = Work(torch.zeros(2, 3), torch.tensor([1, 0]), cross_entropy, plan)
    held = [Student(i, "", nn.Identity(), torch.optim.SGD([torch.ones(1)])) for i in (0, 1)]
    (_, first), (_, second) = (
        TaughtSamples(alpha=2.0).beside(student, work, tools, (1, "train")) for student in held
    )
    z, half = torch.zeros(2, 2), math.log(2)
    kl = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    assert first.loss(z, first.targets).tolist() == pytest.approx([half + 2 * kl, half])
    assert second.loss(z, second.targets).tolist() == pytest.approx([half, half])
    assert TaughtSamples(alpha=0).beside(held[0], work, tools, (1, "train"))[1] is work


def test_kkr_moves_peaks_to_one_and_levels_what_would_fall_below_zero():
    probs = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    made = same_peak(probs, 0.4)
    # (3 * 0.4 - 1) p + 0.5 - 0.4 over 1.5 - 1: 0.4, 0.32, 0.28.
    assert made[0].tolist() == pytest.approx([0.4, 0.32, 0.28])
    assert made[1].tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert made[2].tolist() == pytest.approx([0.4, 0.3, 0.3])
    away = same_peak(torch.tensor([[0.4, 0.35, 0.25]]), 0.8)  # the last would be below 0
    assert away[0].tolist() == pytest.approx([0.8, 0.1, 0.1])


def test_skr_finds_the_temperature_of_an_entropy():
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    made = same_entropy(torch.tensor([[100.0, 0.0], [0.0, 1e-3], [5.0, 5.0]]), entropy)
    assert made[0].tolist() == pytest.approx([0.9, 0.1], abs=1e-6)
    assert made[1].tolist() == pytest.approx([0.1, 0.9], abs=1e-6)
    assert made[2].tolist() == [0.5, 0.5]


def test_refinements_are_in_shares_of_what_is_possible():
    logits = torch.tensor([[0.3, 0.0, -0.1, 0.2], [9.0, 1.0, 2.0, 3.0]])
    peaks = Refinement("peak", peak=1.5)(logits)
    assert peaks.max(dim=1).values.tolist() == pytest.approx([1.5 / 4] * 2)
    sure = Refinement("entropy", entropy=0.8)(logits)
    entropies = -(sure * sure.log()).sum(dim=1)
    assert entropies.tolist() == pytest.approx([0.8 * math.log(4)] * 2, abs=1e-5)
    plain = Refinement(temperature=2.0)(logits)
    torch.testing.assert_close(plain, (logits / 2).softmax(dim=1))


def test_what_a_named_layer_makes_travels_and_ends_where_it_is_not():
    model = lenet5((1, 28, 28), 10).eval()
    assert layer_shape(model, "0", (1, 28, 28)) == (6, 28, 28)
    inputs = torch.randn(2, 1, 28, 28)
    sides = WithLayer(model, "0")(inputs)
    assert torch.equal(sides[:, :10], model(inputs))
    assert torch.equal(sides[:, 10:], model[0](inputs).flatten(1))
    with pytest.raises(ModelError, match="no such layer: got conv1, allowed: 0, 1"):
        layer_shape(model, "conv1", (1, 28, 28))
    assert GroupKnowledge(model=SERVER, layer=0).layer == "0"  # as a command line has it
    inplace = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    out = WithLayer(inplace, "0")(torch.tensor([[-9.0, 3.0]]))
    assert torch.equal(out[:, 2:], inplace[0](torch.tensor([[-9.0, 3.0]])))


def test_what_travels_is_as_long_as_a_clients_samples_and_no_longer():
    trial = Trial("", GroupKnowledge(model=SERVER), as_plan(partial(mlp, hidden=8, depth=1)))
    kind = trial.exchange.kind(trial.models, trial.data)
    assert kind.sizes["N"] == (8, 12, 16)
    assert kind.sizes["F"] == (8 * 8, 12 * 8, 16 * 8)
    nodes, *_ = trial._begin(trial.exchange, [(0, 1, 2)])
    shared, _, _ = nodes[0].train(HEADER, (0, 1, 2))
    assert [len(m) for m in shared.messages()] == [4 * n * (8 + 4 + 1) for n in (8, 12, 16)]
    arrays = {k: v.copy() for k, v in encode(shared.rows(slice(0, 1))).items()}
    with pytest.raises(KnowledgeError, match="other lengths than were asked for"):
        decode(SampleKnowledge, arrays, _as_if(kind))


HEADER = Header("check", 1, share=True, evaluate=False)


def _as_if(kind):
    """Return what is expected of the first client, had it the second one's samples."""
    expected = kind.expect((0,), 7, 4)
    return type(expected)((0,), 7, 4, {**expected.sizes, "N": (12,)})


def test_one_width_for_all_and_one_shape_of_a_layer():
    wide, narrow = partial(mlp, hidden=8, depth=1), partial(mlp, hidden=5, depth=1)
    trial = Trial("", GroupKnowledge(model=SERVER), Both(wide, narrow))
    assert GroupKnowledge(model=SERVER).shape(trial.models, trial.data) == (5,)
    assert GroupKnowledge(model=SERVER, width=3).shape(trial.models, trial.data) == (3,)
    with pytest.raises(ModelError, match=r"several shapes: got \[8\] in 'wide', \[5\] in 'narrow'"):
        GroupKnowledge(model=SERVER, layer="1").kind(trial.models, trial.data)
    assert feature_size(wide((1, 4, 4), 4), 4) == 8


class Both:
    """The first client wide, the others narrow."""

    def __init__(self, wide, narrow):
        self.made = {"wide": wide, "narrow": narrow}

    def name(self, client_id):
        return "narrow" if client_id else "wide"

    def build(self, client_id, input_shape, num_classes):
        return self.made[self.name(client_id)](input_shape, num_classes)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: GroupKnowledge(model=SERVER, alpha=-1), "alpha"),
        (lambda: GroupKnowledge(model=SERVER, temperature=0), "temperature"),
        (lambda: GroupKnowledge(model=SERVER, width=0), "width"),
        (lambda: GroupKnowledge(model=SERVER, refine="peek"), "refine.*Did you mean 'peak'"),
        (lambda: GroupKnowledge(model=SERVER, peak=1), "peak"),
        (lambda: GroupKnowledge(model=SERVER, sharpness=0), "sharpness"),
        (lambda: GroupKnowledge(model=SERVER, entropy=1), "entropy"),
        (lambda: GroupKnowledge(model=SERVER, epochs=0), "epochs"),
        (lambda: GroupKnowledge(model=SERVER, batch_size=0), "batch_size"),
        (lambda: GroupKnowledge(model=SERVER, learning_rate=0), "learning_rate"),
    ],
)
def test_settings_that_make_no_sense(wrong, says):
    with pytest.raises(ParameterError, match=says):
        wrong()


def test_a_peak_that_no_prediction_has():
    trial = Trial("", GroupKnowledge(model=SERVER), as_plan(SERVER))
    with pytest.raises(ParameterError, match=r"peak.*got 4.5, allowed: below 4, the classes"):
        GroupKnowledge(model=SERVER, refine="peak", peak=4.5).kind(trial.models, trial.data)


def test_features_as_large_as_may_travel_leave_teachers_that_may():
    server_, sent = server(), bank([0, 1, 0])
    huge = replace(sent, features=torch.full((9,), 1e9))
    nn.init.constant_(server_.model.weight, 4.0)
    down = server_(huge, 1).teachers
    assert float(down.logits.abs().max()) == 1e9
