"""FedDF's server: average the models of each architecture, then distil all clients into each.

Lin et al. 2020, as read in its code: the teacher is the softmax of the *mean logits* of all
clients' models on unlabelled public samples, the loss is KL summed over the classes and averaged
over the batch without a factor of T squared, and the student starts from the average. Its early
stopping needs labelled data on the server and is left out: distillation takes a fixed number of
passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedfuse.distill.losses import KL
from fedfuse.exchange.combine import AverageModels
from fedfuse.exchange.payloads import ModelBank
from fedfuse.rng import Streams
from fedfuse.train.loop import fit, predict
from fedfuse.train.work import Work, schedule, steps_per_epoch
from fedfuse.types import Fusion


@dataclass(frozen=True, slots=True, eq=False)
class DistilledAverage:
    """Average models, then distil the ensemble of all of them into each average.

    Args:
        average: The average within each architecture.
        models: One model of each architecture, to be written into.
        inputs: Public samples, ready for the models, [P, ...].
        streams: The run's random streams.
        epochs: Passes over the public samples; 0 is FedAvg.
        batch_size: Samples per step.
        learning_rate: Adam's.
        temperature: Of teacher and student.
    """

    average: AverageModels
    models: Mapping[str, nn.Module]
    inputs: Tensor
    streams: Streams
    epochs: int = 1
    batch_size: int = 128
    learning_rate: float = 1e-3
    temperature: float = 1.0

    def __call__(self, bank: ModelBank, round_: int) -> Fusion:
        """Return each client's distilled average and the shares in the average."""
        fusion = self.average(bank, round_)
        teacher = self.ensemble(bank)
        down = fusion.teachers
        assert isinstance(down, ModelBank)
        learnt: dict[str, Tensor] = {}
        vectors = []
        for client_id, vector in zip(down.client_ids.tolist(), down.vectors(), strict=True):
            name = self.average.architectures[client_id]
            if name not in learnt:
                learnt[name] = self._distil(name, vector, teacher, round_)
            vectors.append(learnt[name])
        return replace(fusion, teachers=replace(down, values=torch.cat(vectors)))

    def ensemble(self, bank: ModelBank) -> Tensor:
        """Return the teacher [P, C]: the softmax of the mean logits of all clients' models."""
        total = torch.zeros(())
        for client_id, vector in zip(bank.client_ids.tolist(), bank.vectors(), strict=True):
            name = self.average.architectures[client_id]
            self.average.layouts[name].load(self.models[name], vector)
            total = total + predict(self.models[name], self.inputs, self.batch_size)
        return (total / bank.num_clients / self.temperature).softmax(dim=1)

    def _distil(self, name: str, vector: Tensor, teacher: Tensor, round_: int) -> Tensor:
        """Return the average ``vector`` of one architecture after distillation."""
        layout, model = self.average.layouts[name], self.models[name]
        layout.load(model, vector)
        steps = self.epochs * steps_per_epoch(len(self.inputs), self.batch_size)
        work = Work(
            inputs=self.inputs,
            targets=teacher,
            loss=KL(self.temperature, scale_by_t2=False),
            schedule=schedule(
                len(self.inputs),
                self.batch_size,
                steps,
                self.streams.torch("server", "feddf", name, round_),
            ),
            entropy=self.streams.entropy("server", "feddf", name, round_, "layers"),
        )
        with torch.random.fork_rng(devices=[]):
            fit(model, torch.optim.Adam(model.parameters(), lr=self.learning_rate), work)
        return layout.flatten(model)
