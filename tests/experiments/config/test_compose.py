"""Every bundle and every option composes into parts that can be built."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments.assembly import capabilities
from experiments.assembly.build_all import check_parts
from experiments.config import compose
from experiments.config.overrides import groups
from fedfuse.errors import ConfigError

LOADER = compose.open_hydra().config_loader
SLOTS = ("scorer", "neighbours", "rule", "sharpen", "distill")
BUNDLES = {
    "mean": ("uniform", "all", "mean_probs", "none", "kl"),
    "fedmd": ("uniform", "all", "mean_logits", "none", "mae"),
    "dsfl": ("uniform", "all", "mean_probs", "era", "soft_ce"),
    "bd_kd": ("uniform", "all", "mean_probs", "none", "bd_kd"),
    "std_kd": ("uniform", "all", "mean_probs", "none", "std_kd"),
    "knfu": ("knfu", "all", "mean_probs", "none", "kl"),
}
NEEDS = {
    "model=table": ["model.table=[mlp,cnn2]"],  # options with a ???: what makes them whole
    "dataset=npz": ["dataset.path=x.npz"],
    "dataset=image_folder": ["dataset.path=x"],
    "dataset=table": ["dataset.path=x.csv"],
    "dataset=domains": ["dataset.domains=[mnist5k,breast_cancer]"],
    "dataset=local": ["dataset.path=x"],
    "dataset=idx": ["dataset.path=x"],
    "features=saved": ["features.module.path=x.pt2"],
    "features=custom": ["features.module._target_=torch.nn.Flatten"],
    "dataset=text": ["dataset.path=x.csv"],
    "partitioner=fixed": ["partitioner.path=x.json"],
    "partitioner=by_column": ["partitioner.column=x"],
}


def composed(*lines: str, multirun: bool = False, config_dir: Path | None = None) -> Any:
    hydra = compose.open_hydra(config_dir)
    _, configs = compose.check(hydra, list(lines), multirun=multirun)
    return configs if multirun else configs[0]


def chosen(cfg: DictConfig) -> tuple[str, ...]:
    return tuple(cfg.hydra.runtime.choices[slot] for slot in SLOTS)


@pytest.mark.parametrize("method", BUNDLES)
def test_a_bundle_sets_every_slot(method: str) -> None:
    cfg = composed(f"method={method}")
    assert cfg.method.name == method
    assert chosen(cfg) == BUNDLES[method]


def test_a_data_set_chooses_what_fits_it_where_nobody_says_otherwise() -> None:
    cfg = composed("dataset=breast_cancer", "num_clients=3")
    assert cfg.model._target_ == "fedfuse.models.mlp.mlp"
    assert (cfg.num_clients, cfg.public.size) == (3, 100)
    cfg = composed("dataset=breast_cancer", "model=cnn2", "public=whole")
    assert cfg.model._target_ == "fedfuse.models.cnn.cnn2"
    assert "size" not in cfg.public
    for words in (["features=random"], ["features.module._target_=torch.nn.Flatten"]):
        assert composed(*words).model._target_ == "fedfuse.models.mlp.mlp"
    assert composed("features=none").model._target_ == "fedfuse.models.lenet.lenet5"
    ngrams = "fedfuse.models.ngrams.ngrams"
    assert composed("dataset=docstrings").model._target_ == ngrams
    hub = "dataset=hub", "dataset.path=copy"
    assert composed(*hub, "dataset.name=fancyzhx/ag_news").model._target_ == ngrams
    assert composed(*hub, "dataset.name=mine/pictures").model._target_ != ngrams
    frozen = composed("features=random", "dataset=docstrings")
    assert frozen.model._target_ == "fedfuse.models.mlp.mlp"


def test_local_has_no_teacher() -> None:
    cfg = composed("method=local", "num_rounds=1")
    assert cfg.method.name == "local"
    assert cfg.rule._target_ is None


@pytest.mark.parametrize("order", [1, -1])
def test_a_slot_is_overridden_on_either_side_of_the_method(order: int) -> None:
    lines = ["method=dsfl", "scorer=knfu", "scorer.beta=3", "neighbours=top_k"][::order]
    cfg = composed(*lines)
    assert cfg.method.name == "dsfl"
    assert chosen(cfg) == ("knfu", "top_k", "mean_probs", "era", "soft_ce")
    assert cfg.scorer.beta == 3


def test_a_slot_of_ones_own_beats_the_method() -> None:
    cfg = composed("method=dsfl", "scorer._target_=mine.score", "scorer.power=2")
    assert chosen(cfg)[0] == "custom"
    assert dict(cfg.scorer) == {"_target_": "mine.score", "power": 2}


def test_what_a_method_sets_of_a_part_goes_with_the_part_unless_the_new_one_has_it_too() -> None:
    assert dict(composed("method=fedgems", "student=lenet5").student) == {
        "_target_": "fedfuse.models.lenet.lenet5"
    }
    assert composed("method=fedgems", "student=mlp").student.hidden == 400
    assert "fine_tune_epochs" not in composed("method=fedavg_ft", "exchange=predictions").exchange
    assert composed("method=rhfl", "neighbours=top_k").neighbours.include_self is False
    assert composed("method=fedmd_pretrained", "warmup_rounds=3").warmup_rounds == 3  # no part's
    (none, taught) = composed("method=fedgems", "student=none,mlp", multirun=True)
    assert list(none.student) == ["_target_"]
    assert taught.student.hidden == 400


def test_an_explicit_option_keeps_its_parameters() -> None:
    cfg = composed("partitioner=dirichlet", "partitioner._target_=mine.cut")
    assert cfg.partitioner._target_ == "mine.cut"
    assert "alpha" in cfg.partitioner


def test_a_swept_target_chooses_custom_in_every_run() -> None:
    first, second = composed("partitioner._target_=mine.a,mine.b", "partitioner.x=1", multirun=True)
    assert dict(first.partitioner) == {"_target_": "mine.a", "x": 1}
    assert dict(second.partitioner) == {"_target_": "mine.b", "x": 1}


def test_an_empty_mapping_takes_new_keys() -> None:
    cfg = composed("partitioner=from_flower", "partitioner.options.alpha=0.1")
    assert cfg.partitioner.options.alpha == 0.1


ABSENT = (
    set() if find_spec("mlflow") else {("reporter", "mlflow"), ("reporter", "both")}
)  # the extra is too heavy for dev
OPTIONS = {
    group: [
        option
        for option in LOADER.get_group_options(group)
        if option != "custom" and (group, option) not in ABSENT
    ]
    for group in groups(LOADER)
    if group not in ("method", "experiment", "protocol")  # they set keys of other groups
}


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(max(map(len, OPTIONS.values()))))
def test_every_option_builds(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a YAML file names exists and takes the parameters that stand beside it.

    Each turn takes the next option of every group at once, because composing is what takes time;
    whether they go together is another question.
    """
    monkeypatch.setattr(capabilities, "check", lambda *_, **__: None)
    choices = [f"{group}={names[turn % len(names)]}" for group, names in OPTIONS.items()]
    cfg = composed(*choices, *(line for choice in choices for line in NEEDS.get(choice, [])))
    check_parts(cfg)


def test_a_config_dir_adds_options_and_hides_none(tmp_path: Path) -> None:
    (tmp_path / "partitioner").mkdir()
    (tmp_path / "partitioner" / "by_city.yaml").write_text("_target_: mine.by_city\ntowns: 3\n")
    cfg = composed("partitioner=by_city", "partitioner.towns=4", config_dir=tmp_path)
    assert dict(cfg.partitioner) == {"_target_": "mine.by_city", "towns": 4}
    (tmp_path / "partitioner" / "iid.yaml").write_text("_target_: mine.iid\n")
    with pytest.raises(ConfigError, match=r"iid.yaml' has the name of an option"):
        compose.open_hydra(tmp_path)


def test_a_sweep_composes_in_the_order_hydra_runs() -> None:
    configs = composed("method=mean,knfu", "seed=range(0,2)", multirun=True)
    assert [(c.method.name, c.seed) for c in configs] == [
        ("mean", 0), ("mean", 1), ("knfu", 0), ("knfu", 1),
    ]  # fmt: skip
