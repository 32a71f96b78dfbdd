"""What a round leaves behind: tidy metrics and the weights that were used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from fedfuse.fusion.weights import effective_neighbours, self_weight
from fedfuse.metrics import pairwise_disagreement
from fedfuse.types import ClientMetrics, Fusion, KnowledgeBank, MetricRow, Phase, RoundRecord
from fedfuse.wire.messages import ALL_SPENT
from server.records.coverage import coverage
from server.records.prediction_rows import prediction_rows
from server.transport.answer import Answer

DISAGREEMENT = "pairwise_disagreement"
"""Metric: how often two clients name different classes of a public sample, before they learn from
each other; mean over pairs and the round's samples."""

TESTS = ("accuracy_", "loss_", "ece_")
"""What the names of metrics of tests begin with."""

ADVERSARY_WEIGHT = "adversary_weight"
"""Metric: the share of their weight that benign clients give adversaries, in the mean."""


def record(
    round_: int,
    local: Answer,
    fusion: Fusion | None,
    fused: Answer,
    rest: Answer | None,
    num_asked: int,
    seconds: dict[str, float],
    *,
    num_clients: int,
    adversaries: Sequence[int] = (),
    judged: Collection[int] | None = None,
    probed: Answer | None = None,
) -> RoundRecord:
    """Return the round's tidy metrics and its weights [k, k], of those who were fused.

    Args:
        round_: The round.
        local: What clients answered after training.
        fusion: What the server made of it; None if there was nothing to make.
        fused: What clients answered at the end.
        rest: The metrics of those who did not take part; None if nobody rested.
        num_asked: How many clients were asked to take part.
        seconds: Wall time by phase.
        num_clients: K.
        adversaries: Who attacks, as the simulation knows and the server does not.
        judged: Whom the means of the round's end are about; None for all that were tested.
        probed: What clients answered to the probes; None if nobody was asked.
    """
    rows = list(_rows(round_, Phase.LOCAL, local.metrics))
    rows += _rows(round_, Phase.FUSED, fused.metrics, judged)
    if rest is not None:
        rows += _rows(round_, Phase.FUSED, rest.metrics)
    if probed is not None:
        rows += _rows(round_, Phase.PROBED, probed.metrics)
    weights = weight_clients = shares = None
    if fusion is not None and fusion.weights is not None:
        ids, by_class = fusion.teachers.client_ids, fusion.by_class
        heard = effective_neighbours(fusion.weights)
        if by_class is not None:
            heard = by_class.effective_neighbours
        if not fusion.weights.is_sparse:  # too many clients to keep a matrix of every round
            shares = None if by_class is None else by_class.shares
            weights = fusion.weights.cpu().float()
            weight_clients = ids.cpu() if len(ids) < num_clients else None
        told = set(ids.tolist())
        if fusion.weights.is_sparse and local.knowledge is not None:
            told = set(local.knowledge.client_ids.tolist())  # an average is for all of them alike
        for name, values in (
            ("self_weight", self_weight(fusion.weights)),
            ("effective_neighbours", heard),
        ):
            rows += [
                MetricRow(round_, client_id, Phase.FUSE, name, value)
                for client_id, value in zip(ids.tolist(), values.tolist(), strict=True)
                if client_id in told
            ]
    rows += _spent(round_, (local.metrics, fused.metrics))
    rows += coverage(round_, local.knowledge, fusion)
    rows += prediction_rows(round_, local.knowledge, fusion)
    shared = local.knowledge
    if isinstance(shared, KnowledgeBank) and len(shared.client_ids) > 1:
        apart = pairwise_disagreement(shared.logits, shared.mask)
        if apart == apart:  # nobody is apart on samples that no two answered
            rows.append(MetricRow(round_, -1, Phase.FUSE, DISAGREEMENT, apart))
    if adversaries and weights is not None:
        lies = torch.isin(ids, torch.tensor(adversaries))
        given = weights[~lies][:, lies].sum(dim=1)
        if len(given):
            row = MetricRow(round_, -1, Phase.FUSE, ADVERSARY_WEIGHT, float(given.mean()))
            rows.append(row)
    answers_of = [local, fused, *(answer for answer in (rest, probed) if answer is not None)]
    late, late_broadcast = (
        sum(sizes) for sizes in zip(*(answer.late_bytes for answer in answers_of), strict=True)
    )
    for name, size in (
        ("bytes_up", local.num_bytes),
        ("bytes_down", local.asked_bytes + fused.num_bytes + late),
        ("bytes_down_broadcast", local.asked_bytes + fused.broadcast_bytes + late_broadcast),
    ):
        rows.append(MetricRow(round_, -1, Phase.FUSE, name, float(size)))
    counts = {**local.counts, **fused.counts}
    if num_asked < num_clients:
        counts.setdefault("participants", float(num_asked))
    for name, value in counts.items():
        rows.append(MetricRow(round_, -1, Phase.FUSE, name, value))
    failures = {f.client_id: f for answer in answers_of for f in answer.failures}
    own = {} if fusion is None else fusion.metrics
    rows += [MetricRow(round_, -1, Phase.FUSE, name, value) for name, value in own.items()]
    model = None if fusion is None else fusion.model
    right = answers([fused.metrics, rest.metrics if rest is not None else None], num_clients)
    gone = (*failures.values(), *(f for answer in answers_of for f in answer.noted))
    return RoundRecord(
        round_, tuple(rows), weights, seconds, gone, model, right, weight_clients, shares
    )


def answers(parts: Sequence[ClientMetrics | None], num_clients: int) -> dict[str, Tensor] | None:
    """Return which test samples every client gets right; None if nobody was asked.

    Args:
        parts: What clients answered; None for those of whom there is nothing.
        num_clients: K.

    Returns:
        Per test metric uint8 [K, bytes]; a client that did not answer has zeros.
    """
    found: dict[str, Tensor] = {}
    for test, name in (("accuracy_own", "right_own"), ("accuracy_global", "right_global")):
        there = [
            (part.client_ids, bits)
            for part in parts
            if part is not None and (bits := getattr(part, name)) is not None
        ]
        if there:
            width = max(bits.shape[1] for _, bits in there)
            found[test] = torch.zeros(num_clients, width, dtype=torch.uint8)
            for ids, bits in there:
                found[test][ids, : bits.shape[1]] = bits
    return found or None


def _rows(
    round_: int,
    phase: Phase,
    metrics: ClientMetrics | None,
    judged: Collection[int] | None = None,
) -> list[MetricRow]:
    if metrics is None:
        return []
    aside = {name for name in metrics.names if judged is not None and name.startswith(TESTS)}
    return [
        MetricRow(
            round_,
            client_id,
            phase if name not in aside or client_id in judged else Phase.ASIDE,  # type: ignore[operator]
            name,
            value,
        )
        for client_id, values in zip(
            metrics.client_ids.tolist(), metrics.values.tolist(), strict=True
        )
        for name, value in zip(metrics.names, values, strict=True)
        # A client without validation data has no such metric.
        if value == value and name not in ALL_SPENT
    ]


def _spent(round_: int, parts: Sequence[ClientMetrics | None]) -> Iterator[MetricRow]:
    """Yield what each client spent in both phases of the round together."""
    sums: dict[tuple[int, str], float] = {}
    for part in parts:
        if part is None:
            continue
        table = part.aligned(tuple(name for name in ALL_SPENT if name in part.names))
        for client_id, values in zip(table.client_ids.tolist(), table.values.tolist(), strict=True):
            for name, value in zip(table.names, values, strict=True):
                if value == value:  # a client without a twin among others has NaN
                    sums[client_id, name] = sums.get((client_id, name), 0.0) + value
    for (client_id, name), value in sorted(sums.items()):
        yield MetricRow(round_, client_id, Phase.SPENT, name, value)
