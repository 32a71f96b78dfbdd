"""An exchange of your own, in one file: clients tell each other how alike the classes are.

Each client sends, per class, the mean of the probabilities that its model gives the class's own
samples: what it mistakes for what. The server averages them over the samples behind them, and every
client trains towards that mixture instead of a hard label.

Run it from this folder:

    fedfuse exchange=custom exchange._target_=my_exchange.SoftLabels method.name=soft_labels

Check it in a test:

    from fedfuse.testing import check_exchange
    check_exchange(SoftLabels())
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from clients.exchange import Exchange
from fedfuse.distill.losses import SoftCrossEntropy
from fedfuse.exchange.kind import Kind
from fedfuse.payload import COUNTS, SIMPLEX, ArrayField, Payload
from fedfuse.types import Fusion


@dataclass(frozen=True, slots=True)
class ClassMeans(Payload):
    """What goes up: K clients, C classes."""

    probs: Annotated[Tensor, ArrayField("K C C", bounds=SIMPLEX)]
    counts: Annotated[Tensor, ArrayField("K C", torch.int64, COUNTS)]


@dataclass(frozen=True, slots=True)
class Mixtures(Payload):
    """What comes back: one soft label per class, the same for every client."""

    labels: Annotated[Tensor, ArrayField("K C C", bounds=SIMPLEX)]


def average(up: ClassMeans, round_: int) -> Fusion:
    """The server's half: the mean over the samples behind it; a class without any stays hard."""
    weights = up.counts.double().unsqueeze(-1)
    total = weights.sum(dim=0)
    mean = (weights * up.probs.double()).sum(dim=0) / total.clamp_min(1)
    hard = torch.eye(len(total), dtype=torch.float64)
    labels = torch.where(total > 0, mean, hard).float()
    return Fusion(Mixtures(up.client_ids, labels.repeat(up.num_clients, 1, 1)), None)


@dataclass(frozen=True)
class SoftLabels(Exchange):
    """Exchange soft labels.

    Args:
        weight: Share of the mixture in what clients train towards; the rest is the hard label.
    """

    weight: float = 0.3

    def kind(self, models, data):
        """Say what travels."""
        return Kind(ClassMeans, Mixtures)

    def combine(self, models, data):
        """Return the server's half."""
        return average

    def share(self, held, tools, round_):
        """Return what the clients send."""
        num_classes = tools.inputs.data.num_classes
        owned = tools.inputs.private([tools.inputs.data.clients[s.client_id] for s in held])
        logits = tools.trainer.predict_each(held, [x for x, _ in owned], tools.plan.eval_batch_size)
        probs, counts = [], []
        for z, (_, y) in zip(logits, owned, strict=True):
            groups = one_hot(y.cpu(), num_classes).double()
            counts.append(groups.sum(dim=0))
            sums = groups.T @ z.cpu().double().softmax(dim=1)
            uniform = torch.full_like(sums, 1 / num_classes)  # for a class that it does not own
            seen = counts[-1].unsqueeze(1)
            probs.append(torch.where(seen > 0, sums / seen.clamp_min(1), uniform).float())
        ids = torch.tensor([student.client_id for student in held])
        return ClassMeans(ids, torch.stack(probs), torch.stack(counts).long())

    def learn(self, held, tools, round_, received):
        """Train towards what came back, for as many steps as distillation takes elsewhere."""
        works = tools.work_plan.budget_matched([student.client_id for student in held], round_)
        tasks = []
        for student, work, labels in zip(held, works, received.labels, strict=True):
            mixed = self.weight * labels + (1 - self.weight) * torch.eye(len(labels))
            targets = mixed.to(work.targets.device)[work.targets]
            tasks.append((student, replace(work, targets=targets, loss=SoftCrossEntropy())))
        return tasks
