"""What a run leaves of its clients' models, and a run that begins with them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import fedfuse
from experiments.assembly.saved_models import SavedModels
from fedfuse.errors import ConfigError, ModelError
from tests.experiments.api.test_simulate import SMALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def run(folder):
    return fedfuse.simulate(out=folder / "first", **SMALL)


def test_a_run_goes_on_from_anothers_models(run, folder):
    # One that learns nothing keeps them: both arms begin with the same.
    still = {"optimizer": "sgd", "optimizer.lr": 1e-12, "warmup_rounds": 1}
    then = fedfuse.simulate(out=folder / "then", continue_from=run, **SMALL | still)
    for client_id in range(3):
        ours, theirs = (each.model(client_id).model.state_dict() for each in (run, then))
        for name, value in theirs.items():
            assert torch.allclose(value, ours[name], atol=1e-6)
    assert then.config["continue_from"] == str(run.folder)
    ended = run.metrics.query("arm == 'knfu' and round == 2 and phase == 'fused'")
    begins = then.metrics.query("round == 1 and phase == 'local'")
    for arm in ("knfu", "local"):
        for metric in ("accuracy_own", "accuracy_global"):
            before = ended.query(f"metric == '{metric}'").sort_values("client_id")["value"]
            after = begins.query(f"metric == '{metric}' and arm == '{arm}'")
            assert after.sort_values("client_id")["value"].tolist() == before.tolist()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"num_clients": 4}, "num_clients 3, allowed: num_clients 4"),
        ({"model.hidden": 7}, r"do not fit.*\[.*\]"),
        ({"model": "lenet5", "dataset": "mnist5k"}, "input shape"),
        ({"pretrain": "public"}, "with the models of a run or with pre-training"),
        ({"continue_from": "nowhere"}, "names no folder"),
    ],
)
def test_models_that_do_not_fit(run, folder, keys, told):
    small = {
        key: value for key, value in SMALL.items() if "dataset." not in key or "dataset" not in keys
    }
    with pytest.raises(ConfigError, match=told):
        fedfuse.simulate(out=folder / "wrong", **small | {"continue_from": str(run.folder), **keys})
    assert not (folder / "wrong").exists()


@pytest.mark.parametrize(
    "method",
    [
        "fedavg_ft",
        "ditto",
        "pfedme",
        "apfl",
        "fml",
        "fedproto",
        "fedgen",
        "fedgh",
        "fedhkd",
        "fedtgp",
        "fd",
        "fedgkt",
    ],
)
def test_the_model_that_a_client_is_judged_by(method, folder):
    run = fedfuse.simulate(f"method={method}", out=folder / method, baseline="none", **SMALL)
    saved = SavedModels.read(run.folder)
    assert saved.architectures == ("mlp",) * 3
    model = run.model(1)
    assert torch.isfinite(model(np.zeros((2, 1, 8, 8), dtype=np.uint8))).all()


def test_raw_inputs_in_every_layout(run):
    model = run.model(0)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    expected = model(images)
    for same in (images[:, None], images[..., None], torch.from_numpy(images[:, None])):
        assert torch.equal(model(same), expected)
    floats = torch.from_numpy(images[:, None]).float().requires_grad_()
    assert torch.equal(model(floats), expected)
    model(floats).sum().backward()
    assert floats.grad is not None
    for wrong in (np.zeros((2, 9, 9), np.uint8), torch.zeros(2, 64)):
        with pytest.raises(ModelError, match=r"allowed: uint8 images of shape \[B, 1, 8, 8\]"):
            model(wrong)


@pytest.mark.parametrize("inputs", [None, [[1], [2, 3]], "words"])
def test_what_is_no_array_is_no_input(run, inputs):
    with pytest.raises(ModelError, match="no inputs of the data set"):
        run.model(0)(inputs)


def test_models_of_a_stranger(run, folder):
    strange = folder / "strange"
    shutil.copytree(run.folder, strange)
    about = json.loads((strange / "models/models.json").read_text())
    for broken in ({**about, "num_classes": 10**9}, {**about, "input_shape": "x"}, [1]):
        (strange / "models/models.json").write_text(json.dumps(broken))
        with pytest.raises(ConfigError, match="is damaged"):
            fedfuse.load_run(strange).model(0)
    (strange / "models/models.json").write_text(json.dumps(about))
    (strange / "models/0.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ConfigError, match="is damaged"):
        fedfuse.load_run(strange).model(0)
    config = (strange / "config.yaml").read_text()
    (strange / "config.yaml").write_text(config.replace("fedfuse.models.mlp.mlp", "os.system"))
    with pytest.raises(ConfigError, match="names code that fedfuse does not ship"):
        fedfuse.load_run(strange).model(1)


def test_auto_leaves_none_of_many_clients_or_behind_noise():
    from experiments.assembly.saved_models import about_models

    class Plan:
        def name(self, client_id):
            return "mlp"

    class Data:
        input_shape, num_classes, mean, std = (2,), 2, (), ()

    def leaves(**keys):
        return about_models(fedfuse.load_config(**keys), Data, Plan()) is not None

    assert leaves()
    assert not leaves(num_clients=200)
    assert leaves(num_clients=200, models="save")
    assert not leaves(models="none")
    assert not leaves(privacy="gaussian")


def test_folders_from_before_runs_left_models(run, folder):
    from experiments.runs.resumable_keys import identity

    old = folder / "old"
    shutil.copytree(run.folder, old, ignore=shutil.ignore_patterns("models"))
    lines = (old / "config.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(("models:", "continue_from:"))]
    assert len(kept) == len(lines) - 2
    (old / "config.yaml").write_text("".join(kept))
    loaded = fedfuse.load_run(old)
    assert loaded.gain().equals(run.gain())
    assert loaded.config["models"] == "none"
    with pytest.raises(ConfigError, match=r"left no models.*models=save"):
        loaded.model(0)
    # Nor does a checkpoint of theirs hold such keys.
    assert not {"models", "continue_from"} & set(identity(fedfuse.load_config(), "data"))
    assert "continue_from" in identity(fedfuse.load_config(continue_from="runs/1"), "data")


@pytest.mark.parametrize("method", ["mean", "mean_adjusted"])
def test_what_a_guard_deploys_is_left_and_answers_as_it_was_tested(method, folder):
    from experiments.assembly.parts import build_data
    from experiments.config.compose import configure

    words = [f"method={method}", "guard=sequential"]
    guarded = fedfuse.simulate(*words, out=folder / f"guarded-{method}", **SMALL)
    given = [f"{key}={value}" for key, value in SMALL.items() if key != "progress"]
    data = build_data(configure([*words, *given]))
    last = guarded.metrics.query(f"arm == '{method}' and round == 2 and phase == 'fused'")
    told = last.pivot_table("value", "client_id", "metric")
    assert (told["deployed_own"] == 0.5).all()
    for client in data.clients:
        inputs, labels = (np.array(pool) for pool in (data.own_pool.inputs, data.own_pool.labels))
        own = guarded.deployed(client.client_id, "own")(inputs[client.test])
        right = (own.argmax(1).numpy() == labels[client.test]).mean()
        assert right == pytest.approx(told["accuracy_own"][client.client_id])
        balanced = guarded.deployed(client.client_id, "balanced")(np.array(data.test.inputs))
        right = (balanced.argmax(1).numpy() == data.test.labels).mean()
        assert right == pytest.approx(told["accuracy_global"][client.client_id])
    assert len(list((guarded.folder / "models").glob("*.local.safetensors"))) == 3


def test_without_a_guard_a_client_deploys_its_model(run):
    inputs = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    assert torch.equal(run.deployed(0, "own")(inputs), run.model(0)(inputs))
    with pytest.raises(ConfigError, match="Did you mean 'balanced'"):
        run.deployed(0, "balance")
    with pytest.raises(ConfigError, match="no such client"):
        run.deployed(9, "own")
