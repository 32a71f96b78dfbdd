"""How familiar the public samples are to a client: which it answers for, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from clients.training.samples import ModelInputs
from fedfuse.declarations import declared, part_name
from fedfuse.errors import FedfuseError
from fedfuse.familiarity import Familiarity, Scored
from fedfuse.models.features import WithFeatures
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student, Trainer
from fedfuse.types import KnowledgeBank

_Answer = dict[str, Tensor]
"""A client's ``mask`` or ``confidence``, or both, [P]."""


@dataclass(slots=True)
class FamiliarityStage:
    """Add a mask or a confidence to what a cohort shares.

    What is estimated on inputs never changes in a run, so it is computed once per client and
    process, for the whole public set; on the features of a model that learns, in every round.

    Args:
        measure: Private samples and public ones to bool (a mask) or float32 (a confidence), [P],
            or both.
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
    _once: dict[int, _Answer] = field(default_factory=dict)

    def __call__(self, bank: KnowledgeBank, held: Sequence[Student], round_: int) -> KnowledgeBank:
        """Return the bank with the clients' masks or confidences on the round's samples.

        Raises:
            FedfuseError: If the measure returns something else.
        """
        if declared(self.measure, "of", "inputs") == "features":
            rows = [self._on_features(student, round_) for student in held]
        else:
            index = self.inputs.rounds.index(round_)
            whole = [self._on_inputs(student.client_id) for student in held]
            rows = [{name: part[index] for name, part in answer.items()} for answer in whole]
        return replace(bank, **{name: torch.stack([row[name] for row in rows]) for name in rows[0]})

    def _on_inputs(self, client_id: int) -> _Answer:
        if client_id not in self._once:
            private, labels = self._private(client_id)
            public = self.inputs.whole_public()
            generator = self.streams.torch("client", client_id, "familiarity")
            self._once[client_id] = self._asked(client_id, private, labels, public, generator)
        return self._once[client_id]

    def _on_features(self, student: Student, round_: int) -> _Answer:
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
    ) -> _Answer:
        """Return the measure's answer on the CPU, checked."""
        own, shared = private.flatten(1).cpu(), public.flatten(1).cpu()
        given = self.measure(own, labels, shared, generator)
        parts = given if isinstance(given, Scored) else (given,)
        answer: _Answer = {}
        for part in parts:
            right = isinstance(part, Tensor) and part.shape == shared.shape[:1]
            if not (right and part.dtype in (torch.bool, torch.float32)):
                raise FedfuseError(
                    f"The familiarity {part_name(self.measure)} of client {client_id} is neither a"
                    " mask nor a confidence",
                    got=f"{list(part.shape)} of {part.dtype}" if right else type(part).__name__,
                    allowed=f"bool or float32 of shape [{len(shared)}]",
                )
            answer["mask" if part.dtype == torch.bool else "confidence"] = part
        if not all(bool(part.isfinite().all()) for part in answer.values()):
            raise FedfuseError(
                f"The confidence of client {client_id} is not finite",
                next_step="If its training diverged, lower optimizer.lr.",
            )
        return answer
