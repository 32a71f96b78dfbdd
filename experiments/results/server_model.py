"""Load the server's own model from a run folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from experiments.config.damaged import damaged
from experiments.config.instantiate import instantiate
from experiments.config.untrusted import MALFORMED, check_targets, read_config
from fedfuse.errors import ConfigError
from fedfuse.files import confined
from fedfuse.models.plan import as_plan, build_checked

FILE = "server_model.safetensors"
LARGEST = 2**16
"""Pixels of a side, channels, or classes, that are believed."""


def load_server_model(folder: str | Path, *, trust: Iterable[str] = ()) -> nn.Module:
    """Return the model that the server of a run learnt, in eval mode, on the CPU.

    Its inputs are normalised like the clients': ``(pixel / 255 - mean) / std`` with the ``mean``
    and ``std`` per channel that ``run.json`` holds under ``server_model``.

    Args:
        folder: A run folder, whoever wrote it.
        trust: Code that it may name besides fedfuse's own, such as ``my_models.Net``.

    Raises:
        ConfigError: If the run had no such model, or did not get as far as its first fusion; if
            the folder names other code, or is damaged.
        FedfuseError: If a link leads out of the folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    if not (folder / FILE).is_file():
        raise ConfigError(
            "This run left no model of the server",
            got=f"no {FILE} in {folder.name}",
            next_step="Run with student=lenet5 or another model, and at least one fused round.",
        )
    student = {"student": read_config(folder).get("student")}
    check_targets(student, folder / "config.yaml", trust, how="trust=[{target!r}]")
    try:
        facts = confined.read_json(folder, "run.json")["server_model"]
        shape = tuple(facts["input_shape"])
        num_classes = facts["num_classes"]
        for size in (*shape, num_classes):
            if type(size) is not int or not 1 <= size <= LARGEST:
                raise ValueError(f"a size of {size!r}")
        weights = load(confined.read(folder, FILE))
        plan = as_plan(instantiate(student["student"], "student"))
        model = build_checked(plan, 0, shape, num_classes, 0)
        model.load_state_dict(weights)
    # load_state_dict raises RuntimeError where names or shapes differ.
    except (OSError, RuntimeError, SafetensorError, *MALFORMED) as error:
        raise damaged(folder, error) from error
    return model.eval()
