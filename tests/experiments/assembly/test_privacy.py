"""Noise from the clients' secrets: one answer a round, however often a run is broken off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict
from omegaconf import OmegaConf

from clients import handover
from experiments import flower
from experiments.run import main
from experiments.runs import resume
from experiments.runs.resumable_keys import identity, legacy_identity
from fedfuse.errors import FedfuseError
from fedfuse.privacy import PrivacyStage
from fedfuse.wire.messages import Header
from server import loop

QUICK = (
    "dataset=synthetic",
    "num_clients=2",
    "num_rounds=3",
    "warmup_rounds=0",
    "public.size=20",
    "model=mlp",
    "evaluation.test_samples=50",
    "evaluation.own_test_samples=50",
    "baseline=none",
    "privacy=gaussian",
    "privacy.clip=3.0",
)

Sent = dict[tuple[int, int], list[torch.Tensor]]


@pytest.fixture
def sent(monkeypatch) -> Sent:
    """Collect what leaves each client, by client and round."""
    real, seen = PrivacyStage.__call__, {}

    def call(self, bank, context):
        made = real(self, bank, context)
        for row, client_id in enumerate(bank.client_ids.tolist()):
            seen.setdefault((client_id, context.round), []).append(made.logits[row].clone())
        return made

    monkeypatch.setattr(PrivacyStage, "__call__", call)
    return seen


def broken_off(folder: Path, monkeypatch: pytest.MonkeyPatch, round_: int, *more: str) -> None:
    """Interrupt a run once the server has what clients sent in a round."""
    real = loop.record

    def interrupt(number, *args, **named):
        if number == round_:
            raise KeyboardInterrupt
        return real(number, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        assert main([*QUICK, *more, f"hydra.run.dir={folder}"]) == 130


@pytest.mark.parametrize(
    "more",
    [
        ("checkpoint.every=3",),  # broken off before the first of them
        ("engine.num_nodes=2", "client.state=disk"),
    ],
)
def test_a_resumed_run_gives_the_same_answers_again(tmp_path, monkeypatch, sent, more):
    folder = tmp_path / "run"
    broken_off(folder, monkeypatch, 2, *more)
    assert sorted(sent) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    kept = list((folder / resume.CHECKPOINTS).glob("0*"))  # the secrets are in there
    assert kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    assert main([f"resume={folder}"]) == 0
    assert len(sent[0, 2]) == len(sent[1, 2]) == 2
    for copies in sent.values():
        assert all(torch.equal(copies[0], copy) for copy in copies)
    promised = json.loads((folder / "summary.json").read_text())["privacy"]["guarantee"]
    assert promised["epsilon"] == pytest.approx(8)


def test_two_runs_with_one_seed_draw_other_noise(tmp_path, sent):
    for name in "ab":
        assert main([*QUICK, f"hydra.run.dir={tmp_path / name}"]) == 0
    one, other = sent[0, 1]  # the models are the same in the first round, to the bit
    assert float((one - other).abs().mean()) > 1


def test_a_run_of_an_older_version_goes_on_with_the_noise_of_its_seed(tmp_path, monkeypatch, sent):
    simulated = ("privacy.seed=simulated",)
    assert main([*QUICK, *simulated, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    folder = tmp_path / "run"
    broken_off(folder, monkeypatch, 3, *simulated)
    text = (folder / "config.yaml").read_text()
    assert text.count("  seed: simulated\n") == 1
    (folder / "config.yaml").write_text(text.replace("  seed: simulated\n", ""))
    assert main([f"resume={folder}"]) == 0
    names = ("metrics.parquet", "weights.safetensors")
    assert all((folder / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)
    told = json.loads((folder / "summary.json").read_text())["privacy"]
    assert told["guarantee"] is None
    assert told["simulated"]


@pytest.mark.parametrize(
    ("overrides", "given", "hands_over"),
    [
        ("privacy=gaussian", {}, False),
        ("privacy=gaussian", {"hands-over": True}, True),
        ("privacy=gaussian privacy.seed=simulated", {}, True),
        ("privacy=none", {}, True),
    ],
)
def test_in_a_deployment_secrets_and_models_stay_on_the_supernode(overrides, given, hands_over):
    words = "dataset=synthetic num_clients=2 model=mlp privacy.clip=3.0"
    if "gaussian" not in overrides:
        words = words.replace(" privacy.clip=3.0", "")
    config = {"partition-id": 0, "num-partitions": 1, **given}
    run_config = {"overrides": f"{words} {overrides}"}
    node = flower.node(Context(1, 1, config, RecordDict(), run_config))
    assert node.hands_over is hands_over
    assert flower.withheld(flower.config_of(run_config)) is not (hands_over and not given)
    header = Header("knfu", 1, share=False, evaluate=False)
    if hands_over:
        assert handover.save(node, header, [0])
        return
    for ask in (
        lambda: handover.save(node, header, [0]),
        lambda: handover.load(node, header, [0], b""),
    ):
        with pytest.raises(FedfuseError, match="keep their models and their secrets"):
            ask()


@pytest.mark.parametrize("hashed", [identity, legacy_identity])
def test_the_identity_of_an_older_runs_checkpoint_stays(hashed):
    keys = {"privacy": {"epsilon": 8}, "client": {"device": "cpu", "state": "auto"}}
    old = OmegaConf.create({**keys, "engine": {"name": "serial"}, "server": {"device": "cpu"}})
    now = OmegaConf.merge(old, {"privacy": {"seed": "simulated"}})
    secret = OmegaConf.merge(old, {"privacy": {"seed": "secret"}})
    assert hashed(old, "d") == hashed(now, "d") != hashed(secret, "d")


def test_states_wait_in_no_folder_that_somebody_else_made(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    words = "dataset=synthetic num_clients=2 model=mlp client.state=disk"
    context = Context(5, 1, {}, RecordDict(), {"overrides": words})
    plan = flower.states(context)
    folder = Path(plan.folder)
    assert flower.states(context) == plan
    folder.chmod(0o755)
    with pytest.raises(FedfuseError, match="of this user's alone"):
        flower.states(context)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FedfuseError, match="of this user's alone"):
        flower.states(context)
