"""FedDF's server: average the models of each architecture, then distil all clients into each.

Lin et al. 2020, as read in its code: the teacher is the softmax of the *mean logits* of all
clients' models on unlabelled public samples, the loss is KL summed over the classes and averaged
over the batch without a factor of T squared, and the student starts from the average. It takes up
to 10,000 steps of Adam, whose rate falls to 0 like a cosine and whose gradients are clipped to a
norm of 5, is validated after every 100, stops when 1,000 brought nothing better, and is what it
was at its best. The authors validate by accuracy on labelled samples of the server; here those are
a part of the public set that is not distilled on, and where nobody knows its labels the loss on it
takes their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedfuse.distill.losses import KL
from fedfuse.exchange.models import AverageModels, ModelBank, SharedModels
from fedfuse.rng import Streams
from fedfuse.train.loop import fit, predict
from fedfuse.train.work import Work, schedule, steps_per_epoch
from fedfuse.types import Fusion

CLIP = 5.0
"""Largest norm of a gradient."""


@dataclass(frozen=True, slots=True, eq=False)
class DistilledAverage:
    """Average models, then distil the ensemble of all of them into each average.

    Args:
        average: The average within each architecture.
        models: One model of each architecture, to be written into.
        inputs: Public samples, ready for the models, [P, ...].
        streams: The run's random streams.
        labels: Of the public samples, int64 [P]; None where nobody knows them.
        steps: Steps of one distillation, at most.
        patience: Steps without a better validation after which it ends.
        validate_every: Steps between two validations.
        val_fraction: Share of the public samples that validate; without any, all steps are taken.
        epochs: Passes over all public samples in the place of the five above; 0 is FedAvg.
        batch_size: Samples per step.
        learning_rate: Adam's, at the first step.
        temperature: Of teacher and student.
    """

    average: AverageModels
    models: Mapping[str, nn.Module]
    inputs: Tensor
    streams: Streams
    labels: Tensor | None = None
    steps: int = 10_000
    patience: int = 1_000
    validate_every: int = 100
    val_fraction: float = 0.1
    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    temperature: float = 1.0

    def __call__(self, bank: ModelBank, round_: int) -> Fusion:
        """Return each client's distilled average, the shares in the average and the steps."""
        fusion = self.average(bank, round_)
        teacher = self.ensemble(bank)
        down = fusion.teachers
        assert isinstance(down, ModelBank)
        learnt: dict[str, Tensor] = {}
        vectors, taken = [], 0
        for client_id, vector in zip(down.client_ids.tolist(), down.vectors(), strict=True):
            name = self.average.architectures[client_id]
            if name not in learnt:
                layout, model = self.average.layouts[name], self.models[name]
                layout.load(model, vector)
                with torch.random.fork_rng(devices=[]):
                    taken += self._distil(name, teacher, round_)
                learnt[name] = layout.flatten(model)
                if self.average.base is not None:  # what is sent is not what was merged
                    sent = learnt[name][~layout.in_buffers()]
                    self.average.base.note(name, sent.unsqueeze(0))
            vectors.append(learnt[name])
        return replace(
            fusion,
            teachers=SharedModels.of(down.client_ids, down.num_examples, vectors),
            metrics={**fusion.metrics, "server_steps": float(taken)},
        )

    def ensemble(self, bank: ModelBank) -> Tensor:
        """Return the teacher [P, C]: the softmax of the mean logits of all clients' models."""
        total = torch.zeros(())
        for client_id, vector in zip(bank.client_ids.tolist(), bank.vectors(), strict=True):
            name = self.average.architectures[client_id]
            self.average.layouts[name].load(self.models[name], vector)
            total = total + predict(self.models[name], self.inputs, self.batch_size)
        return (total / bank.num_clients / self.temperature).softmax(dim=1)

    def _distil(self, name: str, teacher: Tensor, round_: int) -> int:
        """Distil the teacher into the model of one architecture; return the steps taken."""
        if self.epochs is None:
            return self._until_it_helps_no_more(name, teacher, round_)
        steps = self.epochs * steps_per_epoch(len(self.inputs), self.batch_size)
        model = self.models[name]
        optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate)
        fit(model, optimizer, self._work(name, self.inputs, teacher, round_, steps))
        return steps

    def _until_it_helps_no_more(self, name: str, teacher: Tensor, round_: int) -> int:
        model, size = self.models[name], len(self.inputs)
        order = torch.randperm(size, generator=self.streams.torch("server", "feddf", "held out"))
        count = min(round(self.val_fraction * size), size - 1)
        held, used = order[:count].sort().values, order[count:].sort().values
        work = self._work(name, self.inputs[used], teacher[used], round_, self.steps)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate, fused=True)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        work.seed_layers()
        batches = torch.split(work.schedule.order, list(work.schedule.sizes))
        best, best_step, kept = -torch.inf, 0, None
        model.train()
        for step, rows in enumerate(batches, start=1):
            optimizer.zero_grad()
            loss = work.loss(model(work.inputs[rows]), work.targets[rows]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            cosine.step()
            if count and (step % self.validate_every == 0 or step == self.steps):
                found = self._validated(model, held, teacher)
                model.train()
                if found > best:
                    best, best_step = found, step
                    kept = {key: value.clone() for key, value in model.state_dict().items()}
                if step - best_step >= self.patience:
                    break
        if kept is not None:
            model.load_state_dict(kept)
        return step

    def _validated(self, model: nn.Module, held: Tensor, teacher: Tensor) -> float:
        """Return how good a model is on the samples that were held out; larger is better."""
        logits = predict(model, self.inputs[held], self.batch_size)
        if self.labels is not None:
            return float((logits.argmax(dim=1) == self.labels[held]).double().mean())
        return -float(KL(self.temperature)(logits, teacher[held]).double().mean())

    def _work(
        self, name: str, inputs: Tensor, teacher: Tensor, round_: int, num_steps: int
    ) -> Work:
        """Return so many steps towards the teacher, with the loss of the authors."""
        generator = self.streams.torch("server", "feddf", name, round_)
        return Work(
            inputs=inputs,
            targets=teacher,
            loss=KL(self.temperature, scale_by_t2=False),
            schedule=schedule(len(inputs), self.batch_size, num_steps, generator),
            entropy=self.streams.entropy("server", "feddf", name, round_, "layers"),
        )
