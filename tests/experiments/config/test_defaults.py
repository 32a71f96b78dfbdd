"""A default is written down twice, in an option's YAML and in its class: the two agree."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from clients.training.settings import ClientPlan
from experiments.config import compose
from experiments.config.folder import CONF
from experiments.config.instantiate import locate
from fedfuse.data.sites import federate_sites
from fedfuse.data.split import federate
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.participation import Resting
from server.fusion.student import ServerModel
from server.loop import ServerPlan
from server.records.checkpoint import Checkpoints

BUNDLES = ("method", "experiment", "engine", "protocol")
"""Groups whose options name no part: they set the keys of others, or are read as they are."""

OTHERWISE = {
    ("optimizer=sgd", "lr"): "torch's 0.001 without momentum hardly learns in ten rounds",
    ("optimizer=sgd", "momentum"): "the same",
    ("public=skewed", "draw"): "it is what the option is for",
    ("distill=ap_at_k", "base"): "plain KL at the run's temperature, as the class makes it",
    ("distill=with_labels", "base"): "the same",
    ("distill=dkd", "temperature"): "the class has the authors' 4, an option follows the run's",
    ("distill=tvd", "scale_by_t2"): "its gradients shrink with the temperature, not its square",
    ("exchange=aligned_rows", "shown"): "it is what the option is for",
    ("exchange=kept_teacher", "kept_teacher"): "it is what the option is for",
    ("exchange=scored_sources", "score"): "the option's judge is at the run's temperature",
    ("exchange=trained_prototypes", "lam"): "the authors' for what it is for",
    ("exchange=trained_prototypes", "trained"): "it is what the option is for",
    ("rule=mix_by_round", "warmup_rounds"): "a rule in a program of one's own fuses at once",
    **{
        (f"distill={option}", "weight"): "the class's None is the kind's own, which the option says"
        for option in ("adaptive_kl", "js", "skew_kl", "skew_rkl")
    },
    ("exchange=mutual.model", "hidden"): "FML's travelling model is small",
    ("exchange=mutual.model", "depth"): "the same",
    ("exchange=group_knowledge.model", "hidden"): "FedGKT's model on the server is large",
    **{
        (f"{option}", "name"): "an option of its own for a set of the hub"
        for option in (
            "dataset=cifar10",
            "dataset=cifar100",
            "dataset=fashion_mnist",
            "dataset=mnist",
            "public=external.dataset",
        )
    },
}
"""Where an option wants something else than its class, and why."""

UNNAMED = {
    "torch.optim": "torch's own; a comment in the options says that they are keys as well",
    "fedfuse.data.sources.hub.hub": "the option is one known set; dataset=hub names all of them",
}
"""Targets whose further parameters the YAML leaves out; they are keys all the same."""

UNTOLD = {
    ("distill=ap_at_k.base", "direction"): "another loss in its place would not take it",
    ("distill=ap_at_k.base", "scale_by_t2"): "the same",
    ("distill=with_labels.base", "direction"): "the same",
    ("distill=with_labels.base", "scale_by_t2"): "the same",
    ("distill=tvd", "weight"): "this kind has none",
    ("exchange=aligned_rows", "kept_teacher"): "exchange=kept_teacher has it",
    ("exchange=creamfl", "kept_teacher"): "exchange=kept_teacher has it",
    ("exchange=creamfl", "shown"): "exchange=aligned_rows has it",
    ("exchange=interactive", "kept_teacher"): "exchange=kept_teacher has it",
    ("exchange=interactive", "shown"): "exchange=aligned_rows has it",
    ("exchange=kept_teacher", "shown"): "exchange=aligned_rows has it",
    ("exchange=token_graph", "kept_teacher"): "exchange=kept_teacher has it",
    ("exchange=token_graph", "shown"): "exchange=aligned_rows has it",
    ("exchange=predictions", "kept_teacher"): "exchange=kept_teacher has it",
    ("exchange=predictions", "shown"): "exchange=aligned_rows has it",
    ("exchange=fccl_plus", "width"): "of each sample its likeness to every other one travels",
    ("exchange=shared_classifier", "width"): "a last layer reads features as they are",
    **{
        (f"exchange={option}", name): "an option of its own has it"
        for option in (
            "fccl",
            "fccl_plus",
            "loss_rated",
            "nd_prototypes",
            "scored_sources",
            "shared_classifier",
            "two_teachers_proto",
        )
        for name in ("kept_teacher", "shown")
    },
    ("merge=dare", "then"): "its defaults list chooses an option of this group",
    ("rule=mix_by_round", "round"): "the pipeline sets it",
    ("rule=only_asked", "round"): "the pipeline sets it",
    ("rule=only_asked", "taught"): "it is what the rule remembers",
}
"""Parameters that an option leaves out, and why."""


def parts() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part that an option names, nested ones too, by its dotted place."""
    for file in sorted(CONF.glob("*/*.yaml")):
        if file.parent.name in BUNDLES:
            continue
        option = _read(file)
        for base in option.pop("defaults", []):
            if isinstance(base, str) and base != "_self_" and "@" not in base:
                option = {**_read(file.with_name(f"{base}.yaml")), **option}
        yield from _below(f"{file.parent.name}={file.stem}", option)


def _read(file: Any) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return read


def _below(where: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, list):
        for i, item in enumerate(node):
            yield from _below(f"{where}[{i}]", item)
    if isinstance(node, dict):
        if node.get("_target_", "???") not in (None, "???"):
            yield where, node
        for key, value in node.items():
            yield from _below(f"{where}.{key}", value)


PARTS = dict(parts())
DEFAULT = compose.configure([])


@pytest.mark.parametrize("where", PARTS)
def test_an_option_and_its_class_have_the_same_defaults(where: str) -> None:
    node = dict(PARTS[where])
    target = node.pop("_target_")
    taken = inspect.signature(locate(target, where)).parameters
    if where.startswith("privacy="):
        assert node.pop("seed") == "secret"  # the stage's, not the mechanism's
    for key, value in node.items():
        assert key in taken, f"{where}: {target} takes no {key}"
        default = taken[key].default
        if default is inspect.Parameter.empty or (not value and str(default) == "<factory>"):
            continue
        if isinstance(value, str) and value.startswith("${"):
            value = OmegaConf.select(DEFAULT, value[2:-1])
        same = value == (list(default) if isinstance(default, tuple) else default)
        told = f"{where}: {key} is {value}, and {default} in {target}"
        assert same is ((where, key) not in OTHERWISE), told


@pytest.mark.parametrize("where", PARTS)
def test_an_option_names_every_parameter_of_its_class(where: str) -> None:
    node = PARTS[where]
    if any(node["_target_"].startswith(prefix) for prefix in UNNAMED):
        return
    taken = inspect.signature(locate(node["_target_"], where)).parameters.values()
    given = {p.name for p in taken if p.default is not p.empty and p.kind is not p.VAR_KEYWORD}
    given -= {name for place, name in UNTOLD if place == where}
    assert given <= set(node), f"{where}: nobody could find {sorted(given - set(node))}"


def test_the_exceptions_still_are_some() -> None:
    assert {where for where, _ in (*OTHERWISE, *UNTOLD)} <= set(PARTS)
    assert not any(name in PARTS[where] for where, name in UNTOLD)
    for prefix in UNNAMED:
        assert any(node["_target_"].startswith(prefix) for node in PARTS.values())


SECTIONS: list[tuple[Any, dict[str, str]]] = [
    (
        ClientPlan,
        {
            **{key: f"client.{key}" for key in DEFAULT.client},
            "budget": "budget",
            "eval_batch_size": "evaluation.batch_size",
        },
    ),
    (Resting, {"tested": "evaluation.resting", "every": "evaluation.resting_every"}),
    (ServerPlan, {"fail_fast": "server.fail_fast", "evaluate_every": "evaluation.every"}),
    (ServerModel, {"epochs": "server.student_epochs", "batch_size": "client.distill_batch_size"}),
    (Checkpoints, {"every": "checkpoint.every", "keep": "checkpoint.keep"}),
    (Pipeline, {"temperature": "temperature"}),
    *(
        (
            deal,
            {
                "val_fraction": "val_fraction",
                "test_fraction": "test_fraction",
                "own_test_size": "evaluation.own_test_samples",
                "own_test_shift": "evaluation.own_test_shift",
            },
        )
        for deal in (federate, federate_sites)
    ),
]
"""What the sections of config.yaml fill: parameter to dotted key."""


@pytest.mark.parametrize(("filled", "keys"), SECTIONS, ids=[one.__name__ for one, _ in SECTIONS])
def test_what_a_section_fills_has_its_defaults_or_none(filled: Any, keys: dict[str, str]) -> None:
    for name, parameter in inspect.signature(filled).parameters.items():
        key = keys.get(name, name)
        value = OmegaConf.select(DEFAULT, key)
        plain = isinstance(value, int | float | str)
        if plain and parameter.default is not parameter.empty:
            assert parameter.default == value, f"{filled.__name__}.{name} and {key}"
