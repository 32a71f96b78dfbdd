"""The numbers that close a run: computed once, for the table and for ``summary.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from experiments.assembly.attack import Attacked
from experiments.assembly.pretraining import Pretrained, pretrained
from experiments.assembly.privacy import Disclosure
from experiments.summary.arm_rows import ArmRows
from experiments.summary.break_even import BreakEven
from experiments.summary.by_domain import OfDomain, by_domain
from experiments.summary.client_lines import (
    EXTREMES,
    MOST_LINES,
    ClientLine,
    Quantiles,
    client_lines,
    extremes,
    quantiles,
)
from experiments.summary.controls import Control, controls_of, post_hoc_of
from experiments.summary.deployed import Deployed, deployed
from experiments.summary.faulted import Faulted
from experiments.summary.guarded import Guarded, guarded
from experiments.summary.left_out import LeftOut, left_out
from experiments.summary.membership import Leak, leak
from experiments.summary.moments import Figures, Moment, Rates, Sizes, moment_of
from experiments.summary.probed import Probed, probed
from experiments.summary.rested import Rested, rested
from experiments.summary.spending import Spending, spending
from fedfuse.compare import ENOUGH
from fedfuse.types import MetricRow, Phase
from server.reporters.protocol import RunInfo


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
        clients: One line per client; of more than :data:`MOST_LINES` clients none.
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
        controls: The ways of training alone, the baseline first; empty where there is only that.
        post_hoc: The baseline on the balanced test set at its last round with its clients' priors
            taken out of its logits, and the gain of that; None where it was not measured.
        rested: How clients that rested in a round were tested; None if nobody did.
        quantiles: Of more clients than have lines, per test the quantiles of what lines hold.
        extremes: Of these the lines of those who lost and gained most.
        probed: What models answered to the probes; None where nobody asked.
        domains: The means of each domain's clients, where the data is put together from several.
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
    guard: Guarded | Deployed | None = None
    break_even: BreakEven | None = None
    pretrained: Pretrained | None = None
    server: float | None = None
    server_steps: int | None = None
    left_out: LeftOut | None = None
    validation_samples: int | None = None
    spending: Spending | None = None
    controls: tuple[Control, ...] = ()
    post_hoc: Figures | None = None
    rested: Rested | None = None
    quantiles: Mapping[str, Quantiles] = field(default_factory=dict)
    extremes: tuple[ClientLine, ...] = ()
    probed: Probed | None = None
    domains: tuple[OfDomain, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``summary.json``."""
        told = asdict(self)
        if self.quantiles:
            _shorten(told)
        return told


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
    others: Mapping[str, Iterable[MetricRow]] | None = None,
    domains: Sequence[str] = (),
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
        others: By arm the rows of the ways of training alone beside the baseline.
        domains: The domain of each client, [K]; empty where there are none.
    """
    sizes = test_sizes or {}
    attackers = frozenset(() if attack is None else attack.adversaries)
    arm = ArmRows(rows, attackers)
    twin = ArmRows(baseline_rows, attackers) if baseline_rows is not None else None
    further = {name: ArmRows(own, attackers) for name, own in (others or {}).items()}
    last = arm.last_round()
    held_back = None if val_sizes is None or not val_sizes.any() else int(val_sizes.sum())
    chooses = held_back is None or held_back >= ENOUGH
    best, best_twin = arm.best_round() if chooses else None, twin.best_round() if twin else None
    lines = client_lines(arm, twin, further, info.num_clients, class_counts, sizes)
    return Summary(
        method=info.method,
        baseline=info.arms[0] if twin is not None else None,
        dataset=info.dataset,
        partitioner=info.partitioner,
        model=info.model,
        num_clients=info.num_clients,
        num_rounds=info.num_rounds,
        last=moment_of(arm, last, twin, twin.last_round() if twin else None, sizes, flipped),
        best_validation=moment_of(arm, best, twin, best_twin, sizes),
        self_weight=arm.last_fusion("self_weight"),
        effective_neighbours=arm.last_fusion("effective_neighbours"),
        bytes_up=arm.total("bytes_up"),
        bytes_down=arm.total("bytes_down"),
        seconds=dict(seconds or {}),
        clients=lines if len(lines) <= MOST_LINES else (),
        quantiles=quantiles(lines) if len(lines) > MOST_LINES else {},
        extremes=extremes(lines) if len(lines) > MOST_LINES else (),
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
        guard=deployed(arm.at, last, None if cfg is None else cfg.guard.get("alpha"))
        or guarded(
            arm.at,
            arm.rounds("accuracy_own") | arm.rounds("kept"),
            twin.at("accuracy_own", twin.last_round()) if twin else None,
            sizes.get("accuracy_own"),
            val_sizes,
        ),
        validation_samples=held_back,
        controls=controls_of(arm, {info.arms[0]: twin, **further}, sizes, chooses=chooses)
        if twin and further
        else (),
        post_hoc=post_hoc_of(twin, sizes) if twin else None,
        probed=probed(arm, twin, seconds or {}),
        domains=by_domain(lines, domains),
        rested=rested(cfg, len(arm.at("accuracy_global", last)), seconds or {}),
    )


def _shorten(told: Any) -> None:
    """Leave of every list of clients the first, and how many there are, in what readers read."""
    if isinstance(told, dict):
        for key, value in list(told.items()):
            if key == "too_small" and len(value) > EXTREMES:
                told[key], told["num_too_small"] = value[:EXTREMES], len(value)
            else:
                _shorten(value)
    elif isinstance(told, list | tuple):
        for value in told:
            _shorten(value)
