"""Both test protocols at one round of an arm and one of the arm that it is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from experiments.summary.arm_rows import TESTS, ArmRows
from experiments.summary.guarded import change_of
from fedfuse.compare import ENOUGH, Flips

Rates = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]
"""Every client's positive and negative flip rate, [K] each."""

Sizes = npt.NDArray[np.integer]
"""Test samples of each client, [K]."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One test protocol at one round.

    Args:
        mean: Mean accuracy over the clients.
        worst: The lowest accuracy of a client.
        std: Standard deviation over the clients (of the population: K clients are all there are).
        baseline_mean: The same mean of the baseline, None without one.
        gain: Mean over the clients of accuracy minus the same client's baseline accuracy.
        helped: Clients whose accuracy is above their baseline's by more than the error of their
            tests (:func:`fedfuse.compare.outcomes`); None where the sizes of tests are unknown or
            all are too small.
        harmed: Clients whose accuracy is below it by more than that.
        ece: Mean expected calibration error over the clients.
        baseline_ece: The same of the baseline.
        newly_right: Mean share of a client's test samples that are wrong with the baseline and
            right with the method; None at any round but the last.
        newly_wrong: The reverse.
        fuar: The second over the first, in the mean over clients that won something
            (:func:`fedfuse.compare.fuar`); None where none did.
        smallest_test: Fewest test samples of a client; None where the sizes are unknown.
        largest_test: Most test samples of a client.
        too_small: Clients whose test holds fewer than :data:`fedfuse.compare.ENOUGH` samples: of
            them nothing is said.
    """

    mean: float
    worst: float
    std: float
    baseline_mean: float | None = None
    gain: float | None = None
    helped: int | None = None
    harmed: int | None = None
    ece: float | None = None
    baseline_ece: float | None = None
    newly_right: float | None = None
    newly_wrong: float | None = None
    fuar: float | None = None
    smallest_test: int | None = None
    largest_test: int | None = None
    too_small: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """Both test protocols at one round of the method and one of its baseline."""

    round: int
    baseline_round: int | None
    tests: dict[str, Figures]


def moment_of(
    arm: ArmRows,
    round_: int | None,
    twin: ArmRows | None,
    twin_round: int | None,
    sizes: Mapping[str, Sizes],
    flipped: Mapping[str, Rates] | None = None,
) -> Moment | None:
    """Return the figures of an arm at a round; None without a round.

    Args:
        arm: Whose they are.
        round_: The round.
        twin: The arm that gains are over; None without.
        twin_round: The round of that.
        sizes: Per test protocol the test samples of each client.
        flipped: Per test protocol the clients' flip rates.
    """
    if round_ is None:
        return None
    tests = {}
    for name in TESTS:
        values = arm.at(name, round_)
        before = twin.at(name, twin_round) if twin else {}
        if values:
            error = name.replace("accuracy", "ece")
            rates = (flipped or {}).get(name)
            found = _flips(rates, [i for i in values if i in before])
            tests[name] = replace(
                figures_of(values, before, sizes.get(name)),
                ece=_mean(arm.at(error, round_), values),
                baseline_ece=_mean(twin.at(error, twin_round), before) if twin else None,
                newly_right=found.newly_right if found else None,
                newly_wrong=found.newly_wrong if found else None,
                fuar=found.fuar if found and math.isfinite(found.fuar) else None,
            )
    return Moment(round_, twin_round, tests)


def _mean(found: Mapping[int, float], clients: Iterable[int]) -> float | None:
    """Return the mean over the clients that have a value; None if none has."""
    values = [found[client] for client in clients if client in found]
    return float(np.mean(values)) if values else None


def _flips(rates: Rates | None, clients: Sequence[int]) -> Flips | None:
    """Return the flips of some clients; None where they are not known."""
    if rates is None or not clients:
        return None
    positive, negative = (np.array([[side[i] for i in clients]]) for side in rates)
    # A server that does not see its clients' test sets does not know their sizes.
    return Flips(positive, negative) if np.isfinite(positive).all() else None


def figures_of(
    values: Mapping[int, float], before: Mapping[int, float], sizes: Sizes | None
) -> Figures:
    """Return the figures of the clients that have a value, in both arms if there are two."""
    both = [client for client in values if client in before]
    array = np.array([values[client] for client in both or values])
    tested = {client: size_of(sizes, client) for client in both or values}
    known = [size for size in tested.values() if size]
    figures = Figures(
        float(array.mean()),
        float(array.min()),
        float(array.std()),
        smallest_test=min(known, default=None),
        largest_test=max(known, default=None),
        too_small=tuple(client for client, size in tested.items() if 0 < size < ENOUGH),
    )
    if not both:
        return figures
    base = np.array([before[client] for client in both])
    helped, harmed = change_of(values, before, sizes)
    return replace(
        figures,
        baseline_mean=float(base.mean()),
        gain=float((array - base).mean()),
        helped=helped,
        harmed=harmed,
    )


def size_of(sizes: Sizes | None, client: int) -> int:
    """Return a client's test samples; 0 where they are unknown."""
    return 0 if sizes is None or client >= len(sizes) else int(sizes[client])
