"""What a cohort's clients make of the teachers that arrive, before they learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.training.samples import ModelInputs
from fedfuse.arrival import Arrival
from fedfuse.errors import FedfuseError
from fedfuse.protocols import SharingStage, Uptake
from fedfuse.sharing_context import SharingContext
from fedfuse.train.trainer import Student, Trainer
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.uptake import take_up
from fedfuse.uptake.chain import taught_share

TAUGHT = "taught_share"
"""Metric: how much of a round's lesson was the teacher's, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class UptakeStage:
    """Run an uptake where the clients' data and models are.

    Args:
        uptake: What clients make of their teachers.
        inputs: Their samples.
        trainer: Who asks their models.
        batch_size: Samples per forward pass.
        plain: Predictions to the space of what is shared: in it a client's own are compared with
            what came.
    """

    uptake: Uptake
    inputs: ModelInputs
    trainer: Trainer
    batch_size: int
    plain: SharingStage

    def __call__(
        self,
        received: Teachers,
        held: Sequence[Student],
        context: SharingContext,
        own: Callable[[], Tensor],
    ) -> tuple[Teachers, dict[int, dict[str, float]]]:
        """Return what the clients learn from, and each one's metrics by name.

        Args:
            received: What arrived.
            held: The clients.
            context: What they know beside it.
            own: Their models' logits [k, m, C] on the round's public samples.

        Raises:
            PartError: If the uptake breaks a promise.
        """
        public = self.inputs.public(context.round)

        def ask(inputs: Tensor) -> Tensor:
            known = inputs is public
            logits = own() if known else self.trainer.predict(held, inputs, self.batch_size)
            logits = logits.cpu()
            if not all(sound := logits.isfinite().flatten(1).all(dim=1).tolist()):
                raise FedfuseError(
                    f"The predictions of client {held[sound.index(False)].client_id} on the public "
                    f"samples of round {context.round} are not finite",
                    got="NaN or infinite logits",
                    allowed="finite logits, to compare with the teacher's",
                    next_step="If its training diverged, lower optimizer.lr.",
                )
            # Predicted without gradients; only a copy may stand beside what has them.
            sizes = context.class_counts.sum(dim=1)
            bank = KnowledgeBank(received.client_ids, logits.clone(), sizes)
            return self.plain(bank, context).logits

        at = Arrival(
            context.arm,
            context.round,
            context.index,
            context.class_counts,
            context.memory,
            context.streams,
            labels=self.inputs.rounds.labels(context.round),
            inputs=public,
            ask=ask,
        )
        with torch.no_grad():
            made = take_up(self.uptake, received, at)
            told = {**at.report, TAUGHT: taught_share(made, at)}
        rows = enumerate(received.client_ids.tolist())
        return made, {i: {name: float(of[row]) for name, of in told.items()} for row, i in rows}
