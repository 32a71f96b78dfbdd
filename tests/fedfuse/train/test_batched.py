"""The batched trainer against the loop: every model, loss and optimiser, unequal clients."""

from __future__ import annotations

import copy
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedfuse.distill import KL
from fedfuse.errors import FedfuseError
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.mobilenet import mobilenet_v2
from fedfuse.train import batched, device_memory
from fedfuse.train.batched import BatchedTrainer, LoopFallbackWarning
from fedfuse.train.facts import as_trained
from fedfuse.train.precision import Precision
from fedfuse.train.trainer import LoopTrainer, Student
from fedfuse.train.work import Work, schedule
from tests.lessons import LOSSES, MODELS, told

SHAPE, CLASSES = (1, 12, 12), 4
SIZES = (21, 5, 13)  # three clients: 6, 2 and 4 steps of 4 in one epoch
ATOL = 2e-5
"""What rounding may make of parameters near 0.1 after a dozen steps of SGD."""


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


OPTIMIZERS = {
    "sgd": sgd,
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=0.1),
    "nesterov": partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True, fused=True),
    # eps keeps the quotient of two tiny moments from amplifying rounding.
    "adam": partial(torch.optim.Adam, lr=1e-3, eps=1e-3, fused=True),
    "adam with decay": partial(torch.optim.Adam, lr=1e-3, eps=1e-3, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, eps=1e-3, weight_decay=0.1, betas=(0.8, 0.9)),
}


def students(make_model, make_optimizer, count=3):
    made = []
    for client_id in range(count):
        torch.manual_seed(client_id)
        model = make_model(SHAPE, CLASSES).to(memory_format=torch.channels_last)  # as clients do
        made.append(Student(client_id, "net", model, make_optimizer(model.parameters())))
    return made


def twins(*args, **kwargs):
    return students(*args, **kwargs), students(*args, **kwargs)


def private(round_=0, epochs=1, sizes=SIZES, batch=4):
    works = []
    for client_id, size in enumerate(sizes):
        rng = torch.Generator().manual_seed(100 + client_id)
        inputs = torch.randn(size, *SHAPE, generator=rng)
        labels = torch.randint(0, CLASSES, (size,), generator=rng)
        steps = epochs * -(-size // batch)
        order = torch.Generator().manual_seed(1000 * round_ + client_id)
        works.append(Work(inputs, labels, cross_entropy, schedule(size, batch, steps, order)))
    return works


def taught(loss, *, weighted=False, anchored=False, num_public=10):
    public = torch.randn(num_public, *SHAPE, generator=torch.Generator().manual_seed(7))
    rng = torch.Generator().manual_seed(8)
    targets = torch.randn(len(SIZES), num_public, CLASSES, generator=rng)
    targets = told(loss, targets.softmax(2) if loss.space == "probabilities" else targets)
    loss = as_trained(loss)
    weights = torch.rand(len(SIZES), num_public, generator=rng)
    weights[:, ::3] = 0
    works = []
    for client_id in range(len(SIZES)):
        order = torch.Generator().manual_seed(client_id)
        anchor = None
        if anchored:
            mine = private()[client_id]
            anchor = Work(
                mine.inputs,
                mine.targets,
                cross_entropy,
                schedule(len(mine.targets), 4, 5, order),
            )
        works.append(
            Work(
                public,
                targets[client_id],
                loss,
                schedule(num_public, 4, 5, order),
                sample_weight=weights[client_id] if weighted else None,
                anchor=anchor,
                anchor_weight=0.3 if anchored else 0.0,
            )
        )
    return works


def assert_same(ours, theirs, atol=ATOL):
    for mine, other in zip(ours, theirs, strict=True):
        for (name, a), b in zip(
            mine.model.named_parameters(), other.model.parameters(), strict=True
        ):
            torch.testing.assert_close(
                a, b, atol=atol, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
        for p, q in zip(mine.model.parameters(), other.model.parameters(), strict=True):
            kept, expected = mine.optimizer.state[p], other.optimizer.state[q]
            for slot, value in expected.items():
                if value is not None:
                    torch.testing.assert_close(
                        torch.as_tensor(kept[slot]), torch.as_tensor(value), atol=1e-4, rtol=1e-3
                    )


def compare(make_model, make_optimizer, phases, trainer=None, atol=ATOL):
    ours, theirs = twins(make_model, make_optimizer)
    trainer = trainer or BatchedTrainer()
    for works in phases:
        losses = trainer.fit(ours, works)
        expected = LoopTrainer().fit(theirs, works)
        assert losses == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert_same(ours, theirs, atol)
    return ours, theirs


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [*((model, "momentum") for model in MODELS), ("lenet5", "adam"), ("resnet8", "adam")],
)
def test_every_model_learns_as_in_the_loop(model, optimizer):
    phases = [private(sizes=(9, 3, 6)), taught(KL())]
    compare(MODELS[model], OPTIMIZERS[optimizer], phases, atol=1e-4)


@pytest.mark.parametrize("patches", [None, True])
def test_fifty_layers_take_a_step_as_in_the_loop(patches):
    """One each: so thin a network makes a hundredth of rounding within a dozen."""
    works = private(sizes=(4, 3, 2))
    trainer = BatchedTrainer(patches=patches)
    compare(partial(mobilenet_v2, width=0.1), sgd, [works], trainer, atol=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_keeps_its_moments_over_phases(optimizer):
    phases = [private(0), taught(KL()), private(1, epochs=2), taught(KL())]
    compare(mlp, OPTIMIZERS[optimizer], phases)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("anchored", [False, True])
def test_every_loss_with_sample_weights_and_an_anchor(loss, weighted, anchored):
    works = taught(loss, weighted=weighted, anchored=anchored)
    compare(mlp, OPTIMIZERS["momentum"], [works])


def test_sample_weights_that_only_some_clients_have():
    works = taught(KL(), weighted=True)
    works[1] = taught(KL())[1]
    compare(mlp, sgd, [works])


def test_convolutions_over_patches_give_the_same():
    compare(lenet5, sgd, [private(), taught(KL())], BatchedTrainer(patches=True))


def test_a_client_whose_steps_are_over_does_not_move():
    ours = students(mlp, OPTIMIZERS["adamw"])
    trainer = BatchedTrainer()
    trainer.fit(ours, private())
    before = copy.deepcopy([(s.model.state_dict(), s.optimizer.state_dict()) for s in ours])
    idle = private()
    for client_id in (1, 2):
        work = idle[client_id]
        idle[client_id] = Work(
            work.inputs,
            work.targets,
            work.loss,
            schedule(len(work.targets), 4, 0, torch.Generator()),
        )
    losses = trainer.fit(ours, idle)
    assert losses[0] > 0
    assert torch.tensor(losses[1:]).isnan().all()
    for client_id in (1, 2):
        model, optimizer = before[client_id]
        for name, value in ours[client_id].model.state_dict().items():
            assert torch.equal(value, model[name])
        for index, slots in ours[client_id].optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                assert torch.equal(value, optimizer["state"][index][slot])
    # Steps counted per client: 6 + 6, 2, 4 (fewer than one client's alone would show in Adam).
    counts = [s.optimizer.state_dict()["state"][0]["step"].item() for s in ours]
    assert counts == [12, 2, 4]


def test_the_loop_goes_on_where_the_batch_stopped_and_back():
    ours, theirs = twins(mlp, OPTIMIZERS["adam"])
    for trainer, round_ in ((BatchedTrainer(), 0), (LoopTrainer(), 1), (BatchedTrainer(), 2)):
        trainer.fit(ours, private(round_))
        LoopTrainer().fit(theirs, private(round_))
    assert_same(ours, theirs)


def test_chunks_do_not_change_the_result(monkeypatch):
    monkeypatch.setattr(batched, "clients_that_fit", lambda *_: 2)
    compare(mlp, OPTIMIZERS["adam"], [private(), taught(KL()), private(1)])


def test_a_subset_of_the_clients_trains_alone():
    ours, theirs = twins(mlp, OPTIMIZERS["adam"])
    trainer = BatchedTrainer()
    for which in ((0, 1, 2), (0, 2), (1,), (0, 1, 2)):
        works = [private()[i] for i in which]
        trainer.fit([ours[i] for i in which], works)
        LoopTrainer().fit([theirs[i] for i in which], works)
    assert_same(ours, theirs)


@pytest.mark.parametrize("fitted", [False, True])
def test_predictions_on_shared_and_on_own_inputs(fitted):
    ours, theirs = twins(lenet5, sgd)
    trainer, loop = BatchedTrainer(), LoopTrainer()
    if fitted:
        trainer.fit(ours, private())
        loop.fit(theirs, private())
    shared = torch.randn(11, *SHAPE)
    backwards = slice(None, None, -1)  # not in the order of the matrix
    torch.testing.assert_close(
        trainer.predict(ours[backwards], shared, 4),
        loop.predict(theirs[backwards], shared, 4),
        atol=1e-4,
        rtol=1e-4,
    )
    own = [torch.randn(n, *SHAPE) for n in (3, 9, 1)]
    for a, b in zip(
        trainer.predict_each(ours, own, 4), loop.predict_each(theirs, own, 4), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert trainer.predict_each([], [], 4) == []


class WithBuffer(nn.Module):
    """A constant buffer and a frozen layer, both of the client's own."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.register_buffer("shift", torch.randn(1))
        self.frozen = nn.Linear(144, 6)
        self.frozen.requires_grad_(False)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.head(torch.tanh(self.frozen(x.flatten(1)) + self.shift))


def test_frozen_parameters_and_buffers_stay_each_clients_own():
    ours, theirs = compare(WithBuffer, sgd, [private()])
    fresh = students(WithBuffer, sgd)
    for mine, new in zip(ours, fresh, strict=True):
        assert torch.equal(mine.model.frozen.weight, new.model.frozen.weight)
    inputs = torch.randn(5, *SHAPE)
    torch.testing.assert_close(
        BatchedTrainer().predict(ours, inputs, 2), LoopTrainer().predict(theirs, inputs, 2)
    )


def test_dropout_differs_between_clients_and_repeats_with_the_seed():
    def net(*_):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.Dropout(0.5), nn.Linear(64, 4))

    def run(entropy):
        ours = students(net, sgd, count=2)
        same = private(sizes=(8,))[0]
        work = Work(same.inputs, same.targets, same.loss, same.schedule, entropy=entropy)
        BatchedTrainer().fit(ours, [work, work])
        return [s.model[1].weight.detach().clone() for s in ours]

    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])


def test_cohorts_are_architectures():
    trainer = BatchedTrainer()
    assert trainer.cohorts([3, 4, 5, 7], ["a", "b", "a", "b"]) == [(3, 5), (4, 7)]


EVEN = (12, 4, 8)  # BatchNorm takes no batch of one


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen = self.seen + 1
        return x


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x


def net_with(layer):
    def make(*_):
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 4), layer())

    return make


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (partial(nn.BatchNorm1d, 4), "layer '2' (BatchNorm1d) keeps running statistics"),
        (
            partial(nn.BatchNorm1d, 4, track_running_stats=False),
            "layer '2' (BatchNorm1d) mixes a batch",
        ),
        (Counter, "layer '2' (Counter) changes its buffer '2.seen'"),
        (Branch, "layer '2' (Branch) cannot be batched"),
        (Unused, "parameter '2.spare' has no part in the output"),
    ],
)
def test_what_cannot_be_batched_is_named_and_refused_or_looped(layer, words):
    ours, theirs = twins(net_with(layer), sgd)
    before = copy.deepcopy(ours[0].model.state_dict())
    with pytest.raises(FedfuseError) as refused:
        BatchedTrainer().fit(ours, private(sizes=EVEN))
    assert f"Model 'net' cannot be trained for many clients at once: {words}" in str(refused.value)
    assert "trainer=loop" in str(refused.value)
    for name, value in ours[0].model.state_dict().items():
        assert torch.equal(value, before[name])
    trainer = BatchedTrainer(fallback=LoopTrainer())
    with pytest.warns(LoopFallbackWarning) as told:
        trainer.fit(ours, private(sizes=EVEN))
    assert len(told) == 1
    assert words in str(told[0].message)
    inputs = torch.randn(2, *SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(ours, private(1, sizes=EVEN))
        answers = trainer.predict(ours, inputs, 2)
    for round_ in (0, 1):
        LoopTrainer().fit(theirs, private(round_, sizes=EVEN))
    assert torch.equal(answers, LoopTrainer().predict(theirs, inputs, 2))
    for mine, other in zip(ours, theirs, strict=True):
        for name, value in mine.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name])


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (torch.optim.Adagrad, "the optimiser Adagrad is none of Adam, AdamW, SGD"),
        (partial(torch.optim.Adam, amsgrad=True), "the optimiser Adam has amsgrad set"),
        (partial(torch.optim.SGD, momentum=0.9, dampening=0.1), "the optimiser SGD has dampening"),
    ],
)
def test_an_optimiser_that_is_not_known_is_named(optimizer, words):
    with pytest.raises(FedfuseError, match=words):
        BatchedTrainer().fit(students(mlp, optimizer), private())


def test_one_client_that_does_not_fit_says_what_to_lower(monkeypatch):
    monkeypatch.setattr(device_memory, "free_bytes", lambda _: 2**20)
    with pytest.raises(FedfuseError) as full:
        BatchedTrainer().fit(students(mlp, sgd), private())
    assert "needed, 1.0 MiB free" in str(full.value)
    assert "client.batch_size" in str(full.value)


def test_bfloat16_stays_near_and_keeps_float32_parameters():
    ours, theirs = twins(mlp, sgd)
    BatchedTrainer(Precision.BF16).fit(ours, private())
    LoopTrainer(Precision.BF16).fit(theirs, private())
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine.model.parameters(), other.model.parameters(), strict=True):
            assert a.dtype is torch.float32
            torch.testing.assert_close(a, b, atol=5e-3, rtol=0)
    logits = BatchedTrainer(Precision.BF16).predict(ours, torch.randn(3, *SHAPE), 2)
    assert logits.dtype is torch.float32


def test_where_there_is_no_proc_free_memory_is_asked_of_psutil(monkeypatch):
    psutil = pytest.importorskip("psutil")
    memory_there = psutil.virtual_memory()._replace(available=12345)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory_there)
    assert device_memory.free_bytes(torch.device("cpu")) > 2**20
    monkeypatch.setattr("sys.platform", "darwin")
    assert device_memory.free_bytes(torch.device("cpu")) == 12345
