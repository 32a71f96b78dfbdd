"""RHFL: clients tell, beside their predictions, how fast local training lowers their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.exchange.predictions import Predictions
from clients.exchange.private_answers import private_answers
from clients.exchange.protocol import Tools
from fedfuse.exchange.kind import Kind
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData, KnowledgeBank, Teachers

LOSS = "exchange/loss"
"""Where a client remembers its private loss when it last shared."""
LEAST = 1e-8
"""What is divided by at least: a client that has lost nothing has learned what there was."""


@dataclass(frozen=True, slots=True)
class LossRated(Predictions):
    """Exchange predictions, and tell what local training made of the private loss.

    A client's efficiency is ``(L_last - L_now) / L_now``, L the mean local loss over its private
    samples after local training: label quality 1 / L times learning efficiency (Fang and Ye, CVPR
    2022). A scorer of the server reads it (``scorer=client_confidence``).
    """

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return predictions and teachers, with the efficiency on the way up."""
        self.check_shown(models, data)
        return Kind(KnowledgeBank, Teachers, up=self.also_up | {"efficiency"})

    def answers(
        self, held: Sequence[Student], tools: Tools, round_: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [k, m, C] on the round's public samples, and the efficiencies [k]."""
        logits, fields = Predictions.answers(self, held, tools, round_)
        found = []
        for student, now in zip(held, self._losses(held, tools), strict=True):
            memory = tools.memory(student.client_id)
            last = memory.get(LOSS, torch.tensor(torch.nan))
            memory[LOSS] = now
            found.append((last - now) / now.clamp_min(LEAST))
        return logits, {**fields, "efficiency": torch.stack(found)}

    def _losses(self, held: Sequence[Student], tools: Tools) -> list[Tensor]:
        """Return each client's mean local loss over the private samples, as it is taught them."""
        losses, plan = [], tools.work_plan
        for student, (logits, _, labels) in zip(held, private_answers(held, tools), strict=True):
            targets, loss = plan.lesson(plan.relabel(student.client_id, labels))
            losses.append(loss(logits, targets).mean().cpu())
        return losses
