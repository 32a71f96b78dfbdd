"""Go on learning from the last teacher beside local training, most where it speaks of rare classes.

The second half of KAFAL's client update (arXiv 2211.13579). Every step on private data also takes a
batch of public samples for which the client holds a teacher, the one that arrived last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clients.exchange.protocol import Tools
from fedfuse.augment.partial_mixup import mixed
from fedfuse.distill import KL, as_targets
from fedfuse.rng import Streams
from fedfuse.shapes import Float, Int
from fedfuse.train.work import Work, schedule
from fedfuse.types import Teachers
from fedfuse.uptake.rare_classes import UNSEEN, rarity
from fedfuse.validation import require_number, require_one_of

ROUND, TARGETS, COUNTS = "kept_teacher/round", "kept_teacher/targets", "kept_teacher/counts"
"""What a client remembers: of which round its last teacher is, [m, C], and how much each of its
samples counts, [m]."""
SHARE = "kept_share"
"""Metric: share of the public samples whose kept target counts in the next local training."""


@dataclass(frozen=True, slots=True)
class WeighedKL:
    """``w KL(t || softmax(z / T)) / C``; targets are wide: t, and w in the last column."""

    loss: KL

    def __call__(self, logits: Float[Tensor, "B C"], wide: Float[Tensor, "B D"]) -> Tensor:
        """Return one loss per sample, [B]."""
        num_classes = logits.shape[1]
        divergence = self.loss(logits, wide.narrow(1, 0, num_classes))
        return wide.select(1, num_classes) * divergence / num_classes


@dataclass(frozen=True, slots=True)
class KeptTeacher:
    """Add ``weight * w_x KL(t || p) / C`` on public samples to the loss of local training.

    ``w_x`` is that of :class:`~fedfuse.uptake.RareClasses`: C times how rare the class is that the
    teacher names; what nobody answered counts for nothing. Before a teacher has arrived there is
    plain local training, to the bit. The authors ask their teacher about mixed samples; here it is
    not there to be asked, so its targets are mixed as the samples are.

    Args:
        weight: Of the term; 0 for local training as it is. The authors' term lacks the C of
            ``w_x``, so that theirs is 1 / C.
        unseen: What a class counts for that the client has no sample of: ``zero``, or ``max``, as
            much as its rarest one.
        mixing: a of the Beta(a, a) by which every public sample is mixed with another one; targets
            and weights are mixed alike. 0 mixes nothing; the authors take 2.
        temperature: Of teacher and student.
    """

    weight: float = 1.0
    unseen: str = "zero"
    mixing: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_number("KeptTeacher", "weight", self.weight, at_least=0)
        require_one_of("KeptTeacher", "unseen", self.unseen, UNSEEN)
        require_number("KeptTeacher", "mixing", self.mixing, at_least=0)
        require_number("KeptTeacher", "temperature", self.temperature, above=0)

    @property
    def loss(self) -> WeighedKL:
        """What is minimised on the public samples."""
        return WeighedKL(KL(self.temperature))

    def keep(self, client_ids: Sequence[int], tools: Tools, round_: int, came: Teachers) -> None:
        """Let clients remember the teachers that came in a round."""
        targets = as_targets(came, self.loss.loss).cpu()
        counts = torch.ones(targets.shape[:2])
        if came.sample_weight is not None:
            counts = came.sample_weight.float().cpu()
        if (held_out := tools.work_plan.held_out) is not None:
            counts = counts * (~held_out[tools.inputs.rounds.index(round_)]).float()
        weights = counts * self._rarity(client_ids, tools, targets)
        for row, client_id in enumerate(client_ids):
            tools.memory(client_id).update(
                {
                    ROUND: torch.tensor(round_),
                    TARGETS: targets[row].clone(),
                    COUNTS: counts[row].clone(),
                }
            )
            share = float((weights[row] > 0).float().mean())
            tools.found.setdefault(client_id, {})[SHARE] = share

    def beside(
        self, client_ids: Sequence[int], works: Sequence[Work], tools: Tools, round_: int
    ) -> list[Work]:
        """Return steps on private data that also distil each client's kept teacher."""
        memories = [tools.memory(client_id) for client_id in client_ids]
        if self.weight == 0 or not any(ROUND in memory for memory in memories):
            return list(works)
        lessons = [
            self._lesson(client_id, work, tools, round_)
            for client_id, work in zip(client_ids, works, strict=True)
        ]
        return [
            replace(work, anchor=lesson, anchor_weight=self.weight)
            for work, lesson in zip(works, lessons, strict=True)
        ]

    def _lesson(self, client_id: int, work: Work, tools: Tools, round_: int) -> Work:
        """Return as many batches of public samples as a client's private steps are."""
        inputs, targets = self._samples(client_id, tools, round_)
        generator = tools.streams.torch("client", client_id, "kept teacher", round_)
        steps, device = work.schedule.num_steps, work.inputs.device
        batches = schedule(len(targets), tools.plan.distill_batch_size, steps, generator)
        return Work(inputs, targets.to(device), self.loss, batches)

    def _samples(self, client_id: int, tools: Tools, round_: int) -> tuple[Tensor, Tensor]:
        """Return the public samples [n, ...] that a client still holds a teacher for.

        And their targets with the weight in the last column, [n, C + 1]. A client that holds none,
        in a cohort of others, gets one sample that counts for nothing.
        """
        memory, public = tools.memory(client_id), tools.inputs.whole_public()
        known = torch.zeros(0, dtype=torch.int64)
        if ROUND in memory:
            known = memory[COUNTS].nonzero().flatten()
        if not len(known):
            return public[:1], torch.zeros(1, tools.inputs.data.num_classes + 1)
        targets, counts = memory[TARGETS][known], memory[COUNTS][known]
        weights = counts * self._rarity([client_id], tools, targets.unsqueeze(0))[0]
        wide = torch.cat([targets, weights.unsqueeze(1)], dim=1)
        index = tools.inputs.rounds.index(int(memory[ROUND]))[known]
        whole = torch.equal(index, torch.arange(len(public)))
        inputs = public if whole else public[index.to(public.device)]
        if self.mixing == 0:
            return inputs, wide
        part, partner = pairs(len(wide), self.mixing, tools.streams, client_id, round_)
        return mixed(inputs, part, partner), mixed(wide, part, partner)

    def _rarity(self, client_ids: Sequence[int], tools: Tools, targets: Tensor) -> Tensor:
        """Return w_x of targets [k, n, C]: [k, n]."""
        rare = rarity(tools.inputs.class_counts(client_ids), self.unseen)
        return targets.shape[-1] * rare.gather(1, targets.argmax(dim=-1))


def pairs(
    num_samples: int, a: float, streams: Streams, client_id: int, round_: int
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Return how much of each sample stays, from Beta(a, a), and with which it is mixed."""
    draw = streams.numpy("client", client_id, "kept teacher", round_, "mixing")
    part = torch.from_numpy(draw.beta(a, a, num_samples)).float()
    return part, torch.from_numpy(draw.integers(num_samples, size=num_samples))
