"""K6: what clients of one architecture gain where others run another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from experiments.claims.shared import Row, both, federation, gain, read
from experiments.results import TESTS
from fedfuse.compare import compare
from fedfuse.models.assign import Cycle, Table, Tiers


def tiers(*folders: Path) -> Iterator[Row]:
    """Yield the gain of each architecture's clients, in every federation."""
    yield (
        *("federation", "method", "architecture", "clients"),
        *(f"{title}: local, gain [95%], +/−" for title in TESTS.values()),
    )
    for run_group in read(*folders):
        for name, runs in run_group.methods.items():
            found = {test: both(runs, test) for test in TESTS}
            if all(tables is None for tables in found.values()):
                continue
            who = np.array(architectures(runs[0].config))
            for architecture in dict.fromkeys(who.tolist()):
                mine = who == architecture
                cells = [
                    "-"
                    if tables is None
                    else gain(
                        compare(
                            *(table[:, mine] for table in tables[:2]),
                            seeds=tables[3],
                            test_sizes=tables[2][:, mine],
                        )
                    )
                    for tables in found.values()
                ]
                yield (federation(run_group), name, architecture, str(int(mine.sum())), *cells)


def architectures(config: Mapping[str, Any]) -> list[str]:
    """Return which architecture each client of a run had, from its configuration.

    Nothing that the configuration names is built: plans of fedfuse's own are asked for names only.
    """
    model, num_clients = config["model"], int(config["num_clients"])
    target = str(model["_target_"]).rsplit(".", 1)[-1]
    names = model.get("factories", {})
    stubs = dict.fromkeys(names, _stub)
    plan: Cycle | Table | Tiers
    if target == "Cycle":
        plan = Cycle(stubs)
    elif target == "Tiers":
        plan = Tiers(stubs, num_clients, model.get("shares"))
    elif target == "Table":
        plan = Table(stubs, model["table"])
    else:
        return [target] * num_clients
    return [plan.name(client) for client in range(num_clients)]


def _stub(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:  # noqa: ARG001
    """Stand for an architecture whose name alone is asked for."""
    return nn.Identity()
