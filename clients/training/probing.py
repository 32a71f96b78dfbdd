"""Ask clients' models the probes, each with samples of the balanced test set before normalising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from clients.training.evaluation import Evaluation
from clients.training.tested import Tested
from fedfuse.probes import AskedModel, Probes
from fedfuse.train.trainer import Student


@dataclass(frozen=True, slots=True)
class Probing:
    """Ask each model in turn, whoever trains: a gradient belongs to one model.

    Args:
        probes: What is asked.
        samples: The most samples of the balanced test set that are asked about; drawn from the
            seed, they are the same for every client, arm and round.
        evaluation: Tests the clients of the arm; knows how its balanced test reads logits.
        round: The round.
    """

    probes: Probes
    samples: int
    evaluation: Evaluation
    round: int

    def __call__(self, students: Sequence[Student]) -> list[Tested]:
        """Return what each model answered, as metrics."""
        inputs, labels = self.asked()
        data = self.evaluation.inputs.data
        clients = [data.clients[student.client_id] for student in students]
        return [
            Tested(
                self.probes(
                    AskedModel(
                        model=student.model,
                        public_inputs=self.evaluation.inputs.unit_public,
                        mean=data.mean if data.is_image else (),
                        std=data.std if data.is_image else (),
                        read=partial(
                            self.evaluation.prior.balanced,
                            prior=None if prior is None else prior.to(inputs.device),
                        ),
                        batch_size=self.evaluation.batch_size,
                    ),
                    inputs,
                    labels,
                    self.round,
                )
            )
            for student, prior in zip(students, self.evaluation.priors(clients), strict=True)
        ]

    def asked(self) -> tuple[Tensor, Tensor]:
        """Return the samples and their labels."""
        test = self.evaluation.inputs.data.test
        order = self.probes.streams.numpy("probe", "samples").permutation(len(test))
        return self.evaluation.inputs.unit_test(sorted(order[: self.samples].tolist()))
