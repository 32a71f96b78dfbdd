"""Ask clients for some of a round's samples, and learn from what is made of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.fusion.filters import share_left_out
from fedfuse.protocols import Requester
from fedfuse.request import asked, rows_of
from fedfuse.request.knowledge import lesson_of
from fedfuse.select import PublicRounds
from fedfuse.types import KnowledgeBank, Teachers

ASKED, LOSS = "samples_asked", "asked_loss"
"""Metrics of a fusion: how many samples a client was asked for, the mean over the clients, and the
clients' mean cross-entropy on them, against the public labels or else what the target calls
likeliest."""


@dataclass(frozen=True, slots=True)
class Requests:
    """A requester at work.

    Args:
        part: Says what to ask for.
        rounds: The public samples of each round.
    """

    part: Requester
    rounds: PublicRounds

    def request(self, round_: int, client_ids: Sequence[int]) -> Tensor | None:
        """Return which of the round's samples clients must predict: bool [m], or a row for each.

        None if it is all of them.
        """
        wanted = asked(self.part, round_, self.rounds.index(round_), client_ids)
        return None if bool(wanted.all()) else wanted

    def note(self, bank: KnowledgeBank, teachers: Teachers, round_: int) -> dict[str, float]:
        """Let the requester learn from a fusion; return what there is to tell of it, by name."""
        num_samples, ids = bank.logits.shape[1], bank.client_ids.tolist()
        wanted = self.request(round_, ids)
        rows = torch.ones(len(ids), num_samples, dtype=torch.bool)
        if wanted is not None:
            rows = rows_of(wanted, len(ids))
        labels, num_classes = self.rounds.labels(round_), bank.num_classes
        if labels is not None and not bool(((labels >= 0) & (labels < num_classes)).all()):
            labels = None  # of other classes than the clients'
        lesson = lesson_of(bank, teachers, labels)
        told = {ASKED: float(rows.sum(dim=1).float().mean())}
        if len(lesson.rows):
            told[LOSS] = float(lesson.losses.mean())
        if teachers.sample_weight is not None:  # of what anybody was asked for
            told["left_out"] = share_left_out(teachers.sample_weight[:, rows.any(dim=0)])
        reads = any(declared(self.part, name, False) for name in ("needs_labels", "pseudo_labels"))
        index = self.rounds.index(round_)
        self.part.note(bank, teachers, labels if reads else None, round_, index)
        return told
