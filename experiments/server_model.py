"""Load the server's own model from a run folder."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import OmegaConf
from torch import nn

from experiments.instantiate import instantiate
from fedfuse.errors import ConfigError
from fedfuse.models.plan import as_plan, build_checked

FILE = "server_model.safetensors"


def load_server_model(folder: str | Path) -> nn.Module:
    """Return the model that the server of a run learnt, in eval mode, on the CPU.

    Its inputs are normalised like the clients': ``(pixel / 255 - mean) / std`` with the ``mean``
    and ``std`` per channel that ``run.json`` holds under ``server_model``.

    Args:
        folder: A run folder.

    Raises:
        ConfigError: If the run had no such model, or did not get as far as its first fusion.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / FILE).is_file():
        raise ConfigError(
            "This run left no model of the server",
            got=f"no {FILE} in {folder.name}",
            next_step="Run with student=lenet5 or another model, and at least one fused round.",
        )
    cfg = OmegaConf.load(folder / "config.yaml")
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))["server_model"]
    plan = as_plan(instantiate(cfg.student, "student"))
    model = build_checked(plan, 0, tuple(facts["input_shape"]), facts["num_classes"], 0)
    model.load_state_dict(load_file(folder / FILE))
    return model.eval()
