"""Check every annotated shape of the mathematics while the tests run.

jaxtyping's import hook rewrites the modules named below as they are imported, so it has to stand
before anything imports them; pytest loads this file first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype

from fedfuse import protocols

CHECKED = ("fedfuse.fusion", "fedfuse.distill")

# A protocol cannot be checked by isinstance, and a plain function may stand in for each of them:
# what has to hold is that the part can be called. An int is a float, as in every type checker.
_PARTS = (
    protocols.Scorer,
    protocols.Neighbours,
    protocols.Rule,
    protocols.Sharpen,
    protocols.DistillLoss,
)
_CONF = BeartypeConf(
    is_pep484_tower=True,
    hint_overrides=FrozenDict(dict.fromkeys(_PARTS, Callable[..., Any])),
)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate all but constructors, whose mistakes are for the class's own validation to find."""
    return function if function.__name__ == "__init__" else beartype(conf=_CONF)(function)


# The hook imports its type checker by name, and a conftest has none.
_module = ModuleType("fedfuse_shape_checks")
_module.check = check  # type: ignore[attr-defined]
sys.modules[_module.__name__] = _module

_early = [name for name in sys.modules if name.startswith(CHECKED)]
if _early:
    raise RuntimeError(f"imported before their shapes could be checked: {', '.join(_early)}")
jaxtyping.install_import_hook(list(CHECKED), f"{_module.__name__}.check")
