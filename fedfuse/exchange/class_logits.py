"""FD / FedDistill: one mean output per class instead of predictions on public samples.

Jeong et al. 2018. Each client sends its mean logits over the private samples of each class; the
server returns, per class, the mean of the *others*; the client adds
``gamma * CE(softmax(target_y), softmax(z))`` to its loss. Known traps of public code that this
avoids: raw logits used as target probabilities, no leaving out, means taken while the model still
trains, and clients without a class counted as zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.shapes import Bool, Float
from fedfuse.types import Fusion


def leave_one_out(
    means: Float[Tensor, "K C C"], present: Bool[Tensor, "K C"]
) -> tuple[Float[Tensor, "K C C"], Bool[Tensor, "K C"]]:
    """Return each client's mean over the *other* clients that own a class, [K, C, C].

    For a client that owns it that is ``(sum - own) / (owners - 1)``, for one that does not it is
    ``sum / owners``. The second result says for which classes there is any other owner; a class
    that one client alone owns has no teacher for it.

    >>> means = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]], [[9.0, 9.0]]]).repeat(1, 2, 1)
    >>> present = torch.tensor([[True, True], [True, False], [False, False]])
    >>> teachers, taught = leave_one_out(means, present)
    >>> teachers[:, 0, 0], taught
    (tensor([3., 1., 2.]), tensor([[ True, False],
            [ True,  True],
            [ True,  True]]))
    """
    owned = torch.where(present.unsqueeze(-1), means.double(), 0)
    others = present.sum(dim=0) - present.long()
    teachers = (owned.sum(dim=0) - owned) / others.clamp_min(1).unsqueeze(-1)
    taught = others > 0
    return torch.where(taught.unsqueeze(-1), teachers, 0).to(means.dtype), taught


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """FD: each client gets, per class, the mean over the *other* clients that own the class."""

    def __call__(self, knowledge: ClassKnowledge, round_: int) -> Fusion:  # noqa: ARG002
        """Return each client's own class teachers."""
        teachers, taught = leave_one_out(knowledge.values, knowledge.present)
        return Fusion(ClassKnowledge(knowledge.client_ids, teachers, taught), None)
