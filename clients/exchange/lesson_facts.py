"""What a distillation loss wants to know of the clients it teaches, beside logits and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clients.exchange.protocol import Tools
from fedfuse.declarations import declared
from fedfuse.distill.targets import labels_for
from fedfuse.prior import FLOOR, log_prior
from fedfuse.train.facts import Facts, wants
from fedfuse.types import Teachers
from fedfuse.uptake.chain import T as CLOCK


def gather(
    tools: Tools,
    client_ids: Sequence[int],
    round_: int,
    teachers: Teachers,
    own: Callable[[], Tensor],
) -> Facts | None:
    """Return what the loss of distillation wants to know, as far as it is known.

    Args:
        tools: Of the node.
        client_ids: The k clients that are taught.
        round_: The round.
        teachers: What they are taught.
        own: Their logits [k, m, C] before the lesson; asked only if the loss wants them.
    """
    loss = tools.work_plan.loss
    if loss is None or not (wanted := wants(loss)):
        return None
    targets, prior, clock = teachers.targets, None, None
    if "prior" in wanted:
        counts = tools.inputs.class_counts(client_ids)
        prior = log_prior(counts, declared(loss, "floor", FLOOR))
        prior = prior.unsqueeze(1).expand(targets.shape)
    memories = [tools.memory(client_id) for client_id in client_ids]
    if "clock" in wanted and all(CLOCK in memory for memory in memories):
        now = torch.stack([memory[CLOCK].float().reshape(()) for memory in memories])
        clock = now.unsqueeze(1).expand(targets.shape[:2])
    return Facts(
        labels=labels_for(loss, tools.inputs.rounds.labels(round_), targets),
        own=own() if "own" in wanted else None,
        prior=prior,
        clock=clock,
    )
