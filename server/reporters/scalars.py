"""A round as named numbers: for dashboards, which know neither clients nor phases."""

from __future__ import annotations

import math

from fedfuse.types import Phase, RoundRecord

LOWER_IS_BETTER = ("loss_", "ece_", "flips_negative")
"""How the names of metrics begin whose worst client has the largest value."""

_FOLDERS = {Phase.FUSED: "", Phase.LOCAL: "before_fusion/", Phase.FUSE: "fusion/"}


def scalars(record: RoundRecord) -> dict[str, float]:
    """Return a round's numbers: the mean over the clients, and the worst client.

    ``accuracy_own/mean`` is of the end of the round, ``before_fusion/accuracy_own/mean`` of the
    same round before distillation, ``fusion/self_weight/mean`` of the server's weights,
    ``bytes_up`` of the federation, and ``seconds/train`` the wall time of a phase.
    """
    clients: dict[tuple[str, str], list[float]] = {}
    found: dict[str, float] = {}
    for row in record.metrics:
        if not math.isfinite(row.value):
            continue
        if row.client_id < 0:
            found[row.metric] = row.value
        else:
            clients.setdefault((row.phase, row.metric), []).append(row.value)
    for (phase, metric), values in clients.items():
        name = f"{_FOLDERS.get(Phase(phase), f'{phase}/')}{metric}"
        found[f"{name}/mean"] = sum(values) / len(values)
        if phase != Phase.FUSE:
            worst = max(values) if metric.startswith(LOWER_IS_BETTER) else min(values)
            found[f"{name}/worst"] = worst
    return found | {f"seconds/{phase}": spent for phase, spent in record.seconds.items()}
