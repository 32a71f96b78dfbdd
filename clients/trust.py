"""How familiar the public samples are to a client: which it answers for, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from clients.samples import ModelInputs
from fedfuse.declarations import declared, part_name
from fedfuse.density import Familiarity
from fedfuse.errors import FedfuseError
from fedfuse.models.features import WithFeatures
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student, Trainer
from fedfuse.types import KnowledgeBank


@dataclass(slots=True)
class Trust:
    """Add a mask or a confidence to what a cohort shares.

    What is estimated on inputs never changes in a run, so it is computed once per client and
    process, for the whole public set; on the features of a model that learns, in every round.

    Args:
        measure: Private samples and public ones to bool (a mask) or float32 (a confidence), [P].
        inputs: The clients' samples.
        trainer: Who asks the models for features.
        batch_size: Samples per forward pass.
        streams: The run's random streams.
    """

    measure: Familiarity
    inputs: ModelInputs
    trainer: Trainer
    batch_size: int
    streams: Streams
    _once: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, bank: KnowledgeBank, held: Sequence[Student], round_: int) -> KnowledgeBank:
        """Return the bank with the clients' masks or confidences on the round's samples.

        Raises:
            FedfuseError: If the measure returns something else.
        """
        if declared(self.measure, "of", "inputs") == "features":
            rows = [self._on_features(student, round_) for student in held]
        else:
            index = self.inputs.rounds.index(round_)
            rows = [self._on_inputs(student.client_id)[index] for student in held]
        stacked = torch.stack(rows)
        kind = "mask" if stacked.dtype == torch.bool else "confidence"
        return replace(bank, **{kind: stacked})

    def _on_inputs(self, client_id: int) -> Tensor:
        if client_id not in self._once:
            private, labels = self._private(client_id)
            public = self.inputs.whole_public()
            generator = self.streams.torch("client", client_id, "familiarity")
            self._once[client_id] = self._asked(client_id, private, labels, public, generator)
        return self._once[client_id]

    def _on_features(self, student: Student, round_: int) -> Tensor:
        client_id, classes = student.client_id, self.inputs.data.num_classes
        private, labels = self._private(client_id)
        asked = replace(student, model=WithFeatures(student.model, classes))
        own, public = (
            self.trainer.predict([asked], rows, self.batch_size)[0][:, classes:].cpu()
            for rows in (private, self.inputs.public(round_))
        )
        generator = self.streams.torch("client", client_id, "familiarity", round_)
        return self._asked(client_id, own, labels, public, generator)

    def _private(self, client_id: int) -> tuple[Tensor, Tensor]:
        [(inputs, labels)] = self.inputs.private([self.inputs.data.clients[client_id]])
        return inputs, labels.cpu()

    def _asked(
        self,
        client_id: int,
        private: Tensor,
        labels: Tensor,
        public: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the measure's answer on the CPU, checked."""
        own, shared = private.flatten(1).cpu(), public.flatten(1).cpu()
        answer = self.measure(own, labels, shared, generator)
        right = isinstance(answer, Tensor) and answer.shape == shared.shape[:1]
        if not (right and answer.dtype in (torch.bool, torch.float32)):
            raise FedfuseError(
                f"The familiarity {part_name(self.measure)} of client {client_id} is neither a mask"
                " nor a confidence",
                got=f"{list(answer.shape)} of {answer.dtype}" if right else type(answer).__name__,
                allowed=f"bool or float32 of shape [{len(shared)}]",
            )
        if not bool(answer.isfinite().all()):
            raise FedfuseError(
                f"The confidence of client {client_id} is not finite",
                next_step="If its training diverged, lower optimizer.lr.",
            )
        return answer
