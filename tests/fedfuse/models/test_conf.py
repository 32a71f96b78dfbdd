"""Every option of the groups ``model`` and ``optimizer`` builds what it says."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from experiments.config.instantiate import instantiate
from fedfuse.models.plan import as_plan, build_checked, describe

CONF = Path(__file__).parents[3] / "experiments" / "conf"
ROOT = {
    "defaults": [{"model": "lenet5"}, {"optimizer": "adam"}, "_self_"],
    "num_clients": 6,
    "seed": 0,
}


@pytest.fixture
def config():
    ConfigStore.instance().store("models_conf_test", ROOT)
    GlobalHydra.instance().clear()  # another test of this process may have left its own
    with initialize_config_module("experiments.conf", version_base="1.3"):
        yield lambda *overrides: compose("models_conf_test", overrides=list(overrides))


def plan(cfg):
    return as_plan(instantiate(cfg.model, "model"))


SAME = ("mlp", "lenet5", "cnn2", "cnn4", "resnet8", "resnet20", "resnet18", "mobilenet_v2", "vit")

TEXT = ("ngrams", "text_transformer")


def test_no_option_is_untested():
    options = {path.stem for path in (CONF / "model").glob("*.yaml")}
    assert options == {
        *SAME,
        *TEXT,
        "text_tiers",
        "tiers",
        "widths",
        "cycle",
        "table",
        "zero_cost",
        "custom",
    }


@pytest.mark.parametrize("option", SAME)
def test_one_architecture(config, option):
    parts = plan(config(f"model={option}"))
    assert describe(parts, 6) == option
    build_checked(parts, 0, (1, 28, 28), 10, 0)


@pytest.mark.parametrize("option", TEXT)
def test_one_architecture_for_texts(config, option):
    parts = plan(config(f"model={option}"))
    assert describe(parts, 6) == option
    build_checked(parts, 0, (64,), 10, 0)


def test_architectures_for_texts(config):
    parts = plan(config("model=text_tiers"))
    assert describe(parts, 6) == "narrow x 2, ngrams x 2, text_transformer x 2"
    for client_id in range(6):
        build_checked(parts, client_id, (64,), 10, 0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=tiers"], "mlp x 2, cnn2 x 2, resnet8 x 2"),
        (["model=tiers", "model.shares=[0.5,0.5,0]"], "mlp x 3, cnn2 x 3"),
        (["model=tiers", "num_clients=3"], "mlp x 1, cnn2 x 1, resnet8 x 1"),
        (["model=widths"], "wide x 2, middle x 2, narrow x 2"),
        (["model=cycle"], "mlp x 2, lenet5 x 2, cnn2 x 2"),
        (["model=table", "model.table=[mlp,mlp,cnn2,mlp,mlp,resnet8]"],
         "mlp x 4, cnn2 x 1, resnet8 x 1"),
        (["model=table", "model.table={0:mlp,1:cnn2}", "num_clients=2"], "mlp x 1, cnn2 x 1"),
    ],
)  # fmt: skip
def test_several_architectures_on_cifar(config, overrides, expected):
    cfg = config(*overrides)
    parts = plan(cfg)
    assert describe(parts, cfg.num_clients) == expected
    for client_id in range(cfg.num_clients):
        build_checked(parts, client_id, (3, 32, 32), 10, 0)


def test_L1_zero_cost_deals_out_by_budget(config):
    cfg = config("model=zero_cost", "model.max_parameters=[70_000,100_000]", "model.batch=16")
    parts = instantiate(cfg.model, "model").at_shape((1, 28, 28), 10)
    assert describe(parts, 6) == "lenet5 x 3, resnet8 x 3"


def test_hyperparameters_can_be_overridden(config):
    (first, *_) = plan(config("model=mlp", "model.hidden=7")).build(0, (4,), 2)[1:]
    assert first.out_features == 7
    tiers = plan(config("model=tiers", "model.factories.mlp.hidden=9"))
    assert tiers.build(0, (4,), 2)[1].out_features == 9


def test_a_users_own_module(config, monkeypatch):
    class Net(nn.Linear):
        def __init__(self, num_classes, width=3):
            super().__init__(width, num_classes)

    module = ModuleType("somebodys_models")
    module.Net = Net
    monkeypatch.setitem(sys.modules, module.__name__, module)
    custom = ["model=custom", "model._target_=somebodys_models.Net"]
    parts = plan(config(*custom, "+model.width=5"))
    assert describe(parts, 6) == "Net"
    assert build_checked(parts, 0, (5,), 4, 0).in_features == 5


@pytest.mark.parametrize("option", ["adam", "adamw", "sgd"])
def test_optimisers_learn(config, option):
    make = instantiate(config(f"optimizer={option}").optimizer, "optimizer")
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = make([weight])
    (weight**2).sum().backward()
    optimizer.step()
    assert 0.9 < weight.item() < 1.0
