"""Single clients at the end of a run: a line each, or of very many what tells of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from experiments.summary.arm_rows import TESTS, ArmRows
from experiments.summary.moments import Sizes, size_of

MOST_LINES = 1000
"""With more clients than this nobody would read their lines, and ``metrics.parquet`` has them."""
EXTREMES = 5
"""Clients at each end of a test's gains that then have lines nevertheless."""
SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

Quantiles = Mapping[str, Mapping[str, float]]
"""``accuracy``, ``baseline`` and ``gain``, each a share of the clients to a value."""


@dataclass(frozen=True, slots=True)
class ClientLine:
    """One client at the last round: accuracy, its baseline's and the gain, per test protocol.

    ``test_samples`` is how many samples stand behind each accuracy; empty where it is unknown.
    ``over`` holds, per control beside the baseline and test protocol, the gain over it.
    """

    client_id: int
    class_counts: tuple[int, ...]
    accuracy: dict[str, float]
    baseline: dict[str, float]
    gain: dict[str, float]
    test_samples: dict[str, int] = field(default_factory=dict)
    over: dict[str, dict[str, float]] = field(default_factory=dict)


def client_lines(
    arm: ArmRows,
    twin: ArmRows | None,
    further: Mapping[str, ArmRows],
    num_clients: int,
    counts: npt.NDArray[np.integer] | None,
    sizes: Mapping[str, Sizes],
) -> tuple[ClientLine, ...]:
    """Return a line for each client.

    Args:
        arm: The method's rows.
        twin: The baseline's.
        further: Those of other controls, by name.
        num_clients: K.
        counts: Training samples per client and class, [K, C].
        sizes: Per test protocol the test samples of each client, [K].
    """
    last, twin_last = arm.last_round(), twin.last_round() if twin else None
    lines = []
    for client in range(num_clients):
        after = {t: v[client] for t in TESTS if client in (v := arm.at(t, last))}
        before = {t: v[client] for t in TESTS if twin and client in (v := twin.at(t, twin_last))}
        gain = {t: after[t] - before[t] for t in after if t in before}
        row = tuple(int(n) for n in counts[client]) if counts is not None else ()
        tested = {t: size for t in after if (size := size_of(sizes.get(t), client))}
        over = {
            name: {
                t: after[t] - v[client]
                for t in after
                if client in (v := control.at(t, control.last_round()))
            }
            for name, control in further.items()
        }
        lines.append(ClientLine(client, row, after, before, gain, tested, over))
    return tuple(lines)


def quantiles(lines: Sequence[ClientLine]) -> dict[str, Quantiles]:
    """Return per test protocol the quantiles of the clients' accuracies and gains."""
    found: dict[str, Quantiles] = {}
    for test in TESTS:
        sides = {
            side: [held[test] for line in lines if test in (held := getattr(line, side))]
            for side in ("accuracy", "baseline", "gain")
        }
        found[test] = {
            side: {
                f"{100 * share:.0f}%": float(value)
                for share, value in zip(SHARES, np.quantile(values, SHARES), strict=True)
            }
            for side, values in sides.items()
            if values
        }
    return {test: sides for test, sides in found.items() if sides}


def extremes(lines: Sequence[ClientLine], most: int = EXTREMES) -> tuple[ClientLine, ...]:
    """Return the lines of those who lost and gained most on a test; without gains, by accuracy."""
    chosen: set[int] = set()
    for test in TESTS:
        side = "gain" if any(test in line.gain for line in lines) else "accuracy"
        tested = [line for line in lines if test in getattr(line, side)]
        tested.sort(key=lambda line: (getattr(line, side)[test], line.client_id))
        chosen |= {line.client_id for line in (*tested[:most], *tested[-most:])}
    return tuple(line for line in lines if line.client_id in chosen)
