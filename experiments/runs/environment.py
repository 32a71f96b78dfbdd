"""What a run was made with; nothing that names the machine or its user."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from experiments.engines.resources import usable_cpus
from experiments.runs.revisions import KEY, REVISION

PACKAGES = ("fedfuse", "torch", "numpy", "flwr", "hydra-core")


def environment() -> dict[str, Any]:
    """Return the versions and the kind of machine, for ``run.json``."""
    return {
        KEY: REVISION,
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": usable_cpus(),
        },
    }


@functools.cache  # what is imported stays
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
