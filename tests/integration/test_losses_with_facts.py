"""An outsider's loss that knows more than logits and target, or relates samples, in whole runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.run import main
from fedfuse.testing import check_distill_loss
from tests.experiments.runs.test_resume import interrupted, same

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


@pytest.mark.parametrize("name", ["WhereRight", "Timed", "centred", "moody"])
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
    plain = simulate(*WORDS)
    assert float((weights(loop) - weights(plain)).abs().max()) > 1e-4


def test_W1_own_is_asked_once_where_the_uptake_reads_it_too(
    simulate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedfuse.train.trainer import LoopTrainer

    real, asked = LoopTrainer.predict, []

    def predict(self: LoopTrainer, students: Any, inputs: torch.Tensor, size: int) -> torch.Tensor:
        asked.append(len(inputs))
        return real(self, students, inputs, size)

    monkeypatch.setattr(LoopTrainer, "predict", predict)
    counts = []
    for words in ((), ("uptake=own_or_teacher",), RIGHT, (*RIGHT, "uptake=own_or_teacher")):
        asked.clear()
        simulate(*WORDS, *words, "trainer=loop")
        counts.append(asked.count(40))
    plain, uptake, loss, both = counts
    assert uptake == loss == both == plain + 3  # one pass of each client in the round that fuses


def test_W1_own_is_raw_whatever_is_shared(simulate: Callable[..., Any]) -> None:
    """What the loss is told are the model's logits, not what was extracted of them."""
    words = (*WORDS, *RIGHT, "uptake=own_or_teacher")
    one, other = (simulate(*words, f"extract={e}") for e in ("logits", "probabilities"))
    torch.testing.assert_close(weights(one), weights(other), atol=1e-5, rtol=1e-4)


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
    run = simulate(*WORDS, *RIGHT, "student=resnet8")
    found = run.metrics
    assert (found.metric == "accuracy_server").any()


def test_W1_a_resumed_run_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    interrupted(broken, monkeypatch, *RIGHT)
    assert main([f"resume={broken}", RIGHT[1]]) == 0  # the author's code is run when asked for
    from tests.experiments.runs.test_resume import TINY

    assert main([*TINY, *RIGHT, f"hydra.run.dir={whole}"]) == 0
    assert same(whole, broken)


@pytest.mark.parametrize("name", ["centred", "moody"])
def test_W2_auto_takes_the_loop(simulate: Callable[..., Any], name: str) -> None:
    words = (*WORDS, "distill=custom", f"distill._target_=my_losses.{name}")
    loop, auto = (simulate(*words, f"trainer={trainer}") for trainer in ("loop", "auto"))
    assert torch.equal(weights(loop), weights(auto))


QUICK = ["dataset=synthetic", "dataset.num_train=300", "public.size=40", "model=mlp"]
QUICK += ["num_clients=3", "num_rounds=2", "method=mean"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("WhereRight public=noise", "loss WhereRight needs labels of the public set"),
        ("Timed", "loss Timed wants to know each client's clock, and nothing sets it"),
        ("Timed uptake._target_=my_losses.clock student=mlp", "the server's own model does not"),
        ("Curious", "wants to know what nobody tells it: got weather, allowed: clock, labels"),
        ("centred trainer=batched", "loss centred relates the samples of a client's batch"),
        ("moody trainer=batched", "loss moody is one client's, which cannot be computed for many"),
        ("moody -m engine.pack=true seed=0,1", "got engine.pack=true"),
    ],
)
def test_W1_W2_what_cannot_work_is_said_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    name, *more = words.split()
    folder = tmp_path / "run"
    loss = ["distill=custom", f"distill._target_=my_losses.{name}"]
    places = [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    assert main([*QUICK, *loss, *more, *places]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert says in told
    assert "Traceback" not in told
    assert not list(folder.rglob("metrics.parquet"))
