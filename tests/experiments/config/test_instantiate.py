"""From a config node to a part."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.config.instantiate import instantiate, locate
from fedfuse.errors import ConfigError, ParameterError

PARTS = """\
from dataclasses import dataclass
from fedfuse.errors import require
from torch import nn

@dataclass(frozen=True)
class Part:
    alpha: float
    inner: object = None
    def __post_init__(self):
        require(self.alpha > 0, "part", "alpha", self.alpha, "a number above 0")

class Open:
    def __init__(self, **anything):
        self.anything = anything

class Net(nn.Module):
    def __init__(self, input_shape, num_classes, hidden=3):
        super().__init__()

class Outer:
    @staticmethod
    def build(a=1): return a

def function(labels, num_clients, rng, ratio=0.5):
    return ratio
"""


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ff_parts.py").write_text(PARTS)
    (tmp_path / "ff_package").mkdir()
    (tmp_path / "ff_package" / "__init__.py").write_text("")
    (tmp_path / "ff_package" / "inside.py").write_text("def f(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_class_becomes_an_instance() -> None:
    part = instantiate({"_target_": "ff_parts.Part", "alpha": 0.5}, "part")
    assert (type(part).__name__, part.alpha) == ("Part", 0.5)


def test_a_function_is_bound() -> None:
    part = instantiate({"_target_": "ff_parts.function", "ratio": 0.25}, "part")
    assert isinstance(part, functools.partial)
    assert part([], 2, None) == 0.25


def test_a_member_of_a_class_is_found() -> None:
    assert instantiate({"_target_": "ff_parts.Outer.build", "a": 4}, "part")() == 4


def test_null_is_none() -> None:
    assert instantiate({"_target_": None}, "part") is None


def test_models_and_optimisers_are_factories() -> None:
    net = instantiate({"_target_": "ff_parts.Net", "hidden": 5}, "model")
    assert isinstance(net((1, 2, 2), 3), nn.Module)
    adam = instantiate({"_target_": "torch.optim.Adam", "lr": 0.5}, "optimizer")
    built = adam([nn.Parameter(torch.zeros(1))])
    assert built.defaults["lr"] == 0.5


def test_nested_parts_are_built_first_and_containers_are_plain() -> None:
    node = OmegaConf.create(
        {
            "scale": 2.0,
            "part": {
                "_target_": "ff_parts.Open",
                "child": {"_target_": "ff_parts.Part", "alpha": "${scale}"},
                "several": [{"_target_": "ff_parts.Part", "alpha": 3}, 4],
                "table": {"a": [1, 2]},
            },
        }
    )
    part = instantiate(node.part, "part")
    assert part.anything["child"].alpha == 2.0
    assert part.anything["several"][0].alpha == 3
    assert part.anything["several"][1] == 4
    assert type(part.anything["several"]) is list
    assert part.anything["table"] == {"a": [1, 2]}
    assert type(part.anything["table"]) is dict
    assert type(part.anything["table"]["a"]) is list


def test_a_node_without_a_target_is_plain() -> None:
    built = instantiate(OmegaConf.create({"name": "serial", "num_nodes": 2}), "engine")
    assert built == {"name": "serial", "num_nodes": 2}
    assert type(built) is dict


def test_a_part_of_ones_own_speaks_for_itself() -> None:
    with pytest.raises(ParameterError, match="'alpha' parameter of part is not valid: got -1"):
        instantiate({"_target_": "ff_parts.Part", "alpha": -1}, "part")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": "ff_parts.Part", "alhpa": 1}, "no parameter 'alhpa'. Did you mean 'alpha'?"),
        ({"_target_": "ff_parts.Part"}, "part needs a value for 'alpha'. Add part.alpha=..."),
        (
            {"_target_": "ff_parts.function", "ration": 1},
            "no parameter 'ration'. Did you mean 'ratio'?",
        ),
        ({"_target_": "ff_parts.Net", "hiden": 1}, "no parameter 'hiden'. Did you mean 'hidden'?"),
        ({"_target_": "torch.optim.Adam", "lrr": 1}, "no parameter 'lrr'. Did you mean 'lr'?"),
        ({"_target_": "ff_parts.Prat"}, "ff_parts has no 'Prat'"),
        ({"_target_": "ff_parts.Prat"}, "Did you mean 'Part'?"),
        ({"_target_": "ff_parts.Outer.biuld"}, "Outer has no 'biuld'"),
        ({"_target_": "ff_package.insied.f"}, "has no 'insied'. Did you mean 'inside'?"),
        ({"_target_": "ff_package.inside.f.g.h"}, "f has no 'g'"),
        ({"_target_": "ff_part.Part"}, "there is no module 'ff_part'"),
        ({"_target_": ".ff_parts"}, "part._target_ is not valid: got '.ff_parts'"),
        ({"_target_": "ff_parts"}, "must name a class or a function"),
        ({"_target_": ""}, "part._target_ is not valid"),
        ({"_target_": 3}, "part._target_ is not valid: got 3"),
        (
            {"_target_": "ff_parts.Open", "x": {"_target_": "ff_parts.Part"}},
            "part.x needs a value for 'alpha'",
        ),
        (
            {"_target_": "ff_parts.Open", "x": [{"_target_": "ff_parts.Part"}]},
            "part.x[0] needs a value",
        ),
        (
            {"_target_": "datetime.timedelta", "hours": "two"},
            "part: timedelta refused its parameters",
        ),
    ],
)
def test_mistakes_are_named(node: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        instantiate(node, "part")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{_target_: ff_parts.Part, alpha: '???'}", "{a: '${nowhere}'}"])
def test_what_omegaconf_cannot_resolve_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^part: "):
        instantiate(OmegaConf.create(text), "part")


@pytest.mark.parametrize(
    ("text", "says", "shows"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero", '", line 1, in <module>\n    1 / 0'),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax", '", line 2\n    def f(:'),
        ("from ff_parts import nothing\n", "ImportError: cannot import name 'nothing'", "line 1"),
    ],
)
def test_a_bug_in_the_users_module_shows_its_own_lines(
    tmp_path: Path, text: str, says: str, shows: str
) -> None:
    (tmp_path / "ff_broken.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        locate("ff_broken.f", "part")
    told = str(caught.value)
    assert "part._target_: importing 'ff_broken'" in told
    assert says in told
    assert "ff_broken.py" in told
    assert shows in told
    assert "importlib" not in told
