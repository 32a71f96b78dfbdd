"""Rows about what models are asked at evaluation (``evaluation.probes``)."""

from __future__ import annotations

from experiments.assembly.chosen import Chosen, Clash
from experiments.assembly.parts import build_probes
from fedfuse.declarations import declared, part_name
from fedfuse.guard import Validation
from fedfuse.probes.asking import alike


def _two_models(chosen: Chosen) -> str | None:
    guard = chosen.part("guard")
    mixes = guard is not None and not isinstance(guard, Validation)
    return chosen.named("guard") if mixes and build_probes(chosen.cfg) else None


def _same_name(chosen: Chosen) -> str | None:
    name = alike(build_probes(chosen.cfg))
    return None if name is None else f"'{name}' twice"


def _no_images(chosen: Chosen) -> str | None:
    if chosen.data is None or chosen.data.mean:
        return None
    probes = [p for p in build_probes(chosen.cfg) if declared(p, "needs_images", False)]
    return f"{part_name(probes[0])} with features" if probes else None


OF_PROBES = (
    Clash(
        "Probes ask one model, and a client with this guard deploys two that it mixes",
        _two_models,
        "Set guard=none or guard=validation, or evaluation.probes=[].",
    ),
    Clash(
        "Two probes of evaluation.probes give their metrics one name",
        _same_name,
        "Give one of them another name: {_target_: ..., name: ...}.",
    ),
    Clash(
        "A probe of evaluation.probes changes images, and the samples are none",
        _no_images,
        "Leave it out of evaluation.probes.",
        lambda _: "a data set of images",
        from_data=True,
    ),
)
"""Clashes of probes with other parts, and with each other."""
