"""An outsider's loss that knows more than logits and target, or relates samples, in whole runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clients.exchange import Predictions
from experiments.assembly.build_all import check_parts
from experiments.assembly.parts import build_trainer
from experiments.config import compose
from experiments.config.instantiate import instantiate
from experiments.run import main
from fedfuse.distill import DKD, KL, APAtK, SoftCrossEntropy, WeightedSum
from fedfuse.errors import FedfuseError
from fedfuse.testing import check_distill_loss
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.trainer import LoopTrainer
from tests.experiments.runs.test_resume import TINY, interrupted, same

LOSS = '''
"""Learn half from the teacher where it is right, and stay what one was elsewhere."""
from dataclasses import dataclass
from typing import ClassVar

import torch
from fedfuse.distill.losses import kl_forward
from fedfuse.train.facts import Facts

SEEN = []

@dataclass(frozen=True)
class WhereRight:
    temperature: float = 1.0
    wants: ClassVar[frozenset] = frozenset({"labels", "own"})
    least_where_agreeing: ClassVar[bool] = False

    def __call__(self, student_logits, targets, facts: Facts):
        assert facts.prior is None and facts.clock is None
        if not torch._C._functorch.is_batchedtensor(student_logits):
            SEEN.append((facts.labels, facts.own))
        right = 0.5 * (targets.argmax(dim=1) == facts.labels)
        stay = kl_forward(student_logits, facts.own.softmax(dim=1))
        return right * kl_forward(student_logits, targets) + (1 - right) * stay

@dataclass(frozen=True)
class InTime(WhereRight):
    """The same, the surer the later it is."""
    wants: ClassVar[frozenset] = frozenset({"labels", "own", "clock"})

    def __call__(self, student_logits, targets, facts: Facts):
        same = Facts(labels=facts.labels, own=facts.own)
        return facts.clock * WhereRight.__call__(self, student_logits, targets, same)

@dataclass(frozen=True)
class Timed:
    """A loss that wants what only the client knows."""
    wants: ClassVar[frozenset] = frozenset({"prior", "clock"})
    least_where_agreeing: ClassVar[bool] = False

    def __call__(self, student_logits, targets, facts: Facts):
        if not torch._C._functorch.is_batchedtensor(student_logits):
            SEEN.append((facts.prior, facts.clock))
        return facts.clock * kl_forward(student_logits + facts.prior, targets)

@dataclass(frozen=True)
class Curious:
    wants: ClassVar[frozenset] = frozenset({"weather"})

    def __call__(self, student_logits, targets, facts):
        return kl_forward(student_logits, targets)

def centred(student_logits, targets):
    """A loss of the samples' differences from their mean."""
    probs = student_logits.softmax(dim=1)
    apart = (probs - probs.mean(dim=0)) - (targets - targets.mean(dim=0))
    return apart.square().sum(dim=1)

centred.relational = True

def moody(student_logits, targets):
    return kl_forward(student_logits, targets)

moody.batchable = False

def clock(teachers, at):
    """Half time in the first round, then later by a hundredth for each client."""
    for client_id in teachers.client_ids.tolist():
        at.memory[client_id]["clock/t"] = torch.tensor(0.5 + client_id / 100)
    return teachers

clock.sets_clock = True
'''


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of somebody's own, in which they start fedfuse."""
    (tmp_path / "my_losses.py").write_text(LOSS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_losses", raising=False)
    return tmp_path


WORDS = ("method=mean", "models=save", "baseline=none", "checkpoint.every=0")
WORDS += ("dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50")
RIGHT = ("distill=custom", "distill._target_=my_losses.WhereRight")


def weights(run: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


@pytest.mark.parametrize("name", ["WhereRight", "InTime", "Timed", "centred", "moody"])
def test_W1_W2_the_author_s_check_passes(name: str) -> None:
    import my_losses  # type: ignore[import-not-found]

    loss = getattr(my_losses, name)
    check_distill_loss(loss() if isinstance(loss, type) else loss)


def test_W1_loop_batched_and_two_nodes_agree(simulate: Callable[..., Any]) -> None:
    loop = simulate(*WORDS, *RIGHT, "trainer=loop")
    import my_losses

    labels, own = my_losses.SEEN[-1]
    assert labels.dtype is torch.int64
    assert not own.requires_grad
    batched = simulate(*WORDS, *RIGHT, "trainer=batched")
    nodes = simulate(*WORDS, *RIGHT, "trainer=loop", "engine.num_nodes=2")
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)
    assert torch.equal(weights(loop), weights(nodes))


def test_W1_own_is_asked_once_and_is_raw_where_the_uptake_reads_it_too(
    simulate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = LoopTrainer.predict, []

    def predict(self: LoopTrainer, students: Any, inputs: torch.Tensor, size: int) -> torch.Tensor:
        asked.append(len(inputs))
        return real(self, students, inputs, size)

    monkeypatch.setattr(LoopTrainer, "predict", predict)
    counts = []
    for words in ((), (*RIGHT, "uptake=own_or_teacher")):
        asked.clear()
        simulate(*WORDS, *words, "trainer=loop", "extract=probabilities")
        counts.append(asked.count(40))
    plain, both = counts
    assert both == plain + 3  # one pass of each client in the round that fuses
    import my_losses

    # The uptake reads what is shared, logarithms of probabilities; the loss is told the logits.
    _, own = my_losses.SEEN[-1]
    assert float(own.logsumexp(dim=1).abs().min()) > 1e-3


def test_W1_prior_and_clock(simulate: Callable[..., Any]) -> None:
    words = (*WORDS, "distill=custom", "distill._target_=my_losses.Timed", "partitioner=dirichlet")
    words += ("uptake=custom", "uptake._target_=my_losses.clock")
    loop = simulate(*words, "trainer=loop")
    import my_losses

    prior, clock = my_losses.SEEN[-1]  # of the last client
    torch.testing.assert_close(prior.exp().sum(dim=1), torch.ones(len(prior)))
    torch.testing.assert_close(clock, torch.full((len(prior),), 0.52))
    batched = simulate(*words, "trainer=batched")
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)


def test_W1_the_server_s_own_model(simulate: Callable[..., Any]) -> None:
    run = simulate(*WORDS, *RIGHT, "student=mlp")
    found = run.metrics
    assert (found.metric == "accuracy_server").any()


def test_W1_a_resumed_run_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    own = "distill._target_=my_losses.InTime"  # the clock is there already
    interrupted(broken, monkeypatch, own)
    assert main([f"resume={broken}", own]) == 0  # the author's code is run when asked for
    assert main([*TINY, own, f"hydra.run.dir={whole}"]) == 0
    assert same(whole, broken)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("distill=kl", BatchedTrainer),
        ("distill=custom distill._target_=my_losses.WhereRight", BatchedTrainer),
        ("distill=custom distill._target_=my_losses.centred", LoopTrainer),
        ("distill=custom distill._target_=my_losses.moody", LoopTrainer),
        ("distill=dist method.name=local rule=none", BatchedTrainer),  # nobody distils
    ],
)
def test_W2_auto_takes_the_loop(words: str, kind: type) -> None:
    """With the runs of a pack, where training many clients at once pays on the CPU, too."""
    cfg = compose.configure([*QUICK, "engine.pack=true", *words.split()])
    loss = None if cfg.rule._target_ is None else instantiate(cfg.distill, "distill")
    assert type(build_trainer(cfg, Predictions(), loss)) is kind


def refused(*words: str) -> str:
    """Return why a command is refused, whatever its data are."""
    with pytest.raises(FedfuseError) as told:
        check_parts(compose.configure([*QUICK, *words]))
    return str(told.value)


QUICK = ["dataset=synthetic", "dataset.num_train=300", "public.size=40", "model=mlp"]
QUICK += ["num_clients=3", "num_rounds=2", "method=mean"]
CLOCK = "uptake._target_=my_losses.clock"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("Timed", "loss Timed wants to know each client's clock, and nothing sets it"),
        (f"Timed {CLOCK} student=mlp", "the server's own model does not have: got wants = clock, "),
        ("Curious", "wants to know what nobody tells it: got weather, allowed: clock, labels"),
        ("centred trainer=batched", "loss centred relates the samples of a client's batch"),
        ("moody trainer=batched", "loss moody is one client's, which cannot be computed for many"),
        ("moody engine.pack=true", "got engine.pack=true"),
    ],
)
def test_W1_W2_what_cannot_work_is_said_before_any_run(words: str, says: str) -> None:
    name, *more = words.split()
    loss = ["distill=custom", f"distill._target_=my_losses.{name}"]
    assert says in refused(*loss, *more)


def test_A4_A9_options_made_of_other_options_are_built_from_the_command_line() -> None:
    def built(*words: str) -> Any:
        return instantiate(compose.configure([*QUICK, *words]).distill, "distill")

    kl, reverse = KL(2.0), KL(2.0, direction="reverse")
    first, second = {"loss": kl, "weight": 1.0}, {"loss": reverse, "weight": 0.5}
    words = ["temperature=2", "distill=weighted_sum"]
    assert built(*words) == WeightedSum({"forward": first, "reverse": second})
    more = ["+distill@distill.terms.label.loss=dkd", "~distill.terms.reverse"]
    more += ["distill.terms.forward.weight=3"]
    label = {"loss": DKD(temperature=2.0)}
    assert built(*words, *more) == WeightedSum({"forward": {**first, "weight": 3}, "label": label})
    other = "distill.base._target_=fedfuse.distill.SoftCrossEntropy"
    ranked = built("temperature=2", "distill=ap_at_k", "distill.k=2", other)
    assert ranked == APAtK(2, SoftCrossEntropy(2.0))
    wrong = "distill=weighted_sum", "distill.terms.forward.loss.temperature=3"
    assert "got 'forward: 3, reverse: 1.0', allowed: losses of one temperature" in refused(*wrong)
    assert "'weights [0, 0]', allowed: one weight above 0" in refused(
        "distill=weighted_sum", *(f"distill.terms.{t}.weight=0" for t in ("forward", "reverse"))
    )


def test_W1_labels_that_nobody_knows_are_missed_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main([*QUICK, *RIGHT, "public=noise", f"hydra.run.dir={folder}"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "loss WhereRight needs labels of the public set, which has none" in told
    assert "Traceback" not in told
    assert not (folder / "metrics.parquet").exists()
