"""Parts of the user's own that cannot work, told before any training, their own lines first."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from clients.training.pretrain import Pretraining
from experiments.assembly.parts import Parts, build_parts
from experiments.assembly.preflight import ModelWarning, check_compatible
from experiments.assembly.single_sample import trained
from experiments.assembly.toy import Toy
from experiments.assembly.trials import TRIALS, try_parts
from experiments.config import compose
from experiments.config.contracts import CONTRACTS, look
from experiments.config.instantiate import instantiate
from experiments.run import main
from fedfuse.errors import FedfuseError, ModelError, PartitionError
from fedfuse.models.plan import as_plan
from fedfuse.partition.apply import apply_partitioner
from fedfuse.train.work import samples_processed
from fedfuse.user_code import PartError

PARTS = """\
import random
import threading

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedfuse.augment import Augmented


def noargs():
    return 1


def one(x):
    return x


def boom(*given, **more):
    return {}["missing"]


class Thing:
    pass


def deal(labels, num_clients, rng):
    return np.array_split(rng.permutation(len(labels)), num_clients)


def deal_nothing(labels, num_clients, rng):
    pass


def deal_by_chance(labels, num_clients, rng):
    return np.array_split(np.random.default_rng().permutation(len(labels)), num_clients)


def deal_from_memory(labels, num_clients, rng, seen=[]):
    seen.append(1)
    return np.array_split(np.roll(np.arange(len(labels)), len(seen)), num_clients)


def score_rows(bank, labels):
    return torch.zeros(bank.num_clients)


def score_classes(bank, labels):
    return torch.zeros(bank.num_clients, bank.num_clients, bank.num_classes + 1)


def score_silently(bank, labels):
    return torch.zeros(bank.num_clients, bank.num_clients, bank.num_classes)


def score_one_class_nan(bank, labels):
    scores = score_silently(bank, labels)
    scores[..., 2] = float("nan")
    return scores


score_classes.by_class = score_one_class_nan.by_class = True


def score_nan(bank, labels):
    return torch.full((bank.num_clients, bank.num_clients), float("nan"))


def score_late(bank, labels, calls=[]):
    calls.append(1)
    if len(calls) > 3:  # twice in the trial, and the first fusion
        raise ValueError("too many calls")
    return torch.zeros(bank.num_clients, bank.num_clients)


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, bank, labels):
        self.calls += 1
        return 0 * torch.rand(bank.num_clients, bank.num_clients)


def score_by_chance(bank, labels):
    return torch.rand(bank.num_clients, bank.num_clients)


def score_and_write(bank, labels):
    bank.logits.numpy()[0] = 0
    return torch.zeros(bank.num_clients, bank.num_clients)


def rule_of_logits(bank, weights):
    return torch.einsum("ij,jpc->ipc", weights, bank.logits)


def rule_of_halves(bank, weights):
    return bank.logits.softmax(dim=-1) / 2


class NotToCopy:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, bank, labels):
        return torch.zeros(bank.num_clients, bank.num_clients)


def near_scores(scores):
    return scores


def rule_of_one(bank, weights):
    return bank.logits.mean(dim=0)


def private_mean(logits, labels):
    return F.cross_entropy(logits, labels)


class Curious:
    wants = frozenset({"prior", "own"})

    def __call__(self, logits, labels, facts):
        return F.cross_entropy(logits, labels, reduction="none")


class Adding:
    wants = frozenset({"prior"})

    def __call__(self, logits, labels, facts):
        return F.cross_entropy(logits + facts.prior, labels, reduction="none")


class Matrix(Adding):
    def __call__(self, logits, labels, facts):
        return logits + facts.prior


class Deaf(Adding):
    def __call__(self, logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")


def sharp_twice(probs):
    return 2 * probs


def weigh_classes(probs):
    return probs


def loss_of_batch(student, targets):
    return F.kl_div(student.log_softmax(1), targets, reduction="batchmean")


def loss_detached(student, targets):
    return (student.softmax(1) - targets).square().sum(1).detach()


def loss_by_chance(student, targets):
    chance = np.random.default_rng().random()
    return chance * (student.softmax(1) - targets).square().sum(1)


def loss_nan(student, targets):
    return (student * float("nan")).sum(1)


def sample_list(round, sizes, generator):
    return [0, 1]


def select_floats(round, num_public, labels, generator):
    return torch.arange(num_public).float()


def sample_from_memory(round, sizes, generator, seen=[]):
    seen.append(1)
    return torch.arange(1 + len(seen) % 3)


def select_by_chance(round, num_public, labels, generator):
    return torch.randperm(num_public)[:10].sort().values


def rate_by_chance(done, num_rounds):
    return random.random()


def blur_by_chance(logits, generator):
    return logits + torch.randn(logits.shape)


def darkens(inputs, generator):
    return Augmented(inputs.mul_(0.5))


def familiar_few(private, labels, public, generator):
    return torch.zeros(3)


def merge_flat(models, receivers):
    return models.vectors.mean(0)


def takes_targets(teachers, at):
    return teachers.targets


def cuts(inputs, generator):
    return Augmented(inputs[1:])


class AsksNobody:
    def __call__(self, round, index, client_ids):
        return index < 0

    def note(self, bank, teachers, labels, round, index):
        pass


def answers_logits(own, last, class_counts, generator):
    return own


def wishes_surely(own, last, class_counts, generator):
    return own[:, 0]


def blur_list(logits, generator):
    return logits.tolist()


def optimizer_of(parameters):
    return list(parameters)


def kept_optimizer(parameters, known=[]):
    known += [] if known else [torch.optim.SGD(parameters, lr=0.1)]
    return known[0]


def strange_optimizer(parameters):
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)


def half_optimizer(parameters):
    return torch.optim.SGD(list(parameters)[:1], lr=0.1)


class Stuck(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("cannot step")


class Net(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.last = nn.Linear(int(np.prod(input_shape)), num_classes)

    def forward(self, x):
        return self.last(x.flatten(1))


class Misnamed(Net):
    def forward(self, x):
        return self.lst(x.flatten(1))


class Unbuilt(Net):
    def __init__(self, input_shape, num_classes):
        super().__init__(input_shape, num_classes)
        self.extra = undefined


class Untrainable(Net):
    def forward(self, x):
        assert not self.training, "only for use"
        return super().forward(x)


class AlwaysDrops(Net):
    def forward(self, x):
        return super().forward(F.dropout(x))


class NumpyNoise(Net):
    def forward(self, x):
        return super().forward(x + np.random.default_rng().random())


def shared(input_shape, num_classes, known=[]):
    known += [] if known else [nn.Linear(int(np.prod(input_shape)), num_classes)]
    net = nn.Sequential(nn.Flatten())
    net.add_module("head", known[0])
    return net


class OnFrozen(Net):
    backbone = nn.Linear(1, 1).requires_grad_(False)

    def __init__(self, input_shape, num_classes):
        super().__init__(input_shape, num_classes)
        self.backbone = OnFrozen.backbone


class Wide(Net):
    def forward(self, x):
        return torch.cat([super().forward(x)] * 2, dim=1)


class Soft(Net):
    def forward(self, x):
        return super().forward(x).softmax(dim=1)


class Batchy(nn.Sequential):
    def __init__(self, input_shape, num_classes):
        width = int(np.prod(input_shape))
        super().__init__(nn.Flatten(), nn.BatchNorm1d(width), nn.Linear(width, num_classes))


class Squeezing(Net):
    def forward(self, x):
        return super().forward(x).squeeze()


class BadEnd:
    def start(self, info): ...
    def phase(self, arm, round_, phase): ...
    def client_done(self, client_id): ...
    def round_done(self, arm, record): ...
    def close(self):
        raise OSError("my disk")


class BadReporter:
    def start(self, info): ...
    def phase(self, arm, round_, phase): ...
    def client_done(self, client_id): ...
    def close(self): ...
    def round_done(self, arm, record):
        raise OSError("my disk")
"""

LINE = "model=mlp dataset=synthetic dataset.num_train=600 num_clients=3 num_rounds=2 "
LINE += "public.size=40 client.batch_size=8 checkpoint.every=0 baseline=none"


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "ff_own.py").write_text(PARTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("ff_own", None)


@pytest.fixture(scope="module")
def parts(own: Path) -> Parts:
    hydra = compose.open_hydra()
    _, [cfg] = compose.check(hydra, LINE.split(), multirun=False)
    return build_parts(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]))


def having(parts: Parts, slot: str, name: str) -> Parts:
    """Return the parts of the run whose slot names a part of the user's own."""
    cfg = parts.cfg.copy()
    OmegaConf.set_struct(cfg, False)
    cfg[slot] = {"_target_": f"ff_own.{name}"}
    return replace(parts, cfg=cfg)


FUNCTIONS = [slot for slot, each in CONTRACTS.items() if set(each.takes) == {"__call__"}]


@pytest.mark.parametrize("slot", FUNCTIONS)
def test_another_signature_is_told_as_it_is_and_as_it_must_be(slot):
    taken = CONTRACTS[slot].takes["__call__"]
    name = "noargs" if taken else "one"
    with pytest.raises(PartError) as caught:
        look(slot, instantiate({"_target_": f"ff_own.{name}"}, slot), f"ff_own.{name}")
    told = str(caught.value)
    assert f"The {slot} ff_own.{name} cannot be called with what it is given" in told
    assert f"got {'noargs()' if taken else 'one(x)'}, allowed: {name}({', '.join(taken)})" in told
    assert CONTRACTS[slot].protocol in told


@pytest.mark.parametrize("slot", CONTRACTS)
def test_what_lacks_what_its_slot_calls_is_refused(slot):
    wants = next(iter((*CONTRACTS[slot].takes, *CONTRACTS[slot].holds)))
    says = "cannot be called" if wants == "__call__" else f"has no '{wants}'"
    with pytest.raises(
        PartError, match=f"The {slot} ff_own.Thing {says}: got an instance of Thing"
    ):
        look(slot, instantiate({"_target_": "ff_own.Thing"}, slot), "ff_own.Thing")


@pytest.mark.parametrize("slot", CONTRACTS)
def test_the_contract_that_is_named_exists(slot):
    module, _, name = CONTRACTS[slot].protocol.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("slot", ["extract", "attack", "faults", "codec", "exchange", "reporter"])
def test_the_contract_is_that_of_the_protocol(slot):
    """Method by method and name by name, so that what is said stays what is called."""
    module, _, name = CONTRACTS[slot].protocol.rpartition(".")
    protocol = getattr(importlib.import_module(module), name)
    for method, given in CONTRACTS[slot].takes.items():
        asked = list(inspect.signature(getattr(protocol, method)).parameters)[1:]
        assert asked == [*given, *CONTRACTS[slot].keywords.get(method, ())]


def test_a_loss_that_wants_the_prior_is_given_it_and_nothing_else(parts):
    def seen(name):
        look("local_loss", instantiate({"_target_": f"ff_own.{name}"}, "local_loss"), name)

    seen("Adding")
    try_parts(having(parts, "local_loss", "Adding"))
    with pytest.raises(PartError, match="nobody tells it: got own, allowed: prior"):
        seen("Curious")
    with pytest.raises(PartError, match=r"allowed: Deaf\(logits, labels, facts\)"):
        seen("Deaf")


def test_parts_of_fedfuse_and_of_torch_are_not_looked_at(parts):
    try_parts(parts)
    look("optimizer", instantiate({"_target_": "torch.optim.RMSprop"}, "optimizer"), "...")


WRONG = {
    # slot, part: what is said of what it returns
    ("scorer", "score_rows"): "got [3] of torch.float32, allowed: a float tensor of shape [3, 3]",
    ("scorer", "score_nan"): "got NaN or +inf",
    ("scorer", "score_classes"): "got [3, 3, 11] of torch.float32, allowed: a float tensor of",
    ("scorer", "score_silently"): "Declare by_class = True",
    ("scorer", "score_by_chance"): "is not reproducible: got something else",
    ("scorer", "score_and_write"): "changed what it was given",
    ("rule", "rule_of_logits"): "declare space = Space.LOGITS",
    ("rule", "rule_of_halves"): "did not return probabilities: got a sum 0.5 away from 1",
    ("scorer", "score_one_class_nan"): "got NaN or +inf for the classes [2]",
    ("neighbours", "near_scores"): "allowed: a bool tensor of shape [3, 3]",
    ("rule", "rule_of_one"): "allowed: a float tensor of shape [3, 40, 10]",
    ("sharpen", "sharp_twice"): "sum to 1 over the classes",
    ("filter", "weigh_classes"): "allowed: a float tensor of shape [3, 40]",
    ("distill", "loss_of_batch"): "Leave out its mean or sum (reduction='none')",
    ("distill", "loss_detached"): "has no gradient",
    ("distill", "loss_by_chance"): "is not reproducible",
    ("participation", "sample_from_memory"): "is not reproducible",
    ("select", "select_by_chance"): "is not reproducible",
    ("lr_schedule", "rate_by_chance"): "is not reproducible",
    ("privacy", "blur_by_chance"): "is not reproducible",
    ("augment", "darkens"): "changed what it was given",
    ("distill", "loss_nan"): "got NaN or infinite values",
    ("local_loss", "private_mean"): "Leave out its mean or sum (reduction='none')",
    ("local_loss", "Matrix"): "got a Tensor, torch.float32 of shape [3, 10]",
    ("participation", "sample_list"): "got a list, allowed: a tensor of ascending ids from 0 to 2",
    (
        "select",
        "select_floats",
    ): "torch.float32 of shape [40], allowed: a tensor of ascending int64",
    ("familiarity", "familiar_few"): "did not return a mask or a confidence",
    ("uptake", "takes_targets"): "did not return teachers: got a Tensor",
    ("request", "AsksNobody"): "asks for nothing in round 1",
    ("answer", "answers_logits"): "allowed: finite bool or float32 of shape [40]",
    ("wish", "wishes_surely"): "allowed: finite bool of shape [40]",
    ("merge", "merge_flat"): "did not return models in round 1: got a Tensor",
    ("augment", "cuts"): "did not return samples of the public set's kind",
    ("privacy", "blur_list"): "got a list, allowed: finite logits [40, 10]",
    ("codec", "noargs"): "made no codec: got an instance of int",
}


@pytest.mark.parametrize(("slot", "name"), WRONG)
def test_what_it_returns_is_seen_before_the_first_round(parts, slot, name):
    with pytest.raises(FedfuseError) as caught:
        try_parts(having(parts, slot, name))
    assert WRONG[slot, name] in str(caught.value)


@pytest.mark.parametrize(
    "slot",
    [slot for slot in TRIALS if slot not in ("attack", "extract", "faults", "private_augment")],
)
def test_an_exception_in_a_trial_shows_the_lines_of_its_author(parts, slot):
    with pytest.raises(PartError) as caught:
        try_parts(having(parts, slot, "boom"))
    what, shown = str(caught.value).split("\n", 1)
    assert what == f"The {slot} ff_own.boom raised KeyError: 'missing'."
    # Frames of the tests' own checks of shapes may stand before the author's.
    assert re.search(r'ff_own.py", line \d+, in boom\n    return {}\["missing"\]', shown)
    assert "Traceback" in caught.value.whole


def test_a_trial_leaves_random_numbers_and_parts_alone(parts):
    before = torch.random.get_rng_state()
    run = having(parts, "scorer", "Counting")
    try_parts(run)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert instantiate(run.cfg.scorer, "scorer").calls == 0


def test_a_part_that_cannot_be_copied_is_tried_as_it_is(parts):
    try_parts(having(parts, "scorer", "NotToCopy"))


def test_a_trial_is_as_large_as_the_run_but_not_larger(parts):
    cfg = parts.cfg.copy()
    assert Toy(parts, "it").bank().logits.shape == (3, 40, 10)
    cfg.num_clients = 10_000
    assert Toy(replace(parts, cfg=cfg), "it").bank().logits.shape == (10_000, 10, 10)


@pytest.mark.parametrize("name", ["deal_by_chance", "deal_from_memory"])
def test_a_partitioner_that_deals_otherwise_when_asked_again_is_refused(own, name):
    part = instantiate({"_target_": f"ff_own.{name}"}, "partitioner")
    with pytest.raises(PartitionError, match=f"{name} is not reproducible"):
        apply_partitioner(part, np.arange(60) % 3, 3, np.random.default_rng(0))


def test_asking_a_partitioner_twice_changes_nothing(own):
    part = instantiate({"_target_": "ff_own.deal"}, "partitioner")
    labels = np.arange(60) % 3
    dealt, _ = apply_partitioner(part, labels, 3, np.random.default_rng(0))
    expected = part(labels, 3, np.random.default_rng(0))
    assert all(map(np.array_equal, dealt, expected))


MODELS = {
    "boom": ["cannot be built: got KeyError: 'missing'", 'return {}["missing"]'],
    "Unbuilt": ["NameError: name 'undefined' is not defined", "self.extra = undefined"],
    "Misnamed": ["has no attribute 'lst'", "in forward", "return self.lst(x.flatten(1))"],
    "Untrainable": ["cannot be trained on two samples", "only for use", "assert not self.training"],
    "Wide": ["does not return logits: got torch.float32 of shape [2, 20]"],
}


def modelled(parts: Parts, name: str, **changes: Any) -> Parts:
    """Return the run with a model of the user's own and other values of some keys."""
    cfg = parts.cfg.copy()
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    plan = as_plan(instantiate({"_target_": f"ff_own.{name}"}, "model"), name)
    return replace(parts, cfg=cfg, models=plan)


@pytest.mark.parametrize("name", MODELS)
def test_a_bug_in_a_model_names_file_and_line(parts, name):
    with pytest.raises(ModelError) as caught:
        check_compatible(modelled(parts, name))
    for words in (*MODELS[name], *([] if name == "Wide" else ['ff_own.py", line '])):
        assert words in str(caught.value)


def test_models_that_share_what_is_trained_are_refused(parts):
    with pytest.raises(ModelError, match=r"shares its weights .* the same 'head\.weight' twice"):
        check_compatible(modelled(parts, "shared"))
    check_compatible(modelled(parts, "OnFrozen"))


@pytest.mark.parametrize("name", ["AlwaysDrops", "NumpyNoise"])
def test_a_model_whose_tests_are_noise_is_warned_about(parts, name):
    with pytest.warns(ModelWarning, match="answers the same inputs differently"):
        check_compatible(modelled(parts, name))


def test_a_model_that_ends_in_a_softmax_is_warned_about(parts):
    with pytest.warns(ModelWarning, match="Leave the last softmax out"):
        check_compatible(modelled(parts, "Soft"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_compatible(modelled(parts, "Net"))


LONE = {
    # what is changed: which samples and keys are named
    ("client__distill_batch_size", 13): [
        "the last batch of the 40 public samples of a round is one",
        "got public.size=40, client.distill_batch_size=13. Set client.distill_batch_size=12, or",
    ],
    ("client__distill_batch_size", 1): ["Set client.distill_batch_size=2"],
    ("client__batch_size", 1): ["private samples of client 0", "got client.batch_size=1"],
    ("client__batch_size", "ONE"): ["private samples of client 1", "Set client.batch_size="],
}


@pytest.mark.parametrize("change", LONE)
def test_a_last_batch_of_one_is_refused_where_a_model_cannot_bear_it(parts, change):
    key, value = change
    if value == "ONE":  # a last batch of one for client 1 alone
        value = len(parts.data.clients[1].train) - 1
    run = modelled(parts, "Batchy", **{key: value})
    with pytest.raises(ModelError) as caught:
        check_compatible(run)
    said = str(caught.value)
    assert "cannot be trained on a batch of one sample (ValueError: Expected more" in said
    for words in LONE[change]:
        assert words in said
    better = re.search(r"Set (client\.\w+)=(\d+)", said)
    check_compatible(modelled(parts, "Batchy", **{better[1].replace(".", "__"): int(better[2])}))
    with warnings.catch_warnings():  # others take it
        warnings.simplefilter("error")
        check_compatible(modelled(parts, "Net", **{key: value}))


def test_pre_training_and_the_baselines_last_step_are_looked_at(parts):
    run = modelled(parts, "Batchy", baseline="local", budget="samples", client__batch_size=8)
    found = {each.what: each for each in trained(run, range(3))}
    # 40 public samples and the private batches of their one step of distillation end an epoch of
    # the baseline somewhere; the samples after its last whole epoch are its last batches.
    for client in run.data.clients:
        total = 40 + samples_processed(len(client.train), 8, 1)
        left = total % len(client.train)
        what = f"the {left} samples with which client {client.client_id} of the baseline ends"
        assert found[what].size == left
    run = replace(run, pretraining=Pretraining(batch_size=35, val_fraction=0.1))
    first = next(iter(trained(run, range(3))))
    assert (first.size, first.batch, first.lonely) == (36, 35, True)


def test_the_servers_own_model_is_tried_too(parts):
    cfg = parts.cfg.copy()
    OmegaConf.set_struct(cfg, False)
    cfg.student = {"_target_": "ff_own.Batchy"}
    check_compatible(replace(parts, cfg=cfg))
    cfg.client.distill_batch_size = 39
    with pytest.raises(ModelError, match="Model 'Batchy' of the server cannot be trained") as told:
        check_compatible(replace(parts, cfg=cfg))
    assert "public.size=40, client.distill_batch_size=39" in str(told.value)
    cfg.student = {"_target_": "ff_own.Misnamed"}
    with pytest.raises(ModelError, match="of the server cannot take a batch of inputs"):
        check_compatible(replace(parts, cfg=cfg))


def test_a_model_that_squeezes_its_batch_away_is_told(parts):
    with pytest.raises(ModelError, match=r"it returns the shape \[10\]"):
        check_compatible(modelled(parts, "Squeezing", client__distill_batch_size=13))
    with pytest.raises(ModelError, match="cannot predict a batch of one") as caught:
        check_compatible(modelled(parts, "Squeezing", evaluation__batch_size=39))
    assert "got evaluation.batch_size=39. Set evaluation.batch_size=" in str(caught.value)


OPTIMIZERS = {
    "boom": ["The optimizer cannot be made: got KeyError: 'missing'", 'return {}["missing"]'],
    "optimizer_of": ["The optimizer is none: got a list", "torch.optim.Optimizer"],
    "kept_optimizer": ["The optimizer is another model's", "a new torch.optim.Optimizer"],
    "strange_optimizer": ["The optimizer is another model's", "parameters that it was not given"],
    "Stuck": ["RuntimeError: cannot step", 'raise RuntimeError("cannot step")'],
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_a_step_before_the_first_round(parts, name):
    with pytest.raises(FedfuseError) as caught:
        check_compatible(having(parts, "optimizer", name))
    for words in OPTIMIZERS[name]:
        assert words in str(caught.value)


def test_what_the_optimizer_leaves_as_it_is_is_told(parts):
    with pytest.warns(ModelWarning, match="leaves parts of model 'mlp' of client 0 .*bias"):
        check_compatible(having(parts, "optimizer", "half_optimizer"))


COMMANDS = {
    # command line -> what is said, by the whole command; the slots are tried above
    "scorer._target_=ff_own.noargs": ["got noargs(), allowed: noargs(bank, labels)"],
    "partitioner._target_=ff_own.boom": ["KeyError: 'missing'", 'return {}["missing"]'],
    "dataset=custom dataset._target_=ff_own.boom": ["The dataset ff_own.boom raised KeyError"],
    "scorer._target_=ff_own.score_late num_rounds=3": [
        "raised ValueError: too many calls",
        "raise",
    ],
    "reporter=custom reporter._target_=ff_own.BadEnd": ["raised OSError: my disk", "raise"],
    "reporter=custom reporter._target_=ff_own.BadReporter": ["raised OSError: my disk", "raise"],
}


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_tells_it_without_frames_of_fedfuse(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    groups = {word.split("=")[0].split(".")[0] for word in line.split()}
    usual = [word for word in LINE.split() if word.split("=")[0].split(".")[0] not in groups]
    assert main([*usual, *line.split()]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "/fedfuse/" not in err
    assert "/experiments/" not in err
    for words in COMMANDS[line]:
        assert words in err


def test_with_traceback_the_rest_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*LINE.split(), "scorer._target_=ff_own.boom", "--traceback"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert "trials.py" in err
    assert "error: The scorer ff_own.boom raised KeyError: 'missing'." in err
    assert "--traceback" not in err
