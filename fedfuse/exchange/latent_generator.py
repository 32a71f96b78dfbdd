"""FedGen: a generator of features by class, trained on the server on all clients' last layers.

Zhu et al. (ICML 2021, arXiv 2105.10056), as read in its code: features z = G(y, e) of a label y and
noise e, uniform on [0, 1), are to be what the clients' last layers h_k take for y,

    sum_k n_ky / n_y CE(h_k(z), y) + eta exp(-mean_ij |e_i - e_j|^2 |z_i - z_j|),

n_ky the samples of class y that client k has; |.|^2 and |.| are means over the entries. The second
term keeps features of unlike noise apart. Labels are drawn alike from the classes that anybody has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fedfuse.exchange.heads import Heads
from fedfuse.exchange.kept_model import KeptModel
from fedfuse.layout import Layout
from fedfuse.local_loss import cross_entropy
from fedfuse.payload import for_all
from fedfuse.shapes import Float, Int
from fedfuse.train.work import Schedule
from fedfuse.types import Fusion


class LatentGenerator(nn.Module):
    """Features of a label and noise: one hidden layer with batch norm.

    Args:
        num_classes: C.
        size: d, of the features.
        noise: Numbers of noise.
        hidden: Units of the hidden layer.
    """

    seen: Tensor

    def __init__(self, num_classes: int, size: int, noise: int, hidden: int) -> None:
        super().__init__()
        self.num_classes, self.noise = num_classes, noise
        self.network = nn.Sequential(
            nn.Linear(noise + num_classes, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, size),
        )
        # Of which classes it has ever been trained on samples; it goes where the weights go.
        self.register_buffer("seen", torch.zeros(num_classes))

    def forward(self, drawn: Float[Tensor, "B E"]) -> Float[Tensor, "B d"]:
        """Map noise and labels, as :meth:`draw` puts them side by side, to features."""
        features: Tensor = self.network(drawn)
        return features

    def draw(self, labels: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B E"]:
        """Return fresh noise beside the labels' one-hot vectors."""
        noise = torch.rand(len(labels), self.noise, generator=generator)
        return torch.cat([noise, one_hot(labels, self.num_classes).float()], dim=1)

    def labels(self, number: int, generator: torch.Generator) -> Int[Tensor, " B"]:
        """Return labels drawn alike from the classes that it has seen, of which there is one."""
        known = self.seen.nonzero().flatten()
        return known[torch.randint(len(known), (number,), generator=generator)]


def alike(noise: Float[Tensor, "B E"], features: Float[Tensor, "B d"]) -> Float[Tensor, ""]:
    """Return ``exp(-mean_ij |e_i - e_j|^2 |z_i - z_j|)``: 1 where all features are the same.

    >>> noise, features = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    >>> float(alike(noise, features)) == float(torch.tensor(-1.0).exp())
    True
    """
    apart = (noise.unsqueeze(1) - noise).square().mean(dim=2)
    return (-(apart * (features.unsqueeze(1) - features).abs().mean(dim=2)).mean()).exp()


@dataclass(frozen=True, slots=True, eq=False)
class TakenForTheirLabels:
    """What a generator minimises: see the module's text.

    Args:
        heads: The clients' last layers, [K, C, d + 1].
        shares: Of each class, how much each client's layer counts, [C, K].
        diversity: Weight of the second term.
    """

    heads: Tensor
    shares: Tensor
    diversity: float

    def __call__(self, features: Float[Tensor, "B d"], targets: Tensor) -> Float[Tensor, " B"]:
        """Return one loss per sample; targets hold its label and its noise, [B, 1 + E]."""
        labels, noise = targets[:, 0].long(), targets[:, 1:]
        weight, bias = self.heads[..., :-1], self.heads[..., -1]
        logits = torch.einsum("bd,kcd->kbc", features, weight) + bias.unsqueeze(1)
        losses = torch.stack([cross_entropy(own, labels) for own in logits], dim=1)
        taken = (self.shares[labels] * losses).sum(dim=1)
        return taken + self.diversity * alike(noise, features)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedGenerator:
    """FedGen's server: everybody gets the generator and the mean of the last layers.

    Args:
        kept: The generator, a :class:`LatentGenerator`.
        steps: Of Adam in a round.
        batch_size: Generated features per step.
        learning_rate: Adam's.
        weight_decay: Likewise.
        diversity: Weight of what keeps features apart.
    """

    kept: KeptModel
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    diversity: float

    def __call__(self, sent: Heads, round_: int) -> Fusion:
        """Return the same generator and last layer, weighed by samples, for each client."""
        assert sent.num_examples is not None
        model, counts = self.kept.model, sent.num_examples.double()
        assert isinstance(model, LatentGenerator)
        taken, total = 0, counts.sum(dim=0)
        if float(total.sum()) > 0:
            taken = self._train(model, sent.heads, counts / total.clamp_min(1), round_)
        by_samples = counts.sum(dim=1) / counts.sum().clamp_min(1)
        mean = torch.einsum("k,kch->ch", by_samples, sent.heads.double()).float()
        vector, k = Layout.of(model).flatten(model), sent.num_clients
        down = Heads(sent.client_ids, for_all(mean, k), generator=for_all(vector, k))
        return Fusion(down, None, {"server_steps": float(taken)})

    def _train(self, model: LatentGenerator, heads: Tensor, shares: Tensor, round_: int) -> int:
        before, now = model.seen.clone(), (shares.sum(dim=0) > 0).float()
        generator, number = self.kept.generator(round_), self.steps * self.batch_size
        model.seen.copy_(now)
        labels = model.labels(number, generator)
        drawn = model.draw(labels, generator)
        model.seen.copy_(torch.maximum(before, now))
        targets = torch.cat([labels.unsqueeze(1).float(), drawn[:, : model.noise]], dim=1)
        loss = TakenForTheirLabels(heads, shares.T.float(), self.diversity)
        plan = Schedule(torch.arange(number), (self.batch_size,) * self.steps)
        adam = partial(torch.optim.Adam, lr=self.learning_rate, weight_decay=self.weight_decay)
        return self.kept.learn(drawn, targets, loss, plan, adam, round_)
