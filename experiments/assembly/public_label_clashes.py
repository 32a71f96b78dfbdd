"""What goes with the labels of the public set: who needs them, and of which classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from experiments.assembly.chosen import Chosen, Clash
from fedfuse.declarations import declared, part_name
from fedfuse.train.facts import wants

NEEDS = "needs_labels"
_FUSING = ("scorer", "rule", "distill")


def _labels() -> Iterator[Clash]:
    """Yield a row for each slot whose part may need labels of the public set."""
    for slot, who, instead in (
        ("pretrain", "Pre-training", "Set pretrain=none"),
        ("scorer", "The scorer {}", "Choose another scorer.epd, scorer.evidence or scorer"),
        ("rule", "The rule {}", "Set rule.by=max_prob, or choose another rule"),
        ("select", "The selection {}", "Choose select=random"),
        ("exchange", "The exchange {}", "Set exchange.public=pseudo_labels"),
        ("uptake", "The uptake {}", "Set uptake.by=max_prob, or uptake=none"),
        ("request", "The requester {}", "Set request=none"),
        ("distill", "The distillation loss {}", "Choose distill=kl"),
    ):
        yield Clash(
            partial(_who_needs_labels, slot=slot, who=who),
            partial(_lacks_labels, slot=slot),
            f"{instead}, or public=held_out.",
            from_data=True,
        )


def _who_needs_labels(chosen: Chosen, slot: str, who: str) -> str:
    part = chosen.part(slot)
    # Around another one that needs them it is that one which shall be named.
    while declared(inner := declared(part, "inner", declared(part, "scorer", None)), NEEDS, False):
        part = inner
    return f"{who.format(part_name(part))} needs labels of the public set, which has none"


def _lacks_labels(chosen: Chosen, slot: str) -> str | None:
    public = chosen.data.public  # type: ignore[union-attr]
    used = slot not in _FUSING or chosen.fuses
    if public.labels is None and used and needs_labels(chosen, slot):
        return f"public set: {public.source}"
    return None


def needs_labels(chosen: Chosen, slot: str) -> bool:
    """Tell whether the part of a slot cannot do without the public labels."""
    if slot != "distill":
        return chosen.needs(slot, NEEDS)
    loss = chosen.part(slot)
    return "labels" in wants(loss) and not declared(loss, "pseudo_labels", False)


def _other_classes(chosen: Chosen, slot: str) -> str | None:
    reads = "labels" in wants(chosen.part(slot)) if slot == "distill" else chosen.needs(slot, NEEDS)
    if not reads or (slot in _FUSING and not chosen.fuses):
        return None
    return strange_classes(chosen)


def strange_classes(chosen: Chosen) -> str | None:
    """Return in words which classes the public labels are of, if there are others among them."""
    data = chosen.data
    assert data is not None
    if data.public.labels is None:
        return None
    low, high = int(np.min(data.public.labels)), int(np.max(data.public.labels))
    return f"{low} to {high}" if low < 0 or high >= data.num_classes else None


def _last_class(chosen: Chosen) -> int:
    assert chosen.data is not None
    return chosen.data.num_classes - 1


_WITHOUT = (
    ("pretrain", "pretrain=none"),
    ("scorer", "scorer=uniform"),
    ("rule", "rule=mean_probs"),
    ("exchange", "exchange.public=pseudo_labels"),
    ("uptake", "uptake=none"),
    ("request", "request=none"),
    ("distill", "distill=kl"),
)
OF_PUBLIC_LABELS = (
    *_labels(),
    *(
        Clash(
            "The labels of the public set are of other classes than the private data",
            partial(_other_classes, slot=slot),
            f"Set {instead}, or public=held_out.",
            lambda chosen: f"labels of the private data's classes, 0 to {_last_class(chosen)}",
            from_data=True,
        )
        for slot, instead in _WITHOUT
    ),
)
