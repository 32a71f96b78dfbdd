"""Last layers that travel, and FedGH's: one that the server trains on class means of features.

Yi et al. (ACM MM 2023, arXiv 2303.13137): clients send the mean features of each class that they
own, the server takes steps on the cross-entropy of its header, which it keeps, on all of them with
their classes as labels, and the header takes the place of every client's last layer. In the
authors' code the server's steps move another model's weights, so that its header stays as it was
drawn; here they move the header.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.kept_model import KeptModel
from fedfuse.local_loss import cross_entropy
from fedfuse.models.heads import head_rows
from fedfuse.payload import COUNTS, LOGITS, ArrayField, Payload, for_all
from fedfuse.types import Fusion


@dataclass(frozen=True, slots=True)
class Heads(Payload):
    """Last linear layers, each row with its bias behind it.

    Args:
        client_ids: int64 [K], ascending.
        heads: float32 [K, C, H], H = d + 1.
        num_examples: int64 [K, C], the senders' private samples of each class; None unless the
            exchange asks for them.
        generator: float32 [K, W], a generator of features, laid out; likewise.
    """

    heads: Annotated[Tensor, ArrayField("K C H", bounds=LOGITS)]
    num_examples: Annotated[
        Tensor | None, ArrayField("K C", torch.int64, COUNTS, own=True, asked=True)
    ] = None
    generator: Annotated[Tensor | None, ArrayField("K W", asked=True)] = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHeader:
    """FedGH: everybody gets the header that was trained on the class means of all.

    Args:
        header: The header, an ``nn.Linear`` of d features to C classes.
        epochs: Passes over a round's class means.
        batch_size: Class means per step.
        learning_rate: Of plain SGD.
    """

    header: KeptModel
    epochs: int
    batch_size: int
    learning_rate: float

    def __call__(self, knowledge: ClassKnowledge, round_: int) -> Fusion:
        """Return the same header for each client."""
        inputs, classes = knowledge.values[knowledge.present], knowledge.present.nonzero()[:, 1]
        steps = self.header.epochs(len(classes), self.batch_size, self.epochs, round_)
        optimizer = partial(torch.optim.SGD, lr=self.learning_rate)
        taken = self.header.learn(inputs, classes, cross_entropy, steps, optimizer, round_)
        ids = knowledge.client_ids
        down = Heads(ids, for_all(head_rows(self.header.model), len(ids)))
        return Fusion(down, None, {"server_steps": float(taken)})
