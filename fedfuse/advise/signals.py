"""What the shared predictions show of a federation, without a label or a test sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedfuse.fusion.blocks import clients_per_block, spans
from fedfuse.fusion.estimators import mean_soft
from fedfuse.fusion.softmax import softmax
from fedfuse.types import KnowledgeBank, Teachers

Values = dict[str, Tensor]
"""One float64 number per client, [K], by name; NaN where there is none."""


def prediction_signals(bank: KnowledgeBank, teachers: Teachers) -> Values:
    """Return what one round's exchange shows of every client that shared.

    ``epd_classes``: the exponential of the entropy of its estimated class distribution, its mean
    prediction: of how many classes its data seem to be, 1 to C. ``epd_distance``: how far that is
    from the mean over all clients, in total variation, 0 to 1. ``entropy``: the mean entropy of
    its predictions over that of a guess, 0 (certain) to 1. ``teacher_entropy``: the same of what
    came back. ``disagreement``: the share of public samples that its teacher puts into another
    class than itself, 0 to 1. Only samples count that it answered and that its teacher is about.

    Args:
        bank: What the clients sent.
        teachers: What came back; a client that is not among them has no ``teacher_entropy`` and
            no ``disagreement``.
    """
    num_clients, _, num_classes = bank.logits.shape
    guess = math.log(num_classes)
    columns: dict[str, list[Tensor]] = {"entropy": [], "teacher_entropy": [], "disagreement": []}
    epds = []
    rows = _rows_of(teachers, bank)
    for part in spans(num_clients, clients_per_block(bank.logits, torch.device("cpu"))):
        logits = bank.logits[part].cpu().float()
        mask = None if bank.mask is None else bank.mask[part].cpu()
        epds.append(mean_soft(logits, mask).double())
        columns["entropy"].append(_mean(_entropy(softmax(logits, 1.0)), mask) / guess)
        back, there = _teachers_at(teachers, rows[part], logits)
        counted = there if mask is None else there & mask
        columns["teacher_entropy"].append(_mean(_entropy(back), there) / guess)
        other = (back.argmax(dim=2) != logits.argmax(dim=2)).double()
        columns["disagreement"].append(_mean(other, counted))
    epd = torch.cat(epds)
    if bank.mask is not None:  # the distribution of a client that answered nothing is a guess
        epd[~bank.mask.cpu().any(dim=1)] = torch.nan
    away = (epd - epd.nanmean(dim=0)).abs().sum(dim=1) / 2
    classes = _entropy(epd).exp()
    return {
        "epd_classes": classes,
        "epd_distance": away,
        **{name: torch.cat(values) for name, values in columns.items()},
    }


def _rows_of(teachers: Teachers, bank: KnowledgeBank) -> Tensor:
    """Return at which row of the teachers each sharing client is, -1 if it has none, [K]."""
    where = {client: row for row, client in enumerate(teachers.client_ids.tolist())}
    return torch.tensor([where.get(client, -1) for client in bank.client_ids.tolist()])


def _teachers_at(teachers: Teachers, rows: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return these clients' targets as probabilities [k, P, C], and which samples count [k, P]."""
    if teachers.targets.shape[1:] != like.shape[1:]:  # about other samples: nothing to compare
        return torch.zeros_like(like), torch.zeros(like.shape[:2], dtype=torch.bool)
    index = rows.clamp_min(0)
    targets = teachers.targets[index].cpu().float()
    if teachers.space == "logits":
        targets = softmax(targets, 1.0)
    there = (rows >= 0)[:, None].expand(like.shape[:2])
    if teachers.sample_weight is not None:
        there = there & (teachers.sample_weight[index].cpu() > 0)
    return targets, there


def _entropy(probs: Tensor) -> Tensor:
    """Return the entropy over the last dimension in nats, float64."""
    return -torch.xlogy(probs, probs).sum(dim=-1).double()


def _mean(values: Tensor, where: Tensor | None) -> Tensor:
    """Return each client's mean [k] of values [k, P]; NaN where nothing counts."""
    if where is None:
        return values.mean(dim=1)
    return torch.where(where, values, 0.0).sum(dim=1) / where.sum(dim=1)
