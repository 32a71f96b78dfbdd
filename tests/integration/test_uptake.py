"""What clients make of their teachers, in whole runs of a few clients."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from experiments.run import main
from fedfuse.uptake.chain import weighed

WORDS = ["method=mean", "models=save", "baseline=none", "checkpoint.every=0"]
WORDS += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]


def nothing(teachers, at):
    """An uptake that leaves no client any sample."""
    return weighed(teachers, torch.zeros(teachers.targets.shape[:2]))


def nonsense(teachers, at):
    """Neither teachers nor an error."""
    return teachers.targets


def negative(teachers, at):
    """Unlearn it."""
    return weighed(teachers, -torch.ones(teachers.targets.shape[:2]))


def reader(teachers, at):
    """Labels, whether there are any or not."""
    return weighed(teachers, (at.labels >= 0).float().expand(teachers.targets.shape[:2]))


reader.needs_labels = True


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the configuration find this file's functions."""
    (tmp_path / "uptake_parts.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))


def table(run) -> pd.DataFrame:
    return pq.read_table(run.folder / "metrics.parquet").to_pandas()


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def metric(run, name: str) -> list[float]:
    found = table(run)
    return found[(found.metric == name) & (found["round"] == 2)].value.tolist()


@pytest.mark.parametrize("by", ["max_prob", "label"])
def test_C1_the_gate_on_the_clients_is_the_gate_on_the_server(simulate, by):
    plain = simulate(*WORDS)
    client = simulate(*WORDS, "uptake=own_or_teacher", f"uptake.by={by}")
    server = simulate(*WORDS, "rule=own_or_fused", f"rule.by={by}")
    torch.testing.assert_close(weights(client), weights(server), atol=1e-6, rtol=0)
    assert float((weights(client) - weights(plain)).abs().max()) > 1e-4
    assert metric(client, "bytes_down") == metric(plain, "bytes_down")
    assert metric(client, "bytes_up") == metric(plain, "bytes_up")
    assert not metric(plain, "taught_share"), "without an uptake nothing is told of it"
    assert all(0 < share < 1 for share in metric(client, "taught_share"))


ALL_FOUR = [
    *("uptake=chain", "uptake.stages.own_or_teacher.soft=0.1"),
    *("+uptake@uptake.stages.look=homeostatic", "uptake.stages.look.passes=2"),
    "+uptake@uptake.stages.gap=gap",
]


def test_one_after_the_other_and_all_at_once_agree(simulate):
    loop, batched = (
        simulate(*WORDS, *ALL_FOUR, f"trainer={trainer}") for trainer in ("loop", "batched")
    )
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)
    for name in ("taught_share", "uncertainty"):
        told = metric(loop, name)
        assert told == pytest.approx(metric(batched, name), abs=1e-5)
        assert len(told) == 3
        assert all(0 < share < 1 for share in told)


TIMED = ["method=taid", "num_rounds=4", "warmup_rounds=0"]
TIMED += ["+uptake@uptake.stages.clock=clock", "uptake.stages.clock.alpha=1", "uptake=chain"]


def test_A5_the_clock_in_a_chain_goes_its_own_way_for_each_client(simulate):
    loop, batched, nodes = (
        simulate(*WORDS, *TIMED, word)
        for word in ("trainer=loop", "trainer=batched", "engine.num_nodes=2")
    )
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)
    clocks = table(loop)[table(loop).metric == "clock"].sort_values("round")
    shown = [clocks[clocks.client_id == i].value.tolist() for i in range(3)]
    assert all(t[0] == t[1] == pytest.approx(0.4) and t[1] < t[2] < t[3] < 1 for t in shown)
    assert len({t[3] for t in shown}) == 3, "each clock depends on what its client learns"
    assert table(nodes).value.tolist() == table(simulate(*WORDS, *TIMED)).value.tolist()


def test_A5_at_its_end_it_is_plain_distillation(simulate):
    words = (*WORDS, "temperature=2")
    end = simulate(*words, "method=taid", "uptake.t_start=1", "uptake.adaptive=false")
    plain = simulate(*words, "distill.scale_by_t2=false")
    assert torch.equal(weights(end), weights(plain))


def test_A5_as_a_term_of_a_sum_of_losses_it_reads_the_clock_too(simulate):
    sum_of_two = ("uptake=clock", "distill=weighted_sum", "distill.terms.forward.weight=0")
    sum_of_two += ("+distill@distill.terms.timed.loss=taid", "distill.terms.reverse.weight=0")
    in_sum = simulate(*WORDS, *sum_of_two)
    torch.testing.assert_close(weights(in_sum), weights(simulate(*WORDS, "method=taid")))


def test_A5_with_nothing_but_its_own_at_the_beginning_a_client_stays_as_it_is(simulate):
    words = (*WORDS, "method=taid", "client.private_weight=0", "optimizer=sgd", "warmup_rounds=1")
    words += ("client.optimizer_state=reset",)  # the momentum of private steps would go on
    words += ("uptake.t_start=0", "uptake.adaptive=false")
    before = simulate(*words, "num_rounds=2", "client.distill_epochs=2")
    alone = simulate(*words, "num_rounds=2", "client.distill_epochs=1")
    torch.testing.assert_close(weights(before), weights(alone), atol=1e-6, rtol=0)
    later = simulate(*words, "num_rounds=2", "client.distill_epochs=2", "uptake.t_start=0.5")
    assert float((weights(later) - weights(before)).abs().max()) > 1e-5


def test_B8_the_server_mixes_by_the_round_and_ends_with_the_inner_rule(simulate):
    words = (*WORDS, "num_rounds=5", "warmup_rounds=2")
    run = simulate(*words, "method=taid_server", "rule.ramp_rounds=2")
    told = table(run)
    shown = told[(told.metric == "clock") & (told.client_id == -1)].sort_values("round")
    assert shown["round"].tolist() == [3, 4, 5]
    assert shown.value.tolist() == pytest.approx([0.4, 0.7, 1.0])
    end = simulate(*words, "method=taid_server", "rule.t_start=1")
    assert torch.equal(weights(end), weights(simulate(*words)))
    assert float((weights(run) - weights(end)).abs().max()) > 1e-4


def test_C5_a_client_learns_from_what_it_said_too(simulate):
    plain, mulki = (simulate(*WORDS, "num_rounds=3", f"method={m}") for m in ("mean", "mulki"))
    told = table(mulki)
    shares = told[told.metric == "taught_share"].sort_values("round").value.tolist()
    assert shares[:3] == [1.0] * 3, "no past in its first lesson"
    assert all(0.2 < share < 0.8 for share in shares[3:])
    assert float((weights(mulki) - weights(plain)).abs().max()) > 1e-4
    for name in ("bytes_up", "bytes_down"):
        assert metric(mulki, name) == metric(plain, name)


def test_what_is_compared_is_what_is_shared(simulate):
    """Probabilities say all but the level of logits, and the gate does not read levels."""
    words = (*WORDS, "uptake=own_or_teacher")
    logits, probabilities = (simulate(*words, f"extract={e}") for e in ("logits", "probabilities"))
    torch.testing.assert_close(weights(logits), weights(probabilities), atol=1e-5, rtol=1e-4)


def test_own_is_free_of_the_prior_where_what_came_is(simulate):
    """Of one client the teacher is what it shared itself, whatever that is: a tie everywhere."""
    alone = (*WORDS, "num_clients=1", "uptake=own_or_teacher", "extract=adjusted")
    seldom = ("num_rounds=4", "evaluation.every=2")
    assert metric(simulate(*alone, *seldom), "taught_share") == [0.0]
    words = (*WORDS, "method=mean_adjusted", "prior.tau=0.5", "local_loss=ce")
    client = simulate(*words, "uptake=own_or_teacher")
    server = simulate(
        *words, "rule=own_or_fused", "rule.inner._target_=fedfuse.fusion.GeometricMean"
    )
    torch.testing.assert_close(weights(client), weights(server), atol=1e-6, rtol=0)


def test_C1_one_client_has_nothing_to_learn_from_itself(simulate):
    run = simulate(*WORDS, "num_clients=1", "uptake=own_or_teacher")
    assert metric(run, "taught_share") == [0.0]


def test_a_client_that_is_left_without_a_sample_trains_on_its_own_and_says_so(simulate):
    run = simulate(*WORDS, "uptake._target_=uptake_parts.nothing")
    alone = simulate(*WORDS, "uptake._target_=uptake_parts.nothing", "rule=mean_logits")
    assert metric(run, "taught_share") == [0.0] * 3
    assert torch.equal(weights(run), weights(alone)), "no teacher gets through"
    assert all(loss < 20 for loss in metric(run, "loss_global"))


QUICK = ["dataset=synthetic", "dataset.num_train=300", "public.size=40", "model=mlp"]
QUICK += ["num_clients=3", "num_rounds=2"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("public=noise uptake._target_=uptake_parts.reader", "The uptake reader needs labels"),
        ("uptake=own_or_teacher uptake.soft=-1", "'soft' parameter of OwnOrTeacher"),
        ("uptake=own_or_teachr", "Did you mean 'own_or_teacher'"),
        ("uptake=chain uptake.stages=3", "'stages' parameter of Chain"),
        ("uptake._target_=uptake_parts.nonsense", "did not return teachers: got a Tensor"),
        ("uptake._target_=uptake_parts.negative", "negative or infinite ones"),
        ("uptake._target_=uptake_parts.QUICK", "uptake_parts.QUICK"),
    ],
)
def test_what_cannot_work_is_said_before_any_training(tmp_path, capsys, words, says):
    folder = tmp_path / "run"
    assert main([*QUICK, *words.split(), f"hydra.run.dir={folder}"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert says in told
    assert "Traceback" not in told
    assert not (folder / "metrics.parquet").exists()
