"""What a run came to in each domain, where its data is put together from several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.summary.arm_rows import TESTS
from experiments.summary.client_lines import ClientLine
from fedfuse.safe_text import visible
from server.reporters.figures import percent, points


@dataclass(frozen=True, slots=True)
class OfDomain:
    """The clients of a domain at the last round: means over them, per test protocol.

    Args:
        name: The domain's.
        clients: Their ids.
        accuracy: The method's; their own test is of their domain alone.
        gain: Over the baseline; empty without one.
    """

    name: str
    clients: tuple[int, ...]
    accuracy: dict[str, float]
    gain: dict[str, float]

    def line(self) -> str:
        """Return it in words."""
        first, last = self.clients[0], self.clients[-1]
        who = f"client {first}" if first == last else f"clients {first} to {last}"
        told = []
        for test, name in zip(TESTS, ("own", "balanced"), strict=True):
            if test in self.accuracy:
                gain = f" ({points(self.gain[test]).strip()})" if test in self.gain else ""
                told.append(f"{name} {percent(self.accuracy[test]).strip()}%{gain}")
        return f"domain {visible(self.name)}, {who}: {', '.join(told)}"


def by_domain(lines: Sequence[ClientLine], domains: Sequence[str]) -> tuple[OfDomain, ...]:
    """Return the figures of each domain, in the order of their clients.

    Args:
        lines: A line for each client that counts.
        domains: Each client's domain [K]; empty where there are none.
    """
    found = []
    for name in dict.fromkeys(domains):
        of = [line for line in lines if domains[line.client_id] == name]
        sides = [
            {
                test: float(np.mean(held))
                for test in TESTS
                if (held := [s[test] for line in of if test in (s := getattr(line, side))])
            }
            for side in ("accuracy", "gain")
        ]
        found.append(OfDomain(name, tuple(line.client_id for line in of), *sides))
    return tuple(found)
