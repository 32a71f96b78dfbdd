"""Many clients at once on the GPU, against one after the other there and on the CPU."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch

from fedfuse.distill import DIST, KL, RelationGraph, Similarity
from fedfuse.local_loss import BalancedSoftmax, cross_entropy
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.prior import log_prior
from fedfuse.train import batched
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.facts import Facts, Widened, as_trained, widen
from fedfuse.train.precision import Precision
from fedfuse.train.replay import GraphWarning
from fedfuse.train.trainer import LoopTrainer, Student
from fedfuse.train.work import Work, schedule
from tests.lessons import LOSSES, MODELS, told

pytestmark = pytest.mark.cuda

SHAPE, CLASSES, SIZES = (1, 12, 12), 4, (21, 5, 13)
# eps keeps the quotient of two tiny moments from amplifying rounding.
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05),
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=0.1),
    "nesterov": partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True, fused=True),
    "adam": partial(torch.optim.Adam, lr=1e-3, eps=1e-3, fused=True),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, eps=1e-3, weight_decay=0.1),
}
RELATIONS = [RelationGraph(neighbours=2), DIST(), Similarity(temperature=2.0)]


def students(make_model, make_optimizer, device):
    made = []
    for client_id in range(len(SIZES)):
        torch.manual_seed(client_id)
        model = make_model(SHAPE, CLASSES).to(device, memory_format=torch.channels_last)
        made.append(Student(client_id, "net", model, make_optimizer(model.parameters())))
    return made


def private(device, round_=0, sizes=SIZES):
    works = []
    for client_id, size in enumerate(sizes):
        rng = torch.Generator().manual_seed(100 + client_id)
        inputs = torch.randn(size, *SHAPE, generator=rng).to(device)
        labels = torch.randint(0, CLASSES, (size,), generator=rng).to(device)
        order = torch.Generator().manual_seed(1000 * round_ + client_id)
        works.append(Work(inputs, labels, cross_entropy, schedule(size, 4, -(-size // 4), order)))
    return works


def balanced(device, round_=0, sizes=SIZES):
    """Return the same steps towards logits without each client's label prior."""
    works = []
    for work in private(device, round_, sizes):
        prior = log_prior(torch.bincount(work.targets.cpu(), minlength=CLASSES)).to(device)
        targets = widen(work.targets, Facts(prior=prior.expand(len(work.targets), -1)))
        loss = Widened(BalancedSoftmax(), BalancedSoftmax.wants)
        works.append(replace(work, targets=targets, loss=loss))
    return works


def taught(loss, device, *, anchored=False, weighted=False, steps=5):
    rng = torch.Generator().manual_seed(8)
    public = torch.randn(10, *SHAPE, generator=rng).to(device)
    targets = torch.randn(len(SIZES), 10, CLASSES, generator=rng)
    targets = targets.softmax(2) if loss.space == "probabilities" else targets
    targets = told(loss, targets).to(device)
    loss = as_trained(loss)
    weights = torch.rand(len(SIZES), 10, generator=rng).to(device)
    own, works = private(device), []
    for client_id in range(len(SIZES)):
        order = torch.Generator().manual_seed(client_id)
        mine = own[client_id]
        anchor = Work(
            mine.inputs, mine.targets, cross_entropy, schedule(len(mine.targets), 4, steps, order)
        )
        works.append(
            Work(
                public,
                targets[client_id],
                loss,
                schedule(10, 4, steps, order),
                sample_weight=weights[client_id] if weighted else None,
                anchor=anchor if anchored else None,
                anchor_weight=0.3 if anchored else 0.0,
            )
        )
    return works


def assert_same(ours, theirs, atol=1e-4):
    for mine, other in zip(ours, theirs, strict=True):
        pairs = zip(mine.model.named_parameters(), other.model.parameters(), strict=True)
        for (name, a), b in pairs:
            torch.testing.assert_close(
                a.cpu(),
                b.cpu(),
                atol=atol,
                rtol=1e-3,
                msg=lambda text, name=name: f"{name}: {text}",
            )


DEEP = ("resnet20", "resnet18")


def exactly(works):
    return [replace(work, inputs=work.inputs.double()) for work in works]


def compare(make_model, make_optimizer, phases, device, trainer=None):
    """Train in one batch, one by one, and one by one on the CPU; all three are the same."""
    ours, theirs = (students(make_model, make_optimizer, device) for _ in range(2))
    plain = students(make_model, make_optimizer, torch.device("cpu"))
    trainer = trainer or BatchedTrainer()
    if make_model in [MODELS[name] for name in DEEP]:
        # In twenty layers a sum so near zero that rounding turns its sign, and the ReLU with it,
        # comes with every tenth draw, on the CPU alone as well.
        phases = [lambda place, phase=phase: exactly(phase(place)) for phase in phases]
        for student in (*ours, *theirs, *plain):
            student.model.double()
    for phase in phases:
        losses = trainer.fit(ours, phase(device))
        assert losses == pytest.approx(LoopTrainer().fit(theirs, phase(device)), rel=1e-3, abs=1e-4)
        LoopTrainer().fit(plain, phase(torch.device("cpu")))
    assert_same(ours, theirs)
    assert_same(theirs, plain, atol=1e-3)
    return ours, theirs


@pytest.mark.parametrize("model", MODELS)
def test_every_model(model, device):
    compare(MODELS[model], OPTIMIZERS["momentum"], [private, partial(taught, KL())], device)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_over_several_phases(optimizer, device):
    phases = [private, partial(taught, KL()), partial(private, round_=1)]
    compare(lenet5, OPTIMIZERS[optimizer], phases, device)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("anchored", [False, True])
def test_every_loss_with_weights_and_an_anchor(loss, anchored, device):
    phase = partial(taught, loss, anchored=anchored, weighted=True)
    compare(mlp, OPTIMIZERS["momentum"], [phase], device)


@pytest.mark.parametrize("loss", RELATIONS, ids=str)
def test_A10_relations_of_a_batch_in_the_loop(loss, device):
    """No batched trainer takes them, so the GPU is held against the CPU."""
    there, here = (students(mlp, OPTIMIZERS["momentum"], d) for d in (device, torch.device("cpu")))
    for own in (there, here):
        where = next(own[0].model.parameters()).device
        LoopTrainer().fit(own, taught(loss, where, anchored=True, weighted=True))
    assert_same(there, here, atol=1e-3)


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("model", sorted(set(MODELS) - {"mlp"}))
def test_convolutions_grouped_and_over_patches(model, patches, device):
    phases = [private, partial(taught, KL())]
    compare(MODELS[model], OPTIMIZERS["sgd"], phases, device, BatchedTrainer(patches=patches))


@pytest.mark.parametrize("model", ["mlp", "lenet5", "resnet8"])
def test_recorded_steps_over_several_rounds(model, device):
    """Enough steps of one shape to be recorded, and rounds in which they are replayed."""
    many = partial(private, sizes=(40, 40, 24))
    phases = [
        step
        for round_ in range(3)
        for step in (partial(many, round_=round_), partial(taught, KL(), anchored=True, steps=8))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", GraphWarning)
        compare(MODELS[model], OPTIMIZERS["momentum"], phases, device)


def test_recorded_steps_with_facts_beside_the_labels(device):
    phases = [partial(balanced, round_=round_, sizes=(40, 40, 24)) for round_ in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", GraphWarning)
        compare(mlp, OPTIMIZERS["sgd"], phases, device)


def test_chunks_of_clients(device, monkeypatch):
    monkeypatch.setattr(batched, "clients_that_fit", lambda *_: 2)
    compare(mlp, OPTIMIZERS["adam"], [private, partial(taught, KL())], device)


def test_memory_that_is_free_is_found_out(device):
    assert batched.clients_that_fit(2**20, device, "client.batch_size") > 0


def test_predictions(device):
    ours = students(lenet5, OPTIMIZERS["sgd"], device)
    BatchedTrainer().fit(ours, private(device))
    shared = torch.randn(11, *SHAPE, generator=torch.Generator().manual_seed(1)).to(device)
    torch.testing.assert_close(
        BatchedTrainer().predict(ours, shared, 4),
        LoopTrainer().predict(ours, shared, 4),
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_same_twice_is_the_same(device):
    def run():
        ours = students(mlp, OPTIMIZERS["adam"], device)
        BatchedTrainer().fit(ours, private(device))
        return [parameter.detach().clone() for s in ours for parameter in s.model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_bfloat16_stays_near(device):
    ours, theirs = (students(lenet5, OPTIMIZERS["sgd"], device) for _ in range(2))
    BatchedTrainer(Precision.BF16).fit(ours, private(device))
    LoopTrainer(Precision.BF16).fit(theirs, private(device))
    assert all(p.dtype is torch.float32 for s in ours for p in s.model.parameters())
    assert_same(ours, theirs, atol=2e-2)


def test_dropout_repeats_with_its_seed(device):
    def net(*_):
        torch.manual_seed(0)
        layers = (torch.nn.Linear(144, 64), torch.nn.Dropout(0.5), torch.nn.Linear(64, 4))
        return torch.nn.Sequential(torch.nn.Flatten(), *layers)

    def run(entropy):
        ours = students(net, OPTIMIZERS["sgd"], device)
        works = private(device)
        BatchedTrainer().fit(
            ours,
            [Work(w.inputs, w.targets, w.loss, w.schedule, entropy=entropy) for w in works],
        )
        return ours[0].model[1].weight.detach().clone()

    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_what_was_saved_on_one_device_goes_on_on_the_other(optimizer, device):
    """What a checkpoint holds of a client: its model's and its optimiser's state."""
    cpu = torch.device("cpu")
    there, here = (students(mlp, OPTIMIZERS[optimizer], where) for where in (device, cpu))
    BatchedTrainer().fit(there, private(device))
    _move(there, here)
    for own, where in ((there, device), (here, cpu)):
        BatchedTrainer().fit(own, private(where, round_=1))
    assert_same(there, here)
    _move(here, there)
    for own, where in ((there, device), (here, cpu)):
        BatchedTrainer().fit(own, private(where, round_=2))
    assert_same(there, here)


def _move(sources, receivers):
    for source, receiver in zip(sources, receivers, strict=True):
        receiver.model.load_state_dict(source.model.state_dict())
        receiver.optimizer.load_state_dict(copy.deepcopy(source.optimizer.state_dict()))
