"""The numbers that close a run: computed once, for the table and for ``summary.json``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from experiments.assembly.attack import Attacked
from experiments.assembly.pretraining import Pretrained, pretrained
from experiments.assembly.privacy import Disclosure
from experiments.summary.arm_rows import TESTS, ArmRows
from experiments.summary.break_even import BreakEven
from experiments.summary.faulted import Faulted
from experiments.summary.guarded import Guarded, change_of, guarded
from experiments.summary.left_out import LeftOut, left_out
from experiments.summary.membership import Leak, leak
from experiments.summary.spending import Spending, spending
from fedfuse.compare import ENOUGH
from fedfuse.types import MetricRow, Phase
from server.reporters.protocol import RunInfo

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
    smallest_test: int | None = None
    largest_test: int | None = None
    too_small: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """Both test protocols at one round of the method and one of its baseline."""

    round: int
    baseline_round: int | None
    tests: dict[str, Figures]


@dataclass(frozen=True, slots=True)
class ClientLine:
    """One client at the last round: accuracy, its baseline's and the gain, per test protocol.

    ``test_samples`` is how many samples stand behind each accuracy; empty where it is unknown.
    """

    client_id: int
    class_counts: tuple[int, ...]
    accuracy: dict[str, float]
    baseline: dict[str, float]
    gain: dict[str, float]
    test_samples: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found.

    Args:
        method: Name of the method.
        baseline: Name of the baseline arm, None without one.
        dataset: The data set's name.
        partitioner: The partitioner, in a few words.
        model: The model or models, in a few words.
        num_clients: K.
        num_rounds: Rounds of each arm.
        last: The last evaluated round, the result of the run.
        best_validation: The round with the highest mean validation accuracy, chosen for each arm
            on its own and never on test data; None without validation data, or with so little
            that it chooses nothing (``validation_samples``).
        self_weight: Mean over the clients of the weight of their own knowledge, at the last
            fusion.
        effective_neighbours: Mean over the clients of exp(entropy of their weights), at the last
            fusion.
        bytes_up: Sent by all clients in all rounds.
        bytes_down: Sent to all clients in all rounds.
        seconds: Wall time by phase.
        clients: One line per client.
        privacy: What left the clients, and what is promised about it.
        membership: How well membership inference did, None if nobody tried.
        attack: Who attacked; None if nobody did.
        guard: What the clients' guard did; None if there was none.
        break_even: Predictions against weights; None where no predictions travel.
        pretrained: What came before the first round; None if nothing did.
        server: Accuracy of the server's own model on the balanced test set, at its last
            evaluation; None if it has none.
        server_steps: Optimiser steps of the server in all rounds; None if it learns nothing.
        left_out: Public samples that nobody learnt from; None if there were none.
        validation_samples: Samples that all clients hold back together; None where unknown.
        spending: Optimiser steps and samples of both arms; None where nobody counted.
    """

    method: str
    baseline: str | None
    dataset: str
    partitioner: str
    model: str
    num_clients: int
    num_rounds: int
    last: Moment | None
    best_validation: Moment | None
    self_weight: float | None
    effective_neighbours: float | None
    bytes_up: int
    bytes_down: int
    seconds: dict[str, float]
    clients: tuple[ClientLine, ...]
    privacy: Disclosure | None = None
    membership: Leak | None = None
    attack: Attacked | None = None
    faults: Faulted | None = None
    guard: Guarded | None = None
    break_even: BreakEven | None = None
    pretrained: Pretrained | None = None
    server: float | None = None
    server_steps: int | None = None
    left_out: LeftOut | None = None
    validation_samples: int | None = None
    spending: Spending | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``summary.json``."""
        return asdict(self)


def summarise(
    rows: Iterable[MetricRow],
    baseline_rows: Iterable[MetricRow] | None,
    info: RunInfo,
    *,
    class_counts: npt.NDArray[np.integer] | None = None,
    seconds: Mapping[str, float] | None = None,
    privacy: Disclosure | None = None,
    attack: Attacked | None = None,
    faults: Faulted | None = None,
    even: BreakEven | None = None,
    flipped: Mapping[str, Rates] | None = None,
    test_sizes: Mapping[str, Sizes] | None = None,
    val_sizes: Sizes | None = None,
    cfg: DictConfig | None = None,
) -> Summary:
    """Return the closing numbers of a run.

    Args:
        rows: Metric rows of the method's arm.
        baseline_rows: Those of the baseline's arm; None if there was none.
        info: The run.
        class_counts: Training samples per client and class, [K, C].
        seconds: Wall time by phase, of the method's arm.
        privacy: What left the clients.
        attack: Who attacked; the figures are of the others.
        faults: What happened to clients.
        even: Predictions against weights.
        flipped: Per test protocol the clients' flip rates at the last round.
        test_sizes: Per test protocol the test samples of each client, [K]; a protocol whose sizes
            are unknown is missing, or 0 for everybody.
        val_sizes: Validation samples of each client, [K]; None where they are unknown.
        cfg: The configuration, which says what the arms spend alike.
    """
    sizes = test_sizes or {}
    attackers = frozenset(() if attack is None else attack.adversaries)
    arm = ArmRows(rows, attackers)
    twin = ArmRows(baseline_rows, attackers) if baseline_rows is not None else None
    last = arm.last_round()
    held_back = None if val_sizes is None or not val_sizes.any() else int(val_sizes.sum())
    chooses = held_back is None or held_back >= ENOUGH
    best, best_twin = arm.best_round() if chooses else None, twin.best_round() if twin else None
    return Summary(
        method=info.method,
        baseline=info.arms[0] if twin is not None else None,
        dataset=info.dataset,
        partitioner=info.partitioner,
        model=info.model,
        num_clients=info.num_clients,
        num_rounds=info.num_rounds,
        last=_moment(arm, last, twin, twin.last_round() if twin else None, sizes, flipped),
        best_validation=_moment(arm, best, twin, best_twin, sizes),
        self_weight=arm.last_fusion("self_weight"),
        effective_neighbours=arm.last_fusion("effective_neighbours"),
        bytes_up=arm.total("bytes_up"),
        bytes_down=arm.total("bytes_down"),
        seconds=dict(seconds or {}),
        clients=_clients(arm, twin, info.num_clients, class_counts, sizes),
        privacy=privacy,
        attack=attack,
        faults=faults,
        break_even=even,
        pretrained=pretrained(
            arm.at("pretrain_steps", last, Phase.LOCAL),
            twin.at("pretrain_steps", twin.last_round(), Phase.LOCAL) if twin else None,
        ),
        server=arm.of_federation("accuracy_server"),
        server_steps=arm.total("server_steps") if arm.by_round("server_steps") else None,
        left_out=left_out(arm.by_round),
        spending=None
        if cfg is None
        else spending(cfg, arm.spent(), twin.spent() if twin else None),
        membership=leak(lambda name: arm.at(name, last, Phase.LOCAL)),
        guard=guarded(
            arm.at,
            arm.rounds("accuracy_own"),
            twin.at("accuracy_own", twin.last_round()) if twin else None,
            sizes.get("accuracy_own"),
            val_sizes,
        ),
        validation_samples=held_back,
    )


def _moment(
    arm: ArmRows,
    round_: int | None,
    twin: ArmRows | None,
    twin_round: int | None,
    sizes: Mapping[str, Sizes],
    flipped: Mapping[str, Rates] | None = None,
) -> Moment | None:
    if round_ is None:
        return None
    tests = {}
    for name in TESTS:
        values = arm.at(name, round_)
        before = twin.at(name, twin_round) if twin else {}
        if values:
            error = name.replace("accuracy", "ece")
            rates = (flipped or {}).get(name)
            right, wrong = _flips(rates, [i for i in values if i in before])
            tests[name] = replace(
                _figures(values, before, sizes.get(name)),
                ece=_mean(arm.at(error, round_), values),
                baseline_ece=_mean(twin.at(error, twin_round), before) if twin else None,
                newly_right=right,
                newly_wrong=wrong,
            )
    return Moment(round_, twin_round, tests)


def _mean(found: Mapping[int, float], clients: Iterable[int]) -> float | None:
    """Return the mean over the clients that have a value; None if none has."""
    values = [found[client] for client in clients if client in found]
    return float(np.mean(values)) if values else None


def _flips(rates: Rates | None, clients: Sequence[int]) -> tuple[float | None, float | None]:
    """Return the mean flip rates of some clients; None where they are not known."""
    if rates is None or not clients:
        return None, None
    positive, negative = (float(np.mean([side[i] for i in clients])) for side in rates)
    # A server that does not see its clients' test sets does not know their sizes.
    return (positive, negative) if math.isfinite(positive) else (None, None)


def _figures(
    values: Mapping[int, float], before: Mapping[int, float], sizes: Sizes | None
) -> Figures:
    """Return the figures of the clients that have a value, in both arms if there are two."""
    both = [client for client in values if client in before]
    array = np.array([values[client] for client in both or values])
    tested = {client: _size(sizes, client) for client in both or values}
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


def _size(sizes: Sizes | None, client: int) -> int:
    """Return a client's test samples; 0 where they are unknown."""
    return 0 if sizes is None or client >= len(sizes) else int(sizes[client])


def _clients(
    arm: ArmRows,
    twin: ArmRows | None,
    num_clients: int,
    counts: npt.NDArray[np.integer] | None,
    sizes: Mapping[str, Sizes],
) -> tuple[ClientLine, ...]:
    last, twin_last = arm.last_round(), twin.last_round() if twin else None
    lines = []
    for client in range(num_clients):
        after = {t: v[client] for t in TESTS if client in (v := arm.at(t, last))}
        before = {t: v[client] for t in TESTS if twin and client in (v := twin.at(t, twin_last))}
        gain = {t: after[t] - before[t] for t in after if t in before}
        row = tuple(int(n) for n in counts[client]) if counts is not None else ()
        tested = {t: size for t in after if (size := _size(sizes.get(t), client))}
        lines.append(ClientLine(client, row, after, before, gain, tested))
    return tuple(lines)
